"""When each alarm last delivered something, real or drilled, over restarts and over what the history forgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from outbox_books import Clock

from alarm_mw.delivery.last_deliveries import LastDeliveries, LastDelivery
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Firing, Record

DAY = 86_400.0

RECORD = Record(b"text", "stdout", 1.0, "key")


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.sqlite")) as found:
        yield found


def deliver(outbox: Outbox, *ids: str, state: State = State.DELIVERED) -> None:
    """Have the alarm `a` take firings, and end so."""
    taken = outbox.take([Firing(each, "a", b"text", RECORD, 1.0) for each in ids], lambda _firing, _is_new: None)
    for entry in taken.entries:
        outbox.settle(Settlement([entry], Outcome(state, 1)))


def test_an_alarm_that_delivers_nothing_is_named(outbox: Outbox, clock: Clock) -> None:
    """From when it is first watched; a delivery begins the time again, and so does a drill."""
    last = LastDeliveries(outbox, clock)
    last.watch(["a", "b"], 30 * DAY)
    clock.now += 30 * DAY
    assert last.overdue() == []
    clock.now += 1
    hint = "not even a drill: `alarm-mw drill --only {} tries it"
    named = [f"alarm {name} has delivered nothing for 30 days, {hint.format(f'{name}`')}" for name in "ab"]
    assert last.overdue() == named
    deliver(outbox, "1")
    assert last.overdue() == named[1:]
    assert last.note_drill(["b", "unknown"]) == 1
    assert last.overdue() == []
    assert last.all() == {
        "a": LastDelivery(1_000_000.0, clock.now, 0.0),
        "b": LastDelivery(1_000_000.0, 0.0, clock.now),
    }


def test_it_is_known_over_restarts(tmp_path: Path, clock: Clock) -> None:
    """Alarms that have left the configuration are forgotten, new ones begin their time, the others go on."""
    for names, known in ((["a", "b"], 1_000_000.0), (["b", "c"], 2_000_000.0)):
        clock.now = known
        with closing(Outbox(tmp_path / "outbox.sqlite")) as outbox:
            last = LastDeliveries(outbox, clock)
            last.watch(names, 90.0)
            found = {name: each.known for name, each in last.all().items()}
            last.watch(names, 90.0)
    assert found == {"b": 1_000_000.0, "c": 2_000_000.0}


def test_what_failed_was_not_delivered(outbox: Outbox, clock: Clock) -> None:
    """A dead letter is no sign of life."""
    last = LastDeliveries(outbox, clock)
    last.watch(["a"], 90.0)
    deliver(outbox, "1", state=State.DEAD)
    clock.now += 91
    assert len(last.overdue()) == 1


def test_it_costs_nothing_where_nobody_asks(outbox: Outbox, clock: Clock) -> None:
    """Without a time, nothing is noted; nor any more, once a reload has taken it away."""
    last = LastDeliveries(outbox, clock)
    last.watch(["a"], None)
    deliver(outbox, "1")
    assert (last.overdue(), last.all(), outbox.on_delivered) == ([], {}, None)
    last.watch(["a"], 90.0)
    last.watch(["a"], None)
    deliver(outbox, "2")
    last.watch(["a"], 90.0)
    assert last.all()["a"].delivered == 0.0


def test_a_delivery_is_noted_in_an_outbox_that_was_made_anew(outbox: Outbox, clock: Clock) -> None:
    """Where the file was lost, the alarm is known from then on."""
    last = LastDeliveries(outbox, clock)
    last.watch(["a"], 90.0)
    with outbox.transaction():
        outbox.change("DELETE FROM deliveries")
    deliver(outbox, "1")
    assert last.all() == {"a": LastDelivery(clock.now, clock.now, 0.0)}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.0, "8 seconds"), (600.0, "10 minutes"), (7200.0, "2 hours"), (3 * DAY, "3 days")]
)
def test_the_time_is_for_people(outbox: Outbox, clock: Clock, seconds: float, shown: str) -> None:
    """In a unit that fits."""
    last = LastDeliveries(outbox, clock)
    last.watch(["a"], seconds)
    clock.now += seconds + 1
    assert f"nothing for {shown}," in last.overdue()[0]
