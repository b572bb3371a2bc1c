"""Magic variables, as uWSGI replaces them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.config.uwsgi.magic import MagicLine, file_table, host_table, magic_lines

TABLE = {"%": "%", "(": "%(", "d": "/etc/", "n": "app"}


def replaced(text: str) -> list[str]:
    return [line.text for line in magic_lines(text, TABLE)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = %dlog", ["a = /etc/log"]),
        ("%d%n%d", ["/etc/app/etc/"]),
        ("100%% %%d %%%d", ["100% %d %/etc/"]),
        ("%(other)", ["%(other)"]),
        ("%Z%!x", ["x"]),
        ("a%\nb\nc", ["ab", "c"]),
        ("a%%\nb", ["a%", "b"]),
        ("a%", ["a"]),
        ("", [""]),
    ],
)
def test_variables_are_replaced(text: str, expected: list[str]) -> None:
    """Each % and the character behind it become the variable's value, or nothing."""
    assert replaced(text) == expected


def test_what_is_no_variable_is_told() -> None:
    """A % that stands for nothing is named with its line, since it changes the configuration silently."""
    assert list(magic_lines("ok\nx %Z %!%\ny\nz", TABLE)) == [
        MagicLine(1, "ok", "ok"),
        MagicLine(2, "x  y", "", ("%Z", "%!", "%")),
        MagicLine(4, "z", "z"),
    ]


@given(st.text())
def test_text_without_variables_stays(text: str) -> None:
    """Text comes out as it went in when its percent signs are doubled."""
    assert "\n".join(replaced(text.replace("%", "%%"))) == text


@given(st.text(alphabet="%dnZ(\nab"))
def test_each_line_keeps_its_number(text: str) -> None:
    """Every line of the file is in exactly one line that comes out."""
    numbers = [line.number for line in magic_lines(text, TABLE)]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))
    assert numbers[-1] <= text.count("\n") + 1


def test_file_variables(tmp_path: Path) -> None:
    """The variables of a file have the values that uWSGI 2.0.21 gives them."""
    file = tmp_path / "conf.d" / "app.site.ini"
    file.parent.mkdir()
    file.touch()
    table = file_table(str(file), "prod", {})
    folders = [part for part in str(file.parent).split("/") if part]
    assert {letter: table[letter] for letter in "odspcnex"} == {
        "o": str(file),
        "d": f"{file.parent}/",
        "s": "app.site.ini",
        "p": str(file),
        "c": "conf.d",
        "n": "app.site",
        "e": "ini",
        "x": "prod",
    }
    assert [table[str(digit)] for digit in range(len(folders))] == folders[:10]
    assert table[str(len(folders))] == ""
    assert table["i"] == str(file.stat().st_ino)
    assert table["P"] == table["p"]


def test_path_hash_is_that_of_uwsgi() -> None:
    """%j is what uWSGI 2.0.21 says for /tmp/uw/t.ini."""
    assert file_table("/tmp/uw/t.ini", "", {})["j"] == "551DADE3"


def test_outermost_file_keeps_its_upper_case_variables(tmp_path: Path) -> None:
    """In an included file %S is still the file that uWSGI was started with."""
    outer = file_table(str(tmp_path / "outer.ini"), "", {})
    inner = file_table(str(tmp_path / "inner"), "", outer)
    assert (inner["S"], inner["s"], inner["n"], inner["e"], inner["i"]) == ("outer.ini", "inner", "inner", "", "")


def test_link_is_not_followed(tmp_path: Path) -> None:
    """A link to a configuration file counts by its own name, as uWSGI has it for vassals."""
    (tmp_path / "real.ini").touch()
    (tmp_path / "link.ini").symlink_to(tmp_path / "real.ini")
    assert file_table(str(tmp_path / "link.ini"), "", {})["n"] == "link"


def test_host_variables() -> None:
    """The variables of the host are those of this process."""
    table = host_table()
    assert (table["u"], table["g"]) == (str(os.getuid()), str(os.getgid()))
    assert table["v"] == str(Path.cwd())
    assert int(table["T"]) // 1_000_000 == int(table["t"])
    assert table["V"].startswith("2.0")


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may outlive the release that it was started from, and reads its configuration again."""
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    (tmp_path / "release").rmdir()
    assert host_table()["v"] == ""


#: A user id and a group id that no name belongs to.
NAMELESS = 2**31 - 7


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that no name belongs to, as in many containers, is its number."""
    monkeypatch.setattr(os, "getuid", lambda: NAMELESS)
    monkeypatch.setattr(os, "getgid", lambda: NAMELESS)
    assert (host_table()["U"], host_table()["G"]) == (str(NAMELESS), str(NAMELESS))
