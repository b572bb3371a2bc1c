"""The queue between lanes and mules."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from alarm_mw import signals
from alarm_mw.master.mules.queue import MAX_DEATHS, Asker, MuleQueue
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing, Record
from alarm_mw.transports.subscription import Message

_numbers = itertools.count()


def firing(message: bytes) -> Firing:
    number = next(_numbers)
    return Firing(f"id-{number}", "a", message, Record(message, "stdout", 1.0, f"k{number}"), 1.0)


class Mule:
    """A mule that notes what it gets."""

    def __init__(self, queue: MuleQueue, number: int) -> None:
        self.got: list[Message] = []
        self._queue = queue
        self.asker = Asker(number, self.got.append)

    def ask(self) -> None:
        """Be done with the last message, and ask for the next."""
        if self.got:
            self._queue.done(self.asker, self.got[-1].id)
        self._queue.ask(self.asker)

    @property
    def messages(self) -> list[bytes]:
        return [message.message for message in self.got]


def run(scenario: Callable[[MuleQueue], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await scenario(MuleQueue())

    asyncio.run(main())


async def send(queue: MuleQueue, mule: int, *messages: bytes) -> list[asyncio.Task[None]]:
    """Begin to deliver messages, in their order."""
    tasks = [asyncio.create_task(queue.deliver(mule, firing(message))) for message in messages]
    await asyncio.sleep(0)
    return tasks


def test_a_message_is_delivered_when_the_mule_asks_for_the_next() -> None:
    """Until then it is not, whatever the mule does with it."""

    async def scenario(queue: MuleQueue) -> None:
        mule = Mule(queue, 1)
        first, second = await send(queue, 1, b"1", b"2")
        mule.ask()
        assert mule.messages == [b"1"]
        await asyncio.sleep(0)
        assert not first.done()
        mule.ask()
        await first
        assert mule.messages == [b"1", b"2"]
        assert not second.done()
        mule.ask()
        await second

    run(scenario)


def test_a_message_goes_to_its_mule() -> None:
    """What is for mule 2 waits for it; what is for any goes to the first that asks."""

    async def scenario(queue: MuleQueue) -> None:
        one, two = Mule(queue, 1), Mule(queue, 2)
        one.ask()
        tasks = [*await send(queue, 2, b"for 2"), *await send(queue, 0, b"for any", b"for any, too")]
        two.ask()
        assert (one.messages, two.messages) == ([b"for any"], [b"for 2"])
        two.ask()
        assert two.messages == [b"for 2", b"for any, too"]
        one.ask()
        two.ask()
        await asyncio.gather(*tasks)

    run(scenario)


def test_a_dead_mules_message_comes_first_for_its_successor() -> None:
    """The order of messages survives the death of a mule."""

    async def scenario(queue: MuleQueue) -> None:
        mule, heir = Mule(queue, 1), Mule(queue, 1)
        tasks = await send(queue, 1, b"1", b"2", b"3")
        mule.ask()
        queue.gone(mule.asker)
        for _ in range(4):
            heir.ask()
        await asyncio.gather(*tasks)
        assert heir.messages == [b"1", b"2", b"3"]

    run(scenario)


def test_a_message_that_kills_mules_is_refused() -> None:
    """After five deaths it is for the dead letters, and the next message has its turn."""

    async def scenario(queue: MuleQueue) -> None:
        poison, good = await send(queue, 1, b"poison", b"good")
        for _ in range(MAX_DEATHS):
            victim = Mule(queue, 1)
            victim.ask()
            assert victim.messages == [b"poison"]
            queue.gone(victim.asker)
        with pytest.raises(ActionError) as caught:
            await poison
        assert not caught.value.retry
        mule = Mule(queue, 1)
        mule.ask()
        mule.ask()
        await good
        assert mule.messages == [b"good"]

    run(scenario)


async def cut_off(queue: MuleQueue) -> tuple[Mule, Firing]:
    """Return a mule that works, and its message, whose first attempt is over."""
    mule, slow = Mule(queue, 1), firing(b"slow")
    mule.ask()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await queue.deliver(1, slow)
    return mule, slow


def test_an_attempt_that_is_cut_off_is_joined_by_the_next() -> None:
    """A mule that works for longer than an attempt may take gets the message once, and it is delivered once."""

    async def scenario(queue: MuleQueue) -> None:
        mule, slow = await cut_off(queue)
        again = asyncio.create_task(queue.deliver(1, slow))
        await asyncio.sleep(0)
        mule.ask()
        await again
        assert mule.messages == [b"slow"]

    run(scenario)


def test_a_message_done_between_two_attempts_is_delivered() -> None:
    """The next attempt returns at once."""

    async def scenario(queue: MuleQueue) -> None:
        mule, slow = await cut_off(queue)
        mule.ask()
        await queue.deliver(1, slow)
        assert mule.messages == [b"slow"]

    run(scenario)


def test_a_message_that_was_given_up_reaches_no_mule() -> None:
    """What lies in the dead letters is not handed over any more."""

    async def scenario(queue: MuleQueue) -> None:
        late = firing(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await queue.deliver(1, late)
        error = ActionError("too late", retry=True)
        signals.send(signals.failed, "a", firing=late, error=error, dead=False)
        signals.send(signals.failed, "a", firing=late, error=error, dead=True)
        mule = Mule(queue, 1)
        mule.ask()
        assert mule.messages == []

    run(scenario)


def test_a_mule_may_stop_asking() -> None:
    """After its time limit a mule gets no message that would be lost on it."""

    async def scenario(queue: MuleQueue) -> None:
        mule, other = Mule(queue, 1), Mule(queue, 2)
        mule.ask()
        assert queue.stop_asking(mule.asker)
        assert not queue.stop_asking(mule.asker)
        (task,) = await send(queue, 0, b"x")
        other.ask()
        other.ask()
        await task
        assert (mule.messages, other.messages) == ([], [b"x"])

    run(scenario)
