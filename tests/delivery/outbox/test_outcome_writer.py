"""How outcomes get into the outbox."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine

import pytest
from plain_action import PlainAction

from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.outcome_writer import GATHERED, OutcomeWriter
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Record
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions

DELIVERED = Outcome(State.DELIVERED, 1)


class Counted(Outbox):
    """An outbox that counts how many outcomes each transaction had, and whose disk is full when it is told to be."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.transactions: list[int] = []
        self.is_full = False
        self.has_refused = asyncio.Event()

    def settle(self, *settlements: Settlement) -> None:
        if self.is_full:
            self.has_refused.set()
            raise sqlite3.OperationalError("database or disk is full")
        self.transactions.append(len(settlements))
        super().settle(*settlements)


class Waited(PlainAction):
    """An action that says when it has delivered."""

    def __init__(self, has_delivered: asyncio.Event) -> None:
        self._has_delivered = has_delivered

    async def deliver(self, firing: Firing) -> None:
        self._has_delivered.set()


def firing(number: int) -> Firing:
    return Firing(str(number), "a", b"x\n", Record(b"x\n", "stdout", 1.0, "k"), 1.0)


def filled(outbox: Outbox, count: int) -> list[Settlement]:
    outbox.take([firing(number) for number in range(count)], lambda one, _: outbox.ledger.alarm(one.alarm, "fired"))
    return [Settlement([entry], DELIVERED) for entry in outbox.waiting("a", after=0, limit=count)]


def run(scene: Callable[[Counted], Coroutine[None, None, None]]) -> Counted:
    outbox = Counted()
    asyncio.run(scene(outbox))
    outbox.close()
    return outbox


def test_outcomes_of_the_same_moment_share_a_transaction() -> None:
    """A burst does not pay for each of its firings; each is told of once it is written."""
    told: list[int] = []

    async def scene(outbox: Counted) -> None:
        writer = OutcomeWriter(outbox, lambda _: None)
        for number, settlement in enumerate(filled(outbox, 3)):
            writer.add(settlement, lambda number=number: told.append(number))  # type: ignore[misc]  # mypy's issue 12557
        assert not told
        await writer.done()
        assert outbox.count_waiting() == {}

    assert run(scene).transactions == [3]
    assert told == [0, 1, 2]


def test_few_outcomes_wait() -> None:
    """Where many come about at once, a kill repeats no more than so many of them."""

    async def scene(outbox: Counted) -> None:
        writer = OutcomeWriter(outbox, lambda _: None)
        for settlement in filled(outbox, 2 * GATHERED + 1):
            writer.add(settlement, lambda: None)
        assert outbox.count_waiting() == {"a": 1}
        await writer.done()

    assert run(scene).transactions == [GATHERED, GATHERED, 1]


def test_what_the_outbox_does_not_take_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """It is written, and told of, when the outbox can be written again."""
    told: list[int] = []

    async def scene(outbox: Counted) -> None:
        writer = OutcomeWriter(outbox, lambda _: None)
        outbox.is_full = True
        writer.add(filled(outbox, 1)[0], lambda: told.append(1))
        writer.write()
        assert (writer.is_failing, told) == (True, [])
        outbox.is_full = False
        writer.write()
        assert (writer.is_failing, told) == (False, [1])
        await writer.done()

    assert run(scene).transactions == [1]
    assert caplog.messages == ["the outbox cannot be written: database or disk is full"]


def test_nothing_is_written_for_nothing() -> None:
    """Where no outcome waits, the outbox is left alone."""

    async def scene(outbox: Counted) -> None:
        writer = OutcomeWriter(outbox, lambda _: None)
        writer.write()
        await writer.done()

    assert run(scene).transactions == []


def test_nothing_is_begun_while_outcomes_cannot_be_written() -> None:
    """What is delivered then could be delivered twice: only what was under way is."""
    recorder = Recorder()

    async def scene(outbox: Counted) -> None:
        action = recorder.find("a")(NoOptions(), ActionContext("a", lambda _: None))
        dispatcher = Dispatcher(outbox, {"a": Route(action, DeliveryPolicy())})
        dispatcher.start()
        outbox.is_full = True
        filled(outbox, 1)
        dispatcher.wake(["a"])
        await asyncio.wait_for(outbox.has_refused.wait(), 10)
        outbox.take([firing(7), firing(8)], lambda _, __: None)
        dispatcher.wake(["a"])
        assert not await dispatcher.drain(0.05, wait_for_retries=True)
        assert len(recorder.messages) == 1
        outbox.is_full = False
        assert await dispatcher.drain(20.0, wait_for_retries=True)
        assert len(recorder.messages) == 3
        await dispatcher.stop()

    run(scene)


def test_the_end_writes_what_was_delivered() -> None:
    """What is delivered in the last moment is not delivered again by the next process."""

    async def scene(outbox: Counted) -> None:
        has_delivered = asyncio.Event()
        dispatcher = Dispatcher(outbox, {"a": Route(Waited(has_delivered), DeliveryPolicy())})
        dispatcher.start()
        filled(outbox, 1)
        dispatcher.wake(["a"])
        await asyncio.wait_for(has_delivered.wait(), 10)
        await dispatcher.stop()
        assert outbox.count_waiting() == {}

    run(scene)


def test_a_changed_alarm_does_not_deliver_again_what_is_not_written_yet() -> None:
    """The next lane begins when the outcomes of the one before are in the outbox."""
    recorder = Recorder()

    async def scene(outbox: Counted) -> None:
        def route() -> Route:
            return Route(recorder.find("a")(NoOptions(), ActionContext("a", lambda _: None)), DeliveryPolicy())

        dispatcher = Dispatcher(outbox, {"a": route()})
        dispatcher.start()
        outbox.is_full = True
        filled(outbox, 1)
        dispatcher.wake(["a"])
        await asyncio.wait_for(outbox.has_refused.wait(), 10)
        await dispatcher.exchange({"a": route()})
        outbox.is_full = False
        assert await dispatcher.drain(20.0, wait_for_retries=True)
        assert len(recorder.messages) == 1
        await dispatcher.stop()

    run(scene)
