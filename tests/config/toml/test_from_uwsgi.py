"""An ini file written as TOML makes the same settings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from alarm_mw.config.load import examine
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.config.toml.from_uwsgi import to_toml, write_value
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.types import NOWHERE, Rule, Syntax
from alarm_mw.patterns.syntax import pcre

SHARED = Path(__file__).parents[4] / "shared"


def without_places(settings: Settings) -> Settings:
    """Return what a configuration means; the alarms of an exclusion and the spelling of a byte mean nothing."""
    return structs.replace(
        settings,
        alarms=tuple(structs.replace(alarm, where=NOWHERE) for alarm in settings.alarms),
        rules=tuple(map(meaning, settings.rules)),
        monitors=tuple(structs.replace(watch, where=NOWHERE) for watch in settings.monitors),
        warnings=(),
    )


def meaning(rule: Rule) -> Rule:
    pattern = repr(pcre.parse(rule.pattern)) if rule.syntax is Syntax.PCRE else rule.pattern
    return structs.replace(rule, pattern=pattern, alarms=() if rule.excludes else rule.alarms, where=NOWHERE)


def read(folder: Path, name: str, data: bytes) -> Settings:
    file = folder / name
    file.write_bytes(data)
    examined = examine(Sources.of_files([str(file)]), {})
    assert [str(problem) for problem in examined.problems] == []
    return examined.settings


def migrated(folder: Path, ini: bytes) -> str:
    """Return the TOML of an ini file, which makes the same settings."""
    settings = read(folder, "a.ini", ini)
    text = to_toml(settings, "a.ini")
    assert without_places(read(folder, "a.toml", text.encode())) == without_places(settings)
    return text


#: Text without what an ini file gives a meaning of its own, and without control characters that end a line.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r%$@"), max_size=12).map(str.strip)
PIECES = ["a", "\\d", "'", '"', "\\\\", "[[:alpha:]]", ".", "\\Qx\\E", "é", "\udcff", "[^b]", "\x7f", "\t", "|", "x{2}"]
PATTERN = st.lists(st.sampled_from([*PIECES, "$${", "${", "#"]), max_size=6).map(lambda pieces: "".join([*pieces, "z"]))
NAMES = st.sampled_from(["a", "b-1", "ä.x", 'q"', "a'", "b\\c"])
ACTION = st.one_of(
    TEXT.map(lambda text: f"log:{text}"),
    TEXT.map(lambda text: f"cmd:cat {text}"),
    st.integers(0, 255).map(lambda number: f"signal:{number}"),
    st.integers(0, 3).map(lambda number: f"mule:{number}"),
    st.builds(
        "curl:http://127.0.0.1/x;subject={};timeout={};ssl={}".format,
        TEXT.map(lambda text: text.replace(";", "")),
        st.floats(0, 1e9),
        st.sampled_from(["true", "false"]),
    ),
    st.just("xmpp:a@b.example.org/r;secret${;x@y.example.org,z@y.example.org"),
    st.just("airbrake:http://127.0.0.1/;apikey=k"),
    st.just("speech:"),
)


@st.composite
def ini_files(draw: st.DrawFn) -> str:
    """Return an ini file of alarms, rules, monitors, mules and numbers."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4))
    known = st.sampled_from(names)
    some = st.lists(known, min_size=1, max_size=3).map(",".join)
    more = st.one_of(
        st.builds("log-alarm = {} {}".format, some, PATTERN),
        st.builds("not-log-alarm = {} {}".format, some, PATTERN),
        st.builds("rules = {} gunicorn".format, some),
        st.builds("alarm-fd = {} {}:{} damn it {}!".format, some, st.integers(3, 9), st.integers(1, 99), TEXT),
        st.builds("alarm-fd = {} /run/shop/fifo damn it".format, some),
        st.builds("{} = {}".format, st.sampled_from(["alarm-backlog", "alarm-segfault"]), some),
        st.builds("metric-alarm = key=k,value={},alarm={},msg=a\\,b".format, st.integers(0, 10**9), known),
        st.builds("alarm-freq = {}".format, st.floats(0, 1e9)),
        st.builds("alarm-msg-size = {}".format, st.integers(1, 2**30)),
        st.just("mule = shop.mules:mail"),
    )
    alarms = [f"alarm = {name} {draw(ACTION)}" for name in names]
    return "\n".join(["[uwsgi]", "mules = 1", *alarms, *draw(st.lists(more, max_size=6))])


