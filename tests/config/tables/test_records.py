"""Which lines of output are one record: the table ``[records]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine, from_keywords, load
from alarm_mw.config.settings import Records, StreamRecords, from_json, to_json
from alarm_mw.config.sources import Sources

ALARM = '[alarms]\na = "log:"\n'


def records(directory: Path, text: str, ini: str = "") -> Records:
    file, other = directory / "a.toml", directory / "uwsgi.ini"
    file.write_text(text + ALARM if "[records" not in text else text + "\n" + ALARM)
    other.write_text(ini)
    return load(Sources((str(file),), (str(other),) if ini else ()), {}).records


@pytest.mark.parametrize(
    ("text", "ini", "is_whole"),
    [
        ("", "", True),
        ('messages = "uwsgi"\n', "", False),
        ("[records]\ntracebacks = false", "", False),
        ("", "[uwsgi]\nalarm = b log:\n", False),
        ("[records]\ntracebacks = true", "[uwsgi]\nalarm = b log:\n", True),
    ],
)
def test_who_gets_whole_tracebacks(tmp_path: Path, text: str, ini: str, is_whole: bool) -> None:
    """A traceback is one record with TOML alone; with uWSGI's options only where the table says so."""
    found = records(tmp_path, text, ini)
    assert (found.of("stderr") is not None, found.of("stdout") is not None) == (is_whole, is_whole)


def test_keywords_get_whole_tracebacks() -> None:
    """So has the Python API, with rules in uWSGI's form too."""
    assert from_keywords(alarms={"a": "log:"}, log_alarms=["a x"]).records.tracebacks is True


def test_each_stream_has_its_own(tmp_path: Path) -> None:
    """What begins and goes on with a record is said for each stream, and outlives a change of the master."""
    table = "start = '^\\S'\ncontinue = '^\\s'\nmax_lines = 9\nmax_wait = 2.0\n"
    found = records(tmp_path, f"[records]\ntracebacks = false\n[records.stderr]\n{table}")
    assert found.of("stderr") == StreamRecords(start=r"^\S", continues=r"^\s", max_lines=9, max_wait=2.0)
    assert found.of("stdout") is None
    settings = load(Sources((str(tmp_path / "a.toml"),)), {})
    assert from_json(to_json(settings)).records == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[records]\nstart = 'x'", "records: unknown key 'start'"),
        ("[records]\ntracebacks = 1", "records: tracebacks: expected true or false, got an integer"),
        ("[records.stderr]\nstart = '('", "records: stderr: start: the regexp '(' cannot be used: "),
        ("[records.stdout]\ncontinue = '(a+)+$'", "records: stdout: continue: the regexp '(a+)+$' cannot be used: "),
        ("[records.stdout]\nmax_wait = 0", "records: stdout: max_wait: expected float >= 0.01"),
        ("records = 1", "records: expected a table, got an integer"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, problem: str) -> None:
    """Each mistake in the table is told, a regexp that is wrong or could take long too."""
    file = tmp_path / "a.toml"
    file.write_text(f"{text}\n{ALARM}")
    (found,) = examine(Sources((str(file),)), {}).problems
    assert found.text.startswith(problem)
