"""What is wrong with the program itself raises alarms."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.runtime import own_alarms
from alarm_mw.master.runtime.own_alarms import OwnAlarms
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker import thread
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import Record, Rule
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions


def test_of_each_kind_of_trouble_one_alarm_is_fired_in_an_hour() -> None:
    """However often something fails, people are told once an hour; of something else at once."""
    batches: list[Batch] = []
    clock = [0.0]
    own = OwnAlarms(batches.append, ("a", "b"), lambda: clock[0])
    assert own.fire("the outbox is broken", "outbox")
    assert not own.fire("the outbox is still broken", "outbox")
    assert own.fire("the ledger is wrong", "ledger")
    clock[0] = own_alarms.EVERY
    assert own.fire("the outbox is broken", "outbox")
    assert [item.alarm for batch in batches for item in batch.items] == ["a", "b"] * 3
    assert {item.record.message for item in batches[0].items} == {b"alarm_mw: the outbox is broken\n"}


def test_what_is_remembered_is_bounded() -> None:
    """Keys without end do not fill the memory."""
    own = OwnAlarms(lambda _: None, ("a",), lambda: 0.0)
    for number in range(own_alarms.MAX_KEYS + 1):
        assert own.fire("trouble", str(number))
    assert own.fire("trouble", "0")
    assert not own.fire("trouble", str(own_alarms.MAX_KEYS))


def test_nobody_is_told_where_nobody_is_named() -> None:
    """Without `own_alarms` nothing is fired."""
    assert not OwnAlarms(lambda _: None, ()).fire("trouble", "key")


def test_a_broken_outbox_raises_an_alarm(tmp_path: Path) -> None:
    """Whoever is named learns that the outbox was broken, and where it is now; no rule sees that text."""
    (tmp_path / "outbox.db").write_bytes(b"no database" * 100)
    recorder = Recorder()
    alarms = tuple(Alarm(name, "recording", NoOptions()) for name in "ab")
    settings = Settings(alarms, (Rule("alarm_mw", ("b",)),), own_alarms=("a",))
    runtime = Runtime(settings, outbox=tmp_path / "outbox.db", write_log=lambda _: None, find_action=recorder.find)
    runtime.start()
    (firing,) = recorder.wait_for(1)
    assert firing.alarm == "a"
    assert firing.text.startswith(f"alarm_mw: the outbox {tmp_path}/outbox.db cannot be read: file is not a database")
    (aside,) = tmp_path.glob("*.broken-*Z")
    assert str(aside) in firing.text
    with runtime.outbox.still():
        assert imbalances(*runtime.books()) == []
    assert runtime.stop(10.0)
    assert len(recorder.messages) == 1


def test_a_loss_raises_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the outbox can be written again, whoever is named learns how many firings were lost meanwhile."""
    monkeypatch.setattr(thread, "WRITE_PAUSE", 0.0)
    recorder = Recorder()
    settings = Settings(
        (Alarm("a", "recording", NoOptions()),), (Rule("ERR", ("a",)),), own_alarms=("a",), alarm_freq=0.0
    )
    runtime = Runtime(settings, outbox=tmp_path / "outbox.db", write_log=lambda _: None, find_action=recorder.find)
    runtime.start()

    def print_line(number: int) -> None:
        done = threading.Event()
        record = Record(b"ERR %d\n" % number, "stdout", 1.0, str(number))
        runtime.submit(Batch([Item(record)], done=done.set))
        assert done.wait(10.0)

    with closing(sqlite3.connect(tmp_path / "outbox.db")) as database:
        database.execute("ALTER TABLE firings RENAME TO hidden")
        print_line(1)
        print_line(2)
        database.execute("ALTER TABLE hidden RENAME TO firings")
    print_line(3)
    messages = [firing.message for firing in recorder.wait_for(2)]
    assert messages == [b"ERR 3\n", b"alarm_mw: 2 firings were lost, since the outbox could not be written\n"]
    with runtime.outbox.still():
        assert imbalances(*runtime.books()) == []
    assert runtime.stop(10.0)
