"""What a lane gets: all that waits for its alarm, once, in order, whichever way it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.delivery.dead_letters import DeadLetters, Order
from alarm_mw.delivery.inbox import PAGE, Inbox
from alarm_mw.delivery.outbox.entries import Entry, Outcome, Settlement, Taken
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Firing, Reason, Record

RECORD = Record(b"x\n", "stdout", 1.0, "k")


class Counted(Outbox):
    """An outbox in memory that counts how often it is read."""

    reads = 0

    def waiting(self, alarm: str, *, after: int, limit: int) -> list[Entry]:
        self.reads += 1
        return super().waiting(alarm, after=after, limit=limit)

    def fire(self, *names: str) -> Taken:
        firings = [Firing(name, name[0], b"x\n", RECORD, 1.0) for name in names]
        return self.take(firings, lambda one, _: self.ledger.alarm(one.alarm, "fired"))


@pytest.fixture
def outbox() -> Iterator[Counted]:
    outbox = Counted(":memory:")
    yield outbox
    outbox.close()


def names(entries: list[Entry]) -> list[str]:
    return [entry.firing.id for entry in entries]


def offer(inbox: Inbox, taken: Taken) -> None:
    inbox.offer([entry for entry in taken.entries if entry.firing.alarm == "a"], taken.bypasses)


def test_what_was_just_taken_is_not_read_again(outbox: Counted) -> None:
    """A firing goes to its lane as it is; the outbox is read where something may wait in it."""
    inbox = Inbox("a", outbox)
    outbox.fire("a1")
    assert names(inbox.take(PAGE)) == ["a1"]
    offer(inbox, outbox.fire("a2", "b1", "a3"))
    assert inbox.arrival.is_set()
    assert names(inbox.take(PAGE)) == ["a2", "a3"]
    assert inbox.take(PAGE) == inbox.look() == []
    assert outbox.reads == 1


def test_what_came_by_another_way_is_not_passed_over(outbox: Counted) -> None:
    """A dead letter that is put back is found, though what was fired behind it comes before the word of it."""
    inbox = Inbox("a", outbox)
    (dead,) = outbox.fire("a1").entries
    inbox.take(PAGE)
    outbox.settle(Settlement([dead], Outcome(State.DEAD, 1, "404", Reason.REFUSED)))
    DeadLetters(outbox, ["a"], is_running=True).carry_out(Order(verb="retry"))
    offer(inbox, outbox.fire("a2"))
    assert names(inbox.take(PAGE)) == ["a1", "a2"]
    inbox.wake()
    assert inbox.take(PAGE) == []


def test_a_flood_waits_in_the_outbox(outbox: Counted) -> None:
    """Of what a lane cannot deliver yet no more is kept in memory than it would read."""
    inbox = Inbox("a", outbox)
    inbox.take(PAGE)
    fired = [f"a{number}" for number in range(3 * PAGE)]
    for name in fired:
        offer(inbox, outbox.fire(name))
    assert [name for _ in range(3) for name in names(inbox.take(PAGE))] == fired


class Play:
    """A lane, and an outbox into which firings come by both ways; the lane is told late."""

    def __init__(self) -> None:
        self.outbox = Counted(":memory:")
        self.inbox = Inbox("a", self.outbox)
        self.pending: list[Taken] = []
        self.fired: list[str] = []
        self.got: list[str] = []

    def _name(self) -> str:
        self.fired.append(f"a{len(self.fired)}")
        return self.fired[-1]

    def fire(self) -> None:
        self.pending.append(self.outbox.fire("b" + self._name(), self.fired[-1]))

    def hand_over(self) -> None:
        with self.outbox.transaction() as transaction:
            self.outbox.take_over(transaction, Firing(self._name(), "a", b"x\n", RECORD, 1.0))

    def tell(self) -> None:
        for taken in self.pending[:1]:
            offer(self.inbox, taken)
        del self.pending[:1]

    def wake(self) -> None:
        self.inbox.wake()

    def look(self) -> None:
        self.inbox.look()

    def take(self) -> None:
        self.got += names(self.inbox.take(3))


STEPS = [Play.fire, Play.hand_over, Play.tell, Play.wake, Play.look, Play.take]


@given(st.lists(st.sampled_from(STEPS), max_size=40))
def test_each_comes_once_and_in_order(steps: list[Callable[[Play], None]]) -> None:
    """Whatever comes when, and however late the lane is told: nothing is lost, repeated, or out of order."""
    play = Play()
    for step in [*steps, *([Play.tell] * len(steps)), Play.wake, *([Play.take] * len(steps))]:
        step(play)
    assert play.got == play.fired
    play.outbox.close()