@given(ini_files())
@example("[uwsgi]\nalarm = a log:${x} $${y}\n")
def test_reading_it_back_makes_the_same_settings(ini: str) -> None:
    """Alarms with their options, rules, exclusions, monitors, mules and numbers, in order."""
    with tempfile.TemporaryDirectory() as folder:
        migrated(Path(folder), ini.encode("utf-8", "surrogateescape"))


@pytest.mark.skipif(not (SHARED / "UWSGI.md").exists(), reason="the reference is not here")
def test_the_worked_examples(tmp_path: Path) -> None:
    """Those of uWSGI's documentation make the same settings, too."""
    _, _, rest = (SHARED / "UWSGI.md").read_text(encoding="utf-8").rpartition("```ini\n")
    assert "[alarms.errbit]" in migrated(tmp_path, rest.partition("```")[0].encode())


def test_a_byte_that_is_no_utf_8_stays_in_a_regexp(tmp_path: Path) -> None:
    """It is written as an escape, with a comment; a regexp of text stands as it was."""
    text = migrated(tmp_path, b"[uwsgi]\nalarm = a log:\nlog-alarm = a ^\xffx\\d\nlog-alarm = a \xc3\xa9\n")
    assert "is a byte in the ini file that is not UTF-8.\npattern = '^\\xffx\\d'\n" in text
    assert 'pattern = "é"\n' in text


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (b"log-alarm = a \\Q\xff", "a.ini:4:15: pattern: the byte 0xff is not UTF-8"),
        (b"log-alarm = a [\\\xff-\\\xff]", "a.ini:4:15: pattern: the byte 0xff is not UTF-8"),
        (b"alarm = b cmd:echo \xfe", "a.ini:4: alarm 'b': command: the byte 0xfe is not UTF-8"),
        (b"alarm = b,c log:", "a.ini:4: alarm 'b,c': a name in TOML is text without spaces and commas"),
        (b"mule = a\xff", "a.ini: mules: the byte 0xff is not UTF-8"),
        (b"alarm-fd = a 3 \xff", "a.ini:4: message: the byte 0xff is not UTF-8"),
    ],
)
def test_what_toml_cannot_hold_is_told(
    lines: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its place, each of them, rather than written as something else."""
    monkeypatch.chdir(tmp_path)
    settings = read(Path(), "a.ini", b"[uwsgi]\nalarm = a log:\nalarm = z log:\xff\n" + lines)
    with pytest.raises(ConfigError) as caught:
        to_toml(settings, "a.ini")
    texts = [str(one) for one in caught.value.problems]
    assert any(text.startswith(problem) for text in texts), texts
    assert any(text.startswith("a.ini:3: alarm 'z': prefix: ") for text in texts)


def test_tables_and_what_toml_has_no_value_for() -> None:
    """An option of a plugin may be a table; what is neither is told."""
    assert write_value({"a b": "c", "d": [1, 2.5, True]}) == '{ "a b" = "c", d = [1, 2.5, true] }'
    with pytest.raises(ValueError, match="TOML has no value for None"):
        write_value(None)


def test_how_commands_run_is_kept(tmp_path: Path) -> None:
    """That a command has no time limit, how long requests may take, and as whom and where commands run."""
    ini = b"[uwsgi]\nalarm = a cmd:x\nalarm = b curl:http://x/\nsocket-timeout = 60\nuid = root\nchdir = /\nenv = A=b\n"
    text = migrated(tmp_path, ini)
    assert '[execution]\nuid = "root"\nchdir = "/"\nenv = {' in text
    assert "\n[alarms.a.delivery]\nattempt_timeout = 0.0\n" in text
    assert "\ntimeout = 60.0\nconn_timeout = 60.0\n\n[alarms.b.delivery]\nattempt_timeout = 65.0\n" in text
