"""A lane whose outbox cannot be written for a while."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.entries import Settlement
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Record
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions


class FullOnce(Outbox):
    """An outbox whose disk is full when the first outcome is to be written."""

    is_full = True

    def settle(self, *settlements: Settlement) -> None:
        if self.is_full:
            self.is_full = False
            raise sqlite3.OperationalError("database or disk is full")
        super().settle(*settlements)


def test_an_outcome_is_written_as_soon_as_it_can_be(caplog: pytest.LogCaptureFixture) -> None:
    """What was delivered is not delivered again because the disk was full in between."""
    recorder = Recorder()

    async def scene() -> None:
        outbox = FullOnce(":memory:")
        action = recorder.find("a")(NoOptions(), ActionContext("a", lambda _: None))
        dispatcher = Dispatcher(outbox, {"a": Route(action, DeliveryPolicy())})
        dispatcher.start()
        outbox.take([Firing("1", "a", b"x\n", Record(b"x\n", "stdout", 1.0, "k"), 1.0)], lambda _, __: None)
        dispatcher.wake(["a"])
        assert await dispatcher.drain(20.0, wait_for_retries=True)
        await dispatcher.stop()
        outbox.close()

    asyncio.run(scene())
    assert recorder.messages == [b"x\n"]
    assert "the outbox cannot be written: database or disk is full" in caplog.text
