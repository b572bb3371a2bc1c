"""``alarm-mw dead`` on the state directories of servers that do not run; tests/servers has one that does."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Firing, Reason, Record


def dead(home: Path, *arguments: str) -> Result:
    environ = {"XDG_STATE_HOME": str(home), "ALARM_MW_SOCKET": "", "COLUMNS": "200"}
    return CliRunner().invoke(main, ["dead", *arguments], env=environ)


def make_state(home: Path, name: str = "gunicorn-1", message: bytes = b"ERR \x1b[2J [red]bold[/red]\n") -> Path:
    """Make a state directory with a dead letter and one that waits."""
    directory = home / "alarm-mw" / name
    directory.mkdir(parents=True)
    outbox = Outbox(directory / "outbox.db")
    for number in (1, 2):
        record = Record(message, "stdout", 1.0, str(number))
        outbox.take([Firing(f"id{number}", "hook", message, record, 1.0, "ERR")], lambda _, __: None)
    (entry,) = outbox.waiting("hook", after=0, limit=1)
    outbox.settle(Settlement([entry], Outcome(State.DEAD, 3, "404 \x1b[2J", Reason.REFUSED)))
    outbox.close()
    return directory


def test_the_list_shows_why(tmp_path: Path) -> None:
    """A table for people, in which neither the message nor the error reaches the terminal; JSON for programs."""
    make_state(tmp_path)
    result = dead(tmp_path, "list")
    assert result.exit_code == 0
    assert "1 letter\n" in result.stdout
    assert "refused" in result.stdout
    assert "[red]bold[/red]" in result.stdout
    assert "\x1b[2J" not in result.stdout
    found = json.loads(dead(tmp_path, "list", "--waiting", "--json").stdout)
    assert [letter["state"] for letter in found["letters"]] == ["dead", "waiting"]


def test_a_list_shows_the_newest(tmp_path: Path) -> None:
    """It says how many more there are; all of them where that is asked for."""
    directory = make_state(tmp_path)
    outbox = Outbox(directory / "outbox.db")
    for number in range(3, 62):
        record = Record(b"x", "stdout", 1.0, str(number))
        outbox.take([Firing(f"id{number}", "hook", b"x", record, 1.0, "ERR")], lambda _, __: None)
    for entry in outbox.waiting("hook", after=0, limit=100):
        outbox.settle(Settlement([entry], Outcome(State.DEAD, 3, "404", Reason.REFUSED)))
    outbox.close()
    assert dead(tmp_path, "list").stdout.endswith("61 letters, 11 older ones are not shown; --all shows them\n")
    assert dead(tmp_path, "list", "--all").stdout.endswith("\n61 letters\n")
    assert len(json.loads(dead(tmp_path, "list", "--json").stdout)["letters"]) == 61
    assert dead(tmp_path, "list", "--all", "--limit", "3").exit_code == 2


def test_a_list_is_for_reading(tmp_path: Path) -> None:
    """Without a terminal no column is cut off; of a message with many lines the list shows the first."""
    first = b"a line that is much wider than what is left of a terminal for it, in a list of dead letters"
    make_state(tmp_path, message=first + b"\nsecond\nthird\n")
    environ = {"XDG_STATE_HOME": str(tmp_path), "ALARM_MW_SOCKET": "", "COLUMNS": None}
    shown = CliRunner().invoke(main, ["dead", "list"], env=environ).stdout
    assert f"{first.decode()} [+2 lines]" in shown
    narrow = CliRunner().invoke(main, ["dead", "list"], env={**environ, "COLUMNS": "80"}).stdout
    assert "…" not in narrow


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_list_needs_no_space_on_the_disk(
    is_killed: bool, tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    """Letters on a full disk can be read, also beside the log of a killed server, and none of them changes."""
    directory = make_state(tmp_path)
    if is_killed:
        outbox = Outbox(directory / "outbox.db")
        record = Record(b"late", "stdout", 1.0, "3")
        outbox.take([Firing("id3", "hook", b"late", record, 1.0, "ERR")], lambda _, __: None)
        for file in directory.glob("outbox.db*"):
            shutil.copy(file, tmp_path)
        outbox.close()
        for file in tmp_path.glob("outbox.db*"):
            file.replace(directory / file.name)
    before = {file.name: file.read_bytes() for file in directory.glob("outbox.db*")}
    with full_disk():
        result = dead(tmp_path, "list", "--waiting", "--json")
        refused = dead(tmp_path, "drop", "--all")
    assert result.exit_code == 0, result.stderr
    states = [letter["state"] for letter in json.loads(result.stdout)["letters"]]
    assert states == ["dead", "waiting", *(["waiting"] if is_killed else [])]
    assert (refused.exit_code, "cannot be used" in refused.stderr) == (1, True)
    assert before["outbox.db"] == (directory / "outbox.db").read_bytes()


def test_an_outbox_that_the_full_disk_left_empty_has_no_letters(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    """Its master had no space for the first table either."""
    directory = tmp_path / "alarm-mw" / "gunicorn-1"
    directory.mkdir(parents=True)
    (directory / "outbox.db").touch()
    (directory / "lock").touch()
    with full_disk():
        result = dead(tmp_path, "list", "--waiting")
    assert (result.exit_code, result.stdout) == (0, "0 letters\n"), result.stderr


def test_one_broken_outbox_hides_no_other(tmp_path: Path) -> None:
    """Of all servers, those are shown that can be asked; the others are named, and the exit status tells."""
    make_state(tmp_path, "one")
    (make_state(tmp_path, "broken") / "outbox.db").write_bytes(b"garbage" * 1000)
    result = dead(tmp_path, "list", "--all-servers")
    assert (result.exit_code, "1 letter" in result.stdout) == (1, True)
    assert "file is not a database" in result.stderr


def test_servers_without_letters_are_only_counted(tmp_path: Path) -> None:
    """A machine with many servers shows those that somebody has to look at."""
    make_state(tmp_path)
    dead(tmp_path, "drop", "--all")
    result = dead(tmp_path, "list", "--all-servers")
    assert (result.exit_code, result.stdout) == (0, "no letters in 1 state directory\n")


def test_a_letter_is_shown_whole(tmp_path: Path) -> None:
    """With everything that is known of it, a line at a time."""
    make_state(tmp_path, message=b"Traceback\n\x1b[2J line\n")
    shown = dead(tmp_path, "show", "1").stdout
    for fact in ("hook", "refused", "404 \\x1b[2J", "id1", "  Traceback\n  \\x1b[2J line\n"):
        assert fact in shown
    assert json.loads(dead(tmp_path, "show", "1", "--json").stdout)["message"] == "Traceback\n\x1b[2J line\n"
    missing = dead(tmp_path, "show", "9")
    assert (missing.exit_code, missing.stderr) == (3, "alarm-mw: 9: there is no such dead letter\n")


def test_letters_are_put_back_and_dropped(tmp_path: Path) -> None:
    """The next start delivers what is put back; what is dropped is gone."""
    directory = make_state(tmp_path)
    assert dead(tmp_path, "retry", "--alarm", "hook").stdout == "1 queued for delivery\n"
    assert dead(tmp_path, "drop", "--all").stdout == "0 dropped\n"
    outbox = Outbox(directory / "outbox.db")
    assert outbox.count_waiting() == {"hook": 2}
    outbox.close()
    assert dead(tmp_path, "drop", "--all", "--waiting", "--state-dir", str(directory)).stdout == "2 dropped\n"


@pytest.mark.parametrize("arguments", [["retry"], ["drop", "1", "--all"], ["retry", "--waiting"]])
def test_what_is_meant_must_be_said(tmp_path: Path, arguments: list[str]) -> None:
    """Nothing is put back or dropped by accident."""
    make_state(tmp_path)
    assert dead(tmp_path, *arguments).exit_code == 2


def test_of_several_servers_one_is_chosen_or_all(tmp_path: Path) -> None:
    """The directories are named; --all-servers lists what lies in each."""
    assert dead(tmp_path, "list").exit_code == 1
    one, two = make_state(tmp_path, "one"), make_state(tmp_path, "two")
    refused = dead(tmp_path, "list")
    assert refused.exit_code == 1
    assert f"--name {one.name}" in refused.stderr
    shown = dead(tmp_path, "list", "--all-servers").stdout.replace("\n", "")
    assert f"{one}:" in shown
    assert f"{two}:" in shown
    found = json.loads(dead(tmp_path, "list", "--all-servers", "--json").stdout)
    assert {place: answer["count"] for place, answer in found.items()} == {str(one): 1, str(two): 1}


def test_who_does_not_answer_is_named(tmp_path: Path) -> None:
    """No outbox, a broken one, a locked directory whose master is gone, a socket that nobody listens on."""
    assert "there is no outbox" in dead(tmp_path, "list", "--state-dir", str(tmp_path)).stderr
    directory = make_state(tmp_path)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert "no master answers" in dead(tmp_path, "list").stderr
    os.close(lock)
    (directory / "outbox.db").write_bytes(b"garbage" * 1000)
    broken = dead(tmp_path, "list")
    assert (broken.exit_code, "file is not a database" in broken.stderr) == (1, True)
    assert "no master answers" in dead(tmp_path, "list", "--socket", str(tmp_path / "none")).stderr


def test_a_directory_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    """If the lock is not available, the place is reported."""
    directory = make_state(tmp_path)
    (directory / "lock").mkdir()
    result = dead(tmp_path, "list")
    assert (result.exit_code, f"the state directory {directory} cannot be used" in result.stderr) == (1, True)
