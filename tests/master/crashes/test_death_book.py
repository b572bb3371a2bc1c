"""The book of deaths outlives its master."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.master.crashes.death_book import MAX_SIZE, DeathBook
from alarm_mw.master.crashes.deaths import MEMORY

SEGFAULT = "Fatal Python error: Segmentation fault"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deaths.jsonl"


def test_the_next_master_goes_on_from_there(path: Path) -> None:
    """What the former one had read of a dump, and had not told, is told by the next one."""
    first = DeathBook(path, "run")
    first.note("begin_dump", stream="stderr", offset=5, line=SEGFAULT, now=1.0)
    first.note("add_line", stream="stderr", offset=9, line="Thread é", now=1.0)
    second = DeathBook(path, "run")
    second.note("end", pid=7, returncode=-11, now=1.1)
    (death,) = second.deaths.ripe(2.0)
    assert (death.key, death.pid, death.dump) == ("run.death.stderr.5", 7, (SEGFAULT, "Thread é"))


def test_what_was_told_stays_told(path: Path) -> None:
    """The next master does not tell it as new, but knows it as told lately."""
    first = DeathBook(path, "run")
    first.note("end", pid=7, returncode=-11, now=1.0)
    (death,) = first.deaths.ripe(2.0)
    first.note("mark_reported", key=death.key)
    second = DeathBook(path, "run")
    assert second.deaths.ripe(2.0) == []
    assert second.deaths.reported_since(0.0) == [death]


def test_what_does_not_last_is_not_written(path: Path) -> None:
    """It counts in this master only."""
    book = DeathBook(path, "run")
    book.note("end", is_lasting=False, pid=7, returncode=1, now=1.0)
    assert not path.exists()
    assert len(book.deaths.ripe(2.0)) == 1


def test_another_run_begins_anew(path: Path) -> None:
    """What an earlier run of the server left is nothing to this one, and goes."""
    DeathBook(path, "former").note("end", pid=7, returncode=-11, now=1.0)
    book = DeathBook(path, "run")
    assert book.deaths.is_idle()
    book.tidy()
    assert path.read_bytes() == b""


def test_the_file_is_emptied_when_nothing_is_left(path: Path) -> None:
    """It does not grow from crash to crash."""
    book = DeathBook(path, "run")
    book.note("end", pid=7, returncode=-11, now=1.0)
    book.tidy()
    assert path.read_bytes() != b""
    book.deaths.ripe(1.0 + MEMORY)
    book.tidy()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("rest", [b'["run","end",{"pid":7', b"\xff\n", b'["run","unlink",{}]\n', b'["run","end",{}]\n'])
def test_what_cannot_be_read_is_passed_over(path: Path, rest: bytes) -> None:
    """Half a line, other bytes and other words do no harm."""
    DeathBook(path, "run").note("end", pid=7, returncode=-11, now=1.0)
    with path.open("ab") as file:
        file.write(rest)
    assert [death.pid for death in DeathBook(path, "run").deaths.ripe(2.0)] == [7]


def test_a_file_that_cannot_be_written_does_not_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The death is told; the log says what may follow."""
    book = DeathBook(tmp_path / "missing" / "deaths.jsonl", "run")
    book.note("end", pid=7, returncode=-11, now=1.0)
    assert len(book.deaths.ripe(2.0)) == 1
    assert "cannot be written" in caplog.text


def test_the_file_has_a_limit(path: Path) -> None:
    """What does not fit is not written, and counts all the same."""
    path.write_bytes(b"x" * MAX_SIZE)
    book = DeathBook(path, "run")
    book.note("end", pid=7, returncode=-11, now=1.0)
    assert path.stat().st_size == MAX_SIZE
    assert len(book.deaths.ripe(2.0)) == 1
