"""What was being delivered when a master was killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

from outbox_books import booking
from plain_action import PlainAction
from waiting import LIMIT

from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.under_way import SLOTS, UnderWay
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing, Record


def _taken(outbox: Outbox, n: int) -> list[int]:
    firings = [Firing(f"id{i}", "a", b"x", Record(b"x", "stdout", 1.0, f"k{i}"), 1.0) for i in range(n)]
    return [entry.seq for entry in outbox.take(firings, booking(outbox)).entries]


def test_the_next_master_knows_what_may_come_twice(tmp_path: Path) -> None:
    """What had been delivered is not delivered again; what was under way is, and is counted then."""
    kept: list[int] = []
    with closing(Outbox(tmp_path / "outbox.db")) as outbox:
        under_way, before, failed, begun, done, _ = (
            UnderWay(None, lambda fd: kept.append(os.dup(fd))),
            *_taken(outbox, 5),
        )
        under_way.begin([before, failed, begun, done])
        under_way.end([before, failed])
        under_way.succeed([done])
        under_way.close()
    with closing(Outbox(tmp_path / "outbox.db")) as outbox, closing(UnderWay(kept[0], print)) as under_way:
        assert (set(under_way.begun), set(under_way.delivered)) == ({begun}, {done})
        outbox.resume(under_way)
        assert outbox.count_waiting() == {"a": 4}
        outbox.settle(Settlement(outbox.waiting("a", after=0, limit=9), Outcome(State.DELIVERED, 1)))
        row = outbox.ledger.books()["alarms"]["a"]
        assert (row["delivered"], row["delivered_again"]) == (5, 1)
        assert imbalances(outbox.ledger.books(), {}) == []


class Receiver(PlainAction):
    """An action that notes which firings are under way while it delivers, and refuses the second."""

    def __init__(self, under_way: Callable[[], tuple[set[int], set[int]]]) -> None:
        self._under_way = under_way
        self.seen: list[tuple[set[int], set[int]]] = []

    async def deliver(self, firing: Firing) -> None:
        self.seen.append(self._under_way())
        if firing.id == "id1":
            raise ActionError("refused", retry=False)


def test_each_attempt_is_under_way_until_its_end_is_written_down(tmp_path: Path) -> None:
    """Whether it succeeds or fails, nothing of it is left for the next master."""
    kept: list[int] = []

    def noted() -> tuple[set[int], set[int]]:
        with closing(UnderWay(os.dup(kept[0]), print)) as found:
            return set(found.begun), set(found.delivered)

    async def deliver(outbox: Outbox) -> Receiver:
        receiver = Receiver(noted)
        dispatcher = Dispatcher(outbox, {"a": Route(receiver, DeliveryPolicy())})
        dispatcher.start()
        assert await dispatcher.drain(LIMIT, wait_for_retries=True)
        await dispatcher.stop()
        return receiver

    with closing(Outbox(tmp_path / "outbox.db")) as outbox:
        seqs = _taken(outbox, 3)
        with closing(UnderWay(None, lambda fd: kept.append(os.dup(fd)))) as under_way:
            outbox.resume(under_way)
            receiver = asyncio.run(deliver(outbox))
        assert [seq in begun for seq, (begun, _) in zip(seqs, receiver.seen, strict=True)] == [True, True, True]
        assert noted() == (set(), set())
    os.close(kept[0])


def test_more_than_there_is_room_for_is_delivered_all_the_same() -> None:
    """Of so many it is only not known that they may come twice."""
    with closing(UnderWay(None, lambda _: None)) as under_way:
        for seqs in (range(1, SLOTS + 9), range(1, SLOTS + 9)):
            under_way.begin(seqs)
            under_way.succeed(seqs)
            under_way.end(seqs)


def test_it_works_where_no_file_may_grow(full_disk: Callable[[], AbstractContextManager[None]]) -> None:
    """Without memory that outlives it a master delivers all the same."""
    with full_disk(), closing(UnderWay(None, lambda _: None)) as under_way:
        under_way.begin([1])
        under_way.end([1])
