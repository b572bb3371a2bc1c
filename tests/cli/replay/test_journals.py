"""``replay journal:UNIT`` and ``suggest journal:UNIT``: the entries of real journals, by the real journalctl."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from journal_writer import JournalWriter

from alarm_mw.cli.main import main

CONFIG = """
[alarms.a]
action = "log"
[[rules]]
pattern = "refused"
level = "ERROR"
where = { unit = "nginx.service" }
alarms = ["a"]
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def use_journalctl(folder: Path, monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    """Put a `journalctl` first on the PATH that runs the real one with more options."""
    program = folder / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("journalctl")} "$@" {options}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalWriter]:
    folder = tmp_path / "journal"
    folder.mkdir()
    (tmp_path / "a.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    use_journalctl(tmp_path, monkeypatch, f"--directory={folder}")
    with JournalWriter(folder) as writer:
        yield writer


def close(writer: JournalWriter) -> None:
    writer.__exit__(None, None, None)


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_entries_are_judged_with_their_levels_and_units(journal: JournalWriter) -> None:
    """By the same rules as when the journal is followed; each has its number among the entries of the units."""
    journal.write(b"connection refused", priority=6)
    journal.write(b"connection refused", priority=3, unit="postgresql.service")
    journal.write(b"connection refused", priority=3)
    close(journal)
    (found,) = objects(run("replay", "--json", "--config", "a.toml", "journal:nginx.service"))
    assert (found["file"], found["line"], found["text"]) == ("journal:nginx.service", 2, "connection refused")
    assert len(objects(run("replay", "--json", "--config", "a.toml", "journal:*"))) == 1


def test_the_simulation_goes_by_the_times_of_the_entries(journal: JournalWriter) -> None:
    """The message has the time of its entry, and `--since` and `--until` choose entries."""
    began = time.time()
    journal.write(b"refused", priority=3)
    close(journal)
    (message,) = objects(run("replay", "--json", "--simulate", "--config", "a.toml", "journal:nginx.service"))
    assert began - 1 < message["time"] < time.time()
    late = ("--since", "2001-01-01", "--until", "2001-01-02")
    assert objects(run("replay", "--json", *late, "--config", "a.toml", "journal:nginx.service")) == []


def test_rules_are_suggested_for_entries(journal: JournalWriter) -> None:
    """As for the lines of a file."""
    for number in range(9):
        journal.write(f"request {number} done".encode())
        journal.write(f"upstream {number} refused the connection".encode())
    close(journal)
    result = run("suggest", "--toml", "journal:nginx.service")
    assert "refused" in result.stdout


@pytest.mark.parametrize("command", [("replay", "--config", "a.toml"), ("suggest",)])
def test_what_journalctl_says_is_shown(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that cannot be read does not pass for one without a match."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(CONFIG)
    use_journalctl(tmp_path, monkeypatch, "--directory=/no/such/directory")
    result = run(*command, "journal:nginx.service")
    assert result.exit_code == 1
    assert "journal:nginx.service: cannot be read: journalctl ended with status 1" in result.stderr
    result = run(*command, "journal:; rm")
    assert (result.exit_code, "expected the name of a unit" in result.stderr) == (1, True)
