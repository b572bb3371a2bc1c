"""The engine's memory outlives the process that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.memory import Memory
from alarm_mw.master.worker.memory_writer import LONGEST, MemoryWriter, read_memory


def test_the_memory_is_written_with_what_the_outbox_takes(tmp_path: Path) -> None:
    """Who opens the outbox after a kill finds what the last master remembered."""
    outbox = Outbox(tmp_path / "outbox.db")
    memory = read_memory(outbox)
    memory.same_message.fired("a", b"x", 1.0)
    memory.is_changed = True
    outbox.take([], lambda _firing, _is_new: None, MemoryWriter(memory, is_durable=True).due())
    # Read while it is open: nothing was closed in an orderly way.
    second = Outbox(tmp_path / "outbox.db")
    assert read_memory(second).same_message.last == {"a": (b"x", 1.0)}
    second.close()
    outbox.close()


def test_a_memory_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A memory of another version keeps no master from starting."""
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.take([], lambda _firing, _is_new: None, b"of another version")
    assert read_memory(outbox).same_message.last == {}
    assert "is forgotten" in caplog.text
    outbox.close()


def test_an_unchanged_memory_is_not_written_again() -> None:
    """A quiet server's memory costs nothing, nor does one that nobody could read later."""
    memory = Memory()
    writer = MemoryWriter(memory, is_durable=True, clock=lambda: 0.0)
    assert writer.due() is None
    memory.is_changed = True
    assert MemoryWriter(memory, is_durable=False).due() is None
    assert writer.due() is not None
    assert writer.due() is None


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    """A disk that was full for a moment loses nothing of the memory."""
    memory = Memory()
    memory.is_changed = True
    writer = MemoryWriter(memory, is_durable=True, clock=lambda: 0.0)
    assert writer.due() is not None
    writer.failed()
    assert writer.due() is not None


def test_a_large_memory_is_written_less_often() -> None:
    """However much there is to remember, writing it takes a small share of the worker's time, but is never put off."""
    moments = iter([0.0, 0.5, 0.9, 1.6, 1.7])
    memory = Memory()
    writer = MemoryWriter(memory, is_durable=True, clock=lambda: next(moments))
    memory.is_changed = True
    assert writer.due() is not None  # from 0.0 to 0.5
    memory.is_changed = True
    assert writer.due() is None  # at 0.9
    assert LONGEST == 1.0
    assert writer.due() is not None  # at 1.6, more than that later
