"""The backlog of an earlier process keeps to the alarm's rate."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from alarm_mw.delivery import lane
from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.entries import Taken
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.pace import Pace
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.limits import Rate
from alarm_mw.model.interfaces import Action, ActionContext
from alarm_mw.model.types import Firing, Record
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions

HOUR = 3600.0


def firing(name: str) -> Firing:
    message = f"{name}\n".encode()
    return Firing(name, "a", message, Record(message, "stdout", 1.0, name), 1.0)


def left_by_a_former_process(path: Path, n: int) -> None:
    outbox = Outbox(path, now=lambda: time.time() - 10.0)
    outbox.take([firing(f"old{k}") for k in range(n)], lambda one, _: outbox.ledger.alarm(one.alarm, "fired"))
    outbox.close()


def dispatcher_for(outbox: Outbox, recorder: Recorder, rate: Rate | None) -> Dispatcher:
    action: Action = recorder.find("a")(NoOptions(), ActionContext("a", lambda _: None))
    return Dispatcher(outbox, {"a": Route(action, DeliveryPolicy(), rate=rate)})


@given(st.integers(1, 5), st.floats(1.0, 100.0), st.lists(st.tuples(st.booleans(), st.floats(0.0, 50.0)), max_size=60))
def test_no_window_has_more_than_the_rate_of_a_backlog(
    count: int, window: float, steps: list[tuple[bool, float]]
) -> None:
    """Whatever comes between: a firing of the backlog waits until fewer than `count` were sent in the window before."""
    pace = Pace(count, window)
    now = 1000.0
    sent: list[float] = []
    for is_backlog, pause in steps:
        now += pause
        if is_backlog:
            slot = pace.reserve(now)
            assert slot >= now
            assert sum(slot - window < time < slot for time in sent) <= count
            if len(sent) >= count:
                assert slot >= sorted(sent)[-count] + window - 1e-6
            sent.append(slot)
        else:
            pace.note(now)
            sent.append(max([now, *sent]))


def test_a_backlog_keeps_to_the_rate_and_what_is_new_overtakes_it(tmp_path: Path) -> None:
    """Of nineteen firings that waited three are sent; the others wait for their turn, and a new one does not."""
    left_by_a_former_process(tmp_path / "outbox.db", 19)
    recorder = Recorder()

    async def deliver() -> None:
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = dispatcher_for(outbox, recorder, Rate(3, HOUR))
        dispatcher.start()
        await until(lambda: len(recorder.messages) == 3)
        taken: Taken = outbox.take([firing("new")], lambda one, _: outbox.ledger.alarm(one.alarm, "fired"))
        dispatcher.offer(taken)
        await until(lambda: len(recorder.messages) == 4)
        assert not await dispatcher.drain(60.0, wait_for_retries=False)  # at once: all the others wait
        await dispatcher.stop()
        assert outbox.count_waiting() == {"a": 16}
        outbox.close()

    asyncio.run(deliver())
    assert recorder.messages == [b"old0\n", b"old1\n", b"old2\n", b"new\n"]


def test_the_rate_holds_over_several_processes(tmp_path: Path) -> None:
    """The next process counts what the one before it has delivered of the backlog."""
    left_by_a_former_process(tmp_path / "outbox.db", 5)
    recorder = Recorder()

    async def deliver() -> None:
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = dispatcher_for(outbox, recorder, Rate(3, HOUR))
        dispatcher.start()
        await dispatcher.drain(60.0, wait_for_retries=False)
        await dispatcher.stop()
        outbox.close()

    for _ in range(3):
        asyncio.run(deliver())
    assert len(recorder.messages) == 3


def test_a_backlog_that_may_be_sent_later_is_sent_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each when its time has come, also where no more may be overtaken."""
    monkeypatch.setattr(lane, "MAX_PACED", 1)
    left_by_a_former_process(tmp_path / "outbox.db", 4)
    recorder = Recorder()

    async def deliver() -> None:
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = dispatcher_for(outbox, recorder, Rate(1, 0.05))
        dispatcher.start()
        assert await dispatcher.drain(60.0, wait_for_retries=True)
        await dispatcher.stop()
        outbox.close()

    asyncio.run(deliver())
    assert recorder.messages == [b"old0\n", b"old1\n", b"old2\n", b"old3\n"]


def test_without_a_rate_a_backlog_is_sent_at_once(tmp_path: Path) -> None:
    """As many as there are."""
    left_by_a_former_process(tmp_path / "outbox.db", 19)
    recorder = Recorder()

    async def deliver() -> None:
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = dispatcher_for(outbox, recorder, None)
        dispatcher.start()
        assert await dispatcher.drain(60.0, wait_for_retries=False)
        await dispatcher.stop()
        outbox.close()

    asyncio.run(deliver())
    assert len(recorder.messages) == 19
