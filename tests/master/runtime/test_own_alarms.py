"""Alarms about the program itself: once for each kind of trouble, and only to those who are named."""

from __future__ import annotations

from alarm_mw.master.runtime import own_alarms
from alarm_mw.master.runtime.own_alarms import OwnAlarms
from alarm_mw.master.worker.batch import Batch


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
