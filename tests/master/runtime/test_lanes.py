"""Lanes of alarms that leave the configuration, with a real outbox in memory."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from waiting import until

from alarm_mw.config.settings import Alarm
from alarm_mw.delivery.dispatcher import Route
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.policy import Delivery
from alarm_mw.master.runtime import lanes
from alarm_mw.master.runtime.lanes import Lanes, Routed
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions


def routed(*names: str) -> Routed:
    find = Recorder().find
    return {
        name: (
            Alarm(name, "recording", NoOptions()),
            Route(find(name)(NoOptions(), ActionContext(name, lambda _: None)), Delivery()),
        )
        for name in names
    }


@pytest.mark.parametrize("is_back", [False, True])
def test_a_lane_stays_until_nobody_fires_its_alarm_any_more(*, is_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the old rules may still fire an alarm that leaves, those that left before end, and its lane does not.

    Neither does it where the alarm had left once before, and had come back.
    """
    monkeypatch.setattr(lanes, "RETIRE_EVERY", 0.001)

    async def scenario(outbox: Outbox) -> None:
        first, second = routed("stays", "leaves"), routed("gone")
        lanes_ = Lanes(outbox, {**first, **second}, {})
        await lanes_.start()
        if is_back:
            await lanes_.exchange({**second, "stays": first["stays"]})
            await lanes_.settle()
            await lanes_.exchange({**first, **second})
        await lanes_.exchange(first)
        await lanes_.settle()
        await lanes_.exchange({"stays": first["stays"]})
        await until(lambda: "gone" not in lanes_.names())
        assert lanes_.names() == {"stays", "leaves"}
        await lanes_.settle()
        await until(lambda: "leaves" not in lanes_.names())
        await lanes_.stop(1.0)

    with contextlib.closing(Outbox(":memory:")) as outbox:
        asyncio.run(scenario(outbox))
