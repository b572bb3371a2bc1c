"""uWSGI's ini files are read as uWSGI reads them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.config.parts import Entry
from alarm_mw.config.report import Report
from alarm_mw.config.sources import split_section
from alarm_mw.config.uwsgi.ini import parse, read_ini
from alarm_mw.config.uwsgi.magic import magic_lines
from alarm_mw.model.types import Where

PLAIN = {"%": "%", "(": "%("}


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, report: Report | None = None, **environ: str) -> list[tuple[str, str]]:
    """Return the keys and values of an ini file; a report that nobody asked for must stay empty."""
    Path("a.ini").write_text(text, encoding="utf-8")
    said = report or Report()
    entries = read_ini("a.ini", environ, said)
    assert report is not None or said == Report()
    return [(entry.key, entry.value) for entry in entries]


def test_keys_and_values() -> None:
    """Blanks around keys and values go, those inside stay, keys repeat, and a key needs no value."""
    text = "[uwsgi]\n a=1\na =  x  y \t\r\n\n\tlone \r\nb = c=d\nc =\n= e\n"
    assert read(text) == [("a", "1"), ("a", "x  y"), ("lone", ""), ("b", "c=d"), ("c", ""), ("", "e")]


def test_comments_stand_at_the_start_of_a_line_only() -> None:
    """A ; or # further right belongs to the value: a curl alarm needs its semicolons."""
    assert read("[uwsgi]\n; a = 1\n  # b = 2\nc = 3 ; no # comment\n") == [("c", "3 ; no # comment")]


def test_only_the_section_counts() -> None:
    """Keys of [uwsgi] count wherever it stands; other sections and what is before any section do not."""
    text = "z = 0\n[uwsgi]\na = 1\n[other]\nb = 2\n [uwsgi] \nc = 3\n[uwsgi2]\nd = 4\n"
    assert read(text) == [("a", "1"), ("c", "3")]


def test_another_section_can_be_asked_for() -> None:
    """file:section reads another section, as uWSGI's --ini does."""
    Path("a.ini").write_text("[uwsgi]\na = 1\n[prod]\nb = %x\n")
    report = Report()
    assert [(e.key, e.value) for e in read_ini("a.ini:prod", {}, report)] == [("b", "prod")]
    assert report == Report()


@pytest.mark.parametrize(
    ("file", "expected"),
    [("a.ini", ("a.ini", "")), ("/a/b.ini:x", ("/a/b.ini", "x")), (":x", ("", "x")), ("/a:b/c", ("/a:b/c", ""))],
)
def test_section_of_a_file_name(file: str, expected: tuple[str, str]) -> None:
    """The last colon parts the section off, unless it stands in a directory's name."""
    assert split_section(file) == expected


def test_missing_section_is_told() -> None:
    """A file without the section is most likely the wrong file."""
    report = Report()
    assert read("[other]\na = 1\n", report) == []
    assert [str(warning) for warning in report.tolerated] == [
        "a.ini: there is no section [uwsgi] with keys in it, so nothing was read"
    ]


def test_references() -> None:
    """$(ENV), @(file) and %(key) are replaced; what does not exist stays, so that a shell still gets it."""
    Path("secret").write_text("hunter2\n")
    text = "[uwsgi]\nname = jab\na = $(WHO) $(NOBODY) $(date +%%s)\nb = @(secret)!\nc = %(name)ber %(nothing)\n"
    assert read(text, WHO="me")[1:] == [
        ("a", "me $(NOBODY) $(date +%s)"),
        ("b", "hunter2!"),
        ("c", "jabber %(nothing)"),
    ]


def test_magic_variables_and_their_lack() -> None:
    """Magic variables are replaced; a % that is none is taken away as by uWSGI, with a warning, but not in comments."""
    report = Report()
    assert read("[uwsgi]\na = %n %Z100%%\n# 5%!\nb = 7% \n", report) == [("a", "a 100%"), ("b", "7")]
    assert [(warning.where.line, warning.text.split(" is ")[0]) for warning in report.warnings] == [
        (2, "'%Z'"),
        (4, "'% '"),
    ]


