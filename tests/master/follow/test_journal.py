"""The journal of systemd: real entries, read by the real journalctl, each judged once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_writer import JournalWriter
from msgspec import structs
from waiting import wait_until

from alarm_mw.config.settings import Follow
from alarm_mw.master.follow import journal
from alarm_mw.master.follow.journal import JournalFollower, saved_position


class Journal:
    """A journal and who follows it."""

    def __init__(self, writer: JournalWriter, worker: Any) -> None:
        self.writer = writer
        self.worker = worker
        self.follower: JournalFollower | None = None
        self.follow_options = Follow((), ("nginx.service",), "beginning", str(writer.folder))

    def follow(self, program: str = "journalctl", **options: Any) -> JournalFollower:
        follow = structs.replace(self.follow_options, **options)
        saved = saved_position(self.worker.positions, follow)
        self.follower = JournalFollower(follow, self.worker, saved, program)
        self.follower.start()
        return self.follower

    def stop(self) -> None:
        if self.follower is not None:
            self.follower.stop(10.0)
            self.follower = None

    def wait_for(self, *lines: str) -> None:
        wait_until(lambda: len(self.worker.lines) >= len(lines))
        assert self.worker.lines == [*lines]


@pytest.fixture
def followed(tmp_path: Path, make_worker: Any) -> Iterator[Journal]:
    with JournalWriter(tmp_path) as writer:
        found = Journal(writer, make_worker())
        yield found
        found.stop()


def test_entries_are_records(followed: Journal) -> None:
    """With the unit, the priority as a level, and the process; other units are not read, nor what is ours."""
    followed.writer.write(b"ERROR of another", unit="postgresql.service")
    followed.writer.write(b"ERROR of ours", identifier="alarm-mw")
    followed.writer.write(b"ERROR 1", priority=3, pid=812)
    followed.follow()
    followed.wait_for("ERROR 1")
    (record,) = followed.worker.records
    assert (record.source, record.level, record.pid, record.message) == ("journal", 40, 812, b"ERROR 1\n")
    assert record.fields == {"unit": "nginx.service", "identifier": "nginx", "pid": "812"}
    followed.stop()
    assert {column: n for column, n in followed.worker.counts.items() if n} == {
        "lines": 1,
        "skipped:alarm_origin": 1,
    }


def test_every_entry_is_judged_once_over_restarts(followed: Journal) -> None:
    """What came while nobody was reading is read then."""
    wanted = []
    for n in range(3):
        wanted += [f"ERROR {n} before", f"ERROR {n} while"]
        followed.writer.write(wanted[-2].encode())
        followed.follow()
        followed.writer.write(wanted[-1].encode())
        followed.wait_for(*wanted)
        followed.stop()
    assert len({record.key for record in followed.worker.records}) == len(wanted)


def test_a_restart_of_the_machine_loses_no_entry(followed: Journal) -> None:
    """Those of the boot before, behind the last one that was judged, are read, and all of the new one."""
    followed.writer.write(b"ERROR 1")
    followed.follow()
    followed.wait_for("ERROR 1")
    followed.stop()
    followed.writer.write(b"ERROR 2")
    followed.writer.write(b"ERROR 3", boot=3)
    followed.follow()
    followed.writer.write(b"ERROR 4", boot=3)
    followed.wait_for("ERROR 1", "ERROR 2", "ERROR 3", "ERROR 4")


def test_a_journal_that_is_new_is_read_from_its_end(followed: Journal) -> None:
    """What stands in it already is left alone."""
    followed.writer.write(b"ERROR old")
    wait_until(lambda: followed.writer.holds("ERROR old"))
    follower = followed.follow(start="end")
    wait_until(lambda: _is_waiting(follower))
    followed.writer.write(b"ERROR new")
    followed.wait_for("ERROR new")


def test_journalctl_is_started_again(followed: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was killed, and from the last entry on."""
    monkeypatch.setattr(journal, "PAUSE_FIRST", 0.01)
    followed.writer.write(b"ERROR 1")
    follower = followed.follow()
    followed.wait_for("ERROR 1")
    for child in _children():
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: follower.status()["restarts"])
    assert "SIGKILL" in follower.status()["problem"]
    followed.writer.write(b"ERROR 2")
    followed.wait_for("ERROR 1", "ERROR 2")


def test_a_cursor_that_is_refused_is_replaced_by_the_time(
    followed: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After some failures at once: the entries since the last one are read by their time."""
    monkeypatch.setattr(journal, "PAUSE_FIRST", 0.01)
    followed.writer.write(b"ERROR 1")
    followed.follow()
    followed.wait_for("ERROR 1")
    followed.stop()
    program = tmp_path / "journalctl"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *--after-cursor*) echo "Failed to seek to cursor" >&2; exit 1;; esac\n'
        'exec journalctl "$@"\n'
    )
    program.chmod(0o755)
    followed.writer.write(b"ERROR 2")
    follower = followed.follow(str(program))
    wait_until(lambda: "Failed to seek to cursor" in follower.status()["problem"])
    followed.wait_for("ERROR 1", "ERROR 2")


def test_without_journalctl_the_status_says_so(followed: Journal) -> None:
    """And it is tried again."""
    follower = followed.follow("/no/such/program")
    wait_until(lambda: follower.status()["problem"])
    assert "No such file or directory" in follower.status()["problem"]
    assert follower.status()["time"] == 0.0


def test_texts_that_are_not_utf_8_keep_their_bytes(followed: Journal) -> None:
    """As in a file; and a message of several lines is one record."""
    followed.writer.write(b"first\nERROR \xff\xfe")
    followed.follow()
    wait_until(lambda: followed.worker.records)
    assert followed.worker.records[0].message == b"first\nERROR \xff\xfe\n"


def test_no_more_is_read_than_is_judged(followed: Journal) -> None:
    """What cannot be judged before the end is read by the next one."""
    followed.worker.is_free = False
    for n in range(journal.UNDER_WAY + 5):
        followed.writer.write(f"ERROR {n}".encode())
    followed.follow()
    wait_until(lambda: followed.worker.waiting)
    followed.stop()
    followed.worker.go_on()
    followed.follow()
    followed.wait_for(*(f"ERROR {n}" for n in range(journal.UNDER_WAY + 5)))


def test_a_position_that_cannot_be_read_is_named(followed: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """The journal is then new."""
    followed.worker.positions[f"journal:nginx.service {followed.writer.folder}"] = b"garbage"
    followed.writer.write(b"ERROR 1")
    followed.follow()
    followed.wait_for("ERROR 1")
    assert "its position cannot be read" in caplog.text


def _children() -> list[int]:
    """Return the journalctls of this process."""
    tasks = Path("/proc/self/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [child for child in children if b"--output=json" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _is_waiting(_follower: JournalFollower) -> bool:
    """Return whether journalctl runs, and has seen what is there: it waits for more."""
    return any(
        Path(f"/proc/{child}/comm").read_text() == "journalctl\n" and "poll" in Path(f"/proc/{child}/wchan").read_text()
        for child in _children()
    )
