"""``[[follow]]``: which logs are followed, and what is wrong with a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from alarm_mw.config.lint.suspicions import suspicions
from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.load import examine, load
from alarm_mw.config.settings import Follow, from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import NOWHERE

ALARMS = '[alarms]\na = "log:"\n[[rules]]\npattern = "X"\nalarms = ["a"]\n'


def written(folder: Path, text: str) -> Sources:
    file = folder / "alarm-mw.toml"
    file.write_text(ALARMS + text)
    return Sources.of_files([str(file)])


def problems(folder: Path, text: str) -> list[str]:
    return [str(problem).partition(": ")[2] for problem in examine(written(folder, text), {}).problems]


def warnings(folder: Path, text: str) -> list[str]:
    return [warning.text for warning in suspicions(load(written(folder, text), {}), LiteralCache(None))]


def test_tables_name_files_and_units(tmp_path: Path) -> None:
    """A name or a list of names; what is read comes through JSON to the master as it was."""
    text = (
        '[[follow]]\npath = "/var/log/*.log"\n'
        '[[follow]]\njournal = ["a.service", "b@*.service"]\nstart = "beginning"\ndirectory = "/j"\n'
        '[[follow]]\njournal = "*"\n'
    )
    settings = load(written(tmp_path, text), {})
    found = [structs.replace(follow, where=NOWHERE) for follow in settings.follow]
    assert found == [
        Follow(("/var/log/*.log",)),
        Follow((), ("a.service", "b@*.service"), "beginning", "/j"),
        Follow((), ("*",)),
    ]
    assert [follow.units for follow in found] == [(), ("a.service", "b@*.service"), ()]
    assert from_json(to_json(settings)).follow == settings.follow


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", "expected either 'path' or 'journal'"),
        ('path = "/a"\njournal = "b"', "expected either 'path' or 'journal'"),
        ('path = "a.log"', "path: expected an absolute path such as '/var/log/nginx/*.log', got 'a.log'"),
        ("path = []", "expected at least one log"),
        ('path = "/a"\ndirectory = "/b"', "directory: only a journal has one"),
        ('journal = "--all"', "journal: expected the name of a unit such as 'nginx.service', got '--all'"),
        ('path = "/a"\nstart = "middle"', "start: expected 'beginning' or 'end', got 'middle'"),
        ('paht = "/a"', "unknown key 'paht' (did you mean 'path'?)"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, table: str, problem: str) -> None:
    """The table, the key and what is expected."""
    assert problems(tmp_path, f"[[follow]]\n{table}\n") == [f"follow 1: {problem}"]


def test_arguments_name_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths may be relative to the working directory; units follow a colon; both are added to the configuration."""
    monkeypatch.chdir(tmp_path)
    sources = written(tmp_path, '[[follow]]\npath = "/var/log/first"\n')
    named = structs.replace(sources, follow=("a*.log", "journal:b,c"), follows_from_beginning=True)
    assert [structs.replace(follow, where=NOWHERE) for follow in load(named, {}).follow] == [
        Follow(("/var/log/first",)),
        Follow((f"{tmp_path}/a*.log",), start="beginning"),
        Follow((), ("b", "c"), start="beginning"),
    ]
    assert load(named, {}).records.tracebacks
    found = examine(structs.replace(sources, follow=("journal:",)), {})
    assert [str(problem) for problem in found.problems] == [
        "journal:: journal: expected the name of a unit such as 'nginx.service', got ''"
    ]


def test_logs_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a path of which nothing is there, and a journal without journalctl; a file may come later."""
    monkeypatch.setenv("PATH", str(tmp_path))
    paths = ["/", f"{tmp_path}", f"{tmp_path}/none/x.log", f"{tmp_path}/none/*.log", f"{tmp_path}/later.log", "/*.log"]
    text = "".join(f'[[follow]]\npath = "{path}"\n' for path in paths)
    found = warnings(tmp_path, f'{text}[[follow]]\njournal = "*"\n')
    assert [warning for warning in found if warning.startswith("follow")] == [
        "follow: /: it is a directory; write a pattern, such as *.log in it",
        f"follow: {tmp_path}: it is a directory; write a pattern, such as *.log in it",
        f"follow: {tmp_path}/none/x.log: there is no directory {tmp_path}/none",
        f"follow: {tmp_path}/none/*.log: there is no directory {tmp_path}/none",
        "follow: the program journalctl is not on PATH: the journal cannot be followed",
    ]


def test_files_that_others_may_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a directory that this user cannot read."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    (tmp_path / "a.log").write_text("")
    text = f'[[follow]]\npath = ["{tmp_path}/a.log", "{tmp_path}/*.log"]\n'
    assert [warning for warning in warnings(tmp_path, text) if "follow" in warning] == [
        f"follow: {tmp_path}/a.log: this user cannot read it",
        f"follow: {tmp_path}/*.log: this user cannot read the directory {tmp_path}",
    ]


def test_a_level_is_no_mistake_where_the_journal_is_followed(tmp_path: Path) -> None:
    """Its entries have one."""
    text = '[[rules]]\npattern = "Y"\nlevel = "ERROR"\nalarms = ["a"]\n'
    assert any("requires a level" in warning for warning in warnings(tmp_path, text))
    with_journal = warnings(tmp_path, f'{text}[[follow]]\njournal = "*"\n')
    assert not any("requires a level" in warning for warning in with_journal)