def test_include_comes_where_it_stands_and_inherit_last() -> None:
    """ini= and include= are read in place, inherit= after all else, each with its own section and variables."""
    Path("b.ini").write_text("[x]\nb = %s %S %x %X\n[uwsgi]\nno = 1\n")
    Path("c.ini").write_text("[uwsgi]\nc = %(a)\n")
    Path("d.ini").write_text("[uwsgi]\nd = 4\n")
    text = "[uwsgi]\ninherit = c.ini\na = 1\nini = b.ini:x\ninclude = d.ini\nini = :y\nz = 5\n[y]\ny = 6\n"
    assert read(text) == [("a", "1"), ("b", "b.ini a.ini x"), ("d", "4"), ("y", "6"), ("z", "5"), ("c", "1")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("ini = a.ini", "a.ini:2: a.ini includes itself"),
        ("inherit = a.ini", "a.ini:2: a.ini includes itself"),
        ("include = nope.ini", "a.ini:2: cannot read nope.ini: No such file or directory"),
        ("ini = http://example.org/x.ini", "a.ini:2: ini: only files can be read here, not http:"),
        ("a = @(nope)", "a.ini:2: a: @(nope): No such file or directory"),
        ("a = @(exec://date)", "a.ini:2: a: @(exec://date): only files can be read here"),
        ("a = x$(A)", "a.ini:2: a: the value refers to itself with $(…)"),
        ("a = x%(a)", "a.ini:2: a: the value refers to itself with %(…)"),
        ("a = \0", "a.ini:2: a NUL byte, expected text"),
        ("for-readline = nope\na = 1", "a.ini:2: for-readline: nope: No such file or directory"),
        ("if-hostname-match = (\na = 1", "a.ini:2: if-hostname-match: the regexp does not compile: "),
        ("for = a\nif-env = b\nendif =", "a.ini:3: if-env: a block inside of a block, which uWSGI refuses"),
    ],
)
def test_what_cannot_be_read_is_told(line: str, text: str) -> None:
    """What stands in the way of reading the file is a problem with its line."""
    Path("a.ini").write_text(f"[uwsgi]\n{line}\n", encoding="utf-8")
    report = Report()
    read_ini("a.ini", {"A": "$(A)"}, report)
    assert len(report.problems) == 1
    assert str(report.problems[0]).startswith(text)


def test_other_formats_are_not_included() -> None:
    """An XML file that is included is reported, not read."""
    report = Report()
    assert read("[uwsgi]\ninclude = b.xml\na = 1\n", report) == [("a", "1")]
    assert [str(warning) for warning in report.warnings] == [
        "a.ini:2: include: b.xml was not read: only ini, YAML and JSON files are"
    ]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("for = a b\nx = %(_)!\ny =\nx = %(_)\nendfor =", ["a!", "b!", "a", "b"]),
        ("for-times = 3\nx = %(_)\nendfor =", ["1", "2", "3"]),
        ("for-times = many\nx = %(_)\nendfor =", []),
        ("for-glob = *.txt\nx = %(_)\nendfor =", ["one.txt", "two.txt"]),
        ("for-glob = d*\nx = %(_)\nend =", ["dir/"]),
        ("for-glob = no*\nx = %(_)\nend =", ["no*"]),
        ("for-readline = one.txt\nx = %(_)\nend-for", ["1", "2"]),
        ("if-env = YES\nx = %(_)\nendif =", ["yes"]),
        ("if-env = YES=yes\nx = 1\nendif", ["1"]),
        ("if-env = YES=no\nx = 1\nendif =", []),
        ("if-env = NO\nx = 1\nendif =\nx = 3", ["3"]),
        ("if-not-env = NO\nx = %(_)\nend-if =", ["%(_)"]),
        ("if-not-env = YES\nx = 1\nendif =", []),
        ("if-exists = one.txt\nx = %(_)\nendif =", ["one.txt"]),
        ("if-file = dir\nx = 1\nendif =\nif-not-file = dir\nx = 2\nendif =", ["2"]),
        ("if-dir = dir\nx = 1\nendif =\nif-directory = dir\nx = 2\nendif =", ["1", "2"]),
        ("if-not-exists = nope\nx = 1\nendif =", ["1"]),
        ("if-exists = \udcff\udcfe\nx = 1\nendif =", []),
        (f"if-exists = {'long' * 100}\nx = 1\nendif =", []),
        ("if-hostname = no.such.host\nx = 1\nendif =", []),
        ("if-hostname-match = .\nx = 1\nendif =", ["1"]),
        ("if-hostname-match = ^no such$\nx = 1\nendif =", []),
        ("if-reload =\nx = 1\nendif =\nif-not-reload =\nx = 2\nendif =", ["2"]),
        ("if-plugin = alarm_curl\nx = 1\nendif =", ["1"]),
        ("if-not-plugin = alarm_curl\nx = 1\nendif =", []),
        ("if-opt = k=v\nx = 1\nendif =", ["1"]),
        ("if-not-opt = k\nx = 1\nendif =", []),
        ("if-not-opt = x\nx = 1\nx = 2\nendif =", ["1"]),
        ("set-placeholder = x=a=b\nset = x=c", ["a=b", "c"]),
        ("for = 1 2\nini = b%(_).ini\nendfor =", ["one", "two"]),
        ("for = 1\nini = loop.ini\nendfor =", ["%(_)"]),
    ],
)
def test_blocks(block: str, expected: list[str]) -> None:
    """Loops and conditions do what they do in uWSGI."""
    Path("one.txt").write_text("1\n2\n")
    Path("two.txt").touch()
    Path("dir").mkdir()
    Path("b1.ini").write_text("[uwsgi]\nx = one\n")
    Path("b2.ini").write_text("[uwsgi]\nx = two\n")
    Path("loop.ini").write_text("[uwsgi]\nx = %(_)\nendfor =\n")
    Path("a.ini").write_bytes(f"[uwsgi]\nk = v\n{block}\n".encode("utf-8", "surrogateescape"))
    report = Report()
    entries = read_ini("a.ini", {"YES": "yes"}, report)
    assert [entry.value for entry in entries if entry.key == "x"] == expected
    assert report == Report()


def test_else_is_none_of_uwsgi_2() -> None:
    """In uWSGI 2.0 else is a key like any other, so both halves belong to the block: that is reported."""
    report = Report()
    assert read("[uwsgi]\nif-env = YES\na = 1\nelse =\nb = 2\nendif =\n", report, YES="1") == [("a", "1"), ("b", "2")]
    assert [str(warning) for warning in report.warnings] == [
        "a.ini:4: else: uWSGI 2.0 has none, so the block just goes on to its end"
    ]


def test_block_without_end_is_told() -> None:
    """A forgotten endif swallows the rest of the file, so it is reported, with the line where the block begins."""
    report = Report()
    assert read("[uwsgi]\nif-env = NO\na = 1\n", report) == []
    assert [str(warning) for warning in report.warnings] == [
        "a.ini:2: if-env: the block has no end, so it goes on to the last key"
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("%(n + 4)", "7"),
        ("%(n - 4)", "-1"),
        ("%(n * 4)", "12"),
        ("%(n / 2)", "1"),
        ("%(n / 0)", "0"),
        ("%(n n)", "33"),
        ("%(n ++)", "4"),
        ("%(n --)", "2"),
        ("%(w n + 4)", "4"),
        ("%(none + 4)", "4"),
        ("%(n", "%(n"),
        ("%()", "%()"),
        ("%(a(b))", "%(a(b))"),
        ("%(w%(n))", "%(w3)"),
        ("%(w%(n)", "%(w3"),
        ("%(a%%b) %(n)", "%(a%b) 3"),
        ("%(m + 1)", "5"),
    ],
)
def test_sums_of_placeholders(value: str, expected: str) -> None:
    """A placeholder can count, as in uWSGI."""
    assert read(f"[uwsgi]\nn = 3\nm = 4x\nw = word\nx = {value}\n")[-1] == ("x", expected)


def test_byte_order_mark_is_skipped() -> None:
    """A file saved with a byte order mark is read like any other."""
    assert read("\ufeff[uwsgi]\na = 1\n") == [("a", "1")]


@given(st.binary())
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever is in a file, reading it ends with entries and a report."""
    file = tmp_path_factory.getbasetemp() / "any.ini"
    file.write_bytes(b"[uwsgi]\n" + data)
    read_ini(str(file), {"HOME": "/root"}, Report())


KEYS = ["for", "endfor", "if-env", "if-not-opt", "else", "for-times", "set", "a", "alarm"]
VALUES = st.text(alphabet="ab1= %()$@_\\|")


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES)))
def test_any_structure_is_read(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    """Whatever blocks and references are combined, reading ends with entries and a report."""
    file = tmp_path_factory.getbasetemp() / "structure.ini"
    file.write_text("\n".join(["[uwsgi]", *(f"{key} = {value}" for key, value in pairs)]))
    read_ini(str(file), {"a": "$(b)", "b": "%(a)"}, Report())


NAMES = st.text(st.characters(exclude_characters="=\n%\0", codec="utf-8"), min_size=1).map(
    lambda name: "k" + name.strip()
)
TEXTS = st.text(st.characters(exclude_characters="\n\0", codec="utf-8"))


@given(st.lists(st.tuples(NAMES, TEXTS)))
def test_what_is_written_is_read(pairs: list[tuple[str, str]]) -> None:
    """Any keys and values that are written to an ini file come back, with their lines."""
    blanks = " \t\r"
    pairs = [(key.rstrip(blanks), value.strip(blanks)) for key, value in pairs]
    text = "\n".join(itertools.chain(["[uwsgi]"], (f" {key} =\t{value.replace('%', '%%')} " for key, value in pairs)))
    entries = list(parse(magic_lines(text, PLAIN), "x.ini", "uwsgi"))
    assert [(entry.key, entry.value) for entry in entries] == pairs
    assert [entry.where for entry in entries] == [Where("x.ini", line) for line in range(2, len(pairs) + 2)]


def test_dash_and_underscore_are_the_same() -> None:
    """An option can be written with either."""
    assert Entry("log_alarm", "", Where("x")).option == "log-alarm"
