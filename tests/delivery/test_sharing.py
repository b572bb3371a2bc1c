"""Lanes that ask a fleet which machine sends a message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Literal, Self

import pytest
from msgspec import structs
from recording_fleet import RecordingFleet
from waiting import until

from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox import outbox as outbox_module
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.ledger import AlarmRow, imbalances
from alarm_mw.model.errors import ActionError
from alarm_mw.model.fleet import Claim, Left
from alarm_mw.model.interfaces import Action, ActionContext
from alarm_mw.model.types import Firing, IncidentNotice, Record, Trigger
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions, RecordingAction

QUICK = DeliveryPolicy(backoff_first=0.001, backoff_max=0.002, attempt_timeout=5.0)

#: After one failed attempt, others may try.
SLOW = DeliveryPolicy(backoff_first=120.0, backoff_max=120.0, attempt_timeout=5.0)


def firing(number: int, alarm: str = "a") -> Firing:
    message = b"%d\n" % number
    return Firing(f"{alarm}{number}", alarm, message, Record(message, "stdout", 1.0, str(number)), 1.0)


def about(status: str, number: int) -> Firing:
    notice = IncidentNotice("i", status, 1, "i-1-1", 0.0)
    return structs.replace(firing(number), id=f"i-1-1-{number}.a", trigger=Trigger(incident=notice))


class Stage:
    """An outbox and a dispatcher on the running loop, with a fleet."""

    def __init__(
        self, fleet: RecordingFleet, policy: DeliveryPolicy = QUICK, outbox: Path | Literal[":memory:"] = ":memory:"
    ) -> None:
        self.fleet = fleet
        self.recorder = Recorder()
        self.policy = policy
        self.outbox = Outbox(outbox)
        self.dispatcher = Dispatcher(self.outbox, self.routes())
        self.dispatcher.share(fleet)

    def action(self, alarm: str) -> Action:
        return self.recorder.find(alarm)(NoOptions(), ActionContext(alarm, lambda _: None))

    def routes(self) -> dict[str, Route]:
        return {alarm: Route(self.action(alarm), self.policy) for alarm in ("a", "b")}

    def put(self, *firings: Firing) -> None:
        self.dispatcher.offer(self.outbox.take(firings, lambda one, _: self.outbox.ledger.alarm(one.alarm, "fired")))

    async def drain(self, *, wait_for_retries: bool = True) -> bool:
        return await self.dispatcher.drain(10.0, wait_for_retries=wait_for_retries)

    def row(self, alarm: str = "a") -> AlarmRow:
        books = self.outbox.ledger.books()
        for each in books["alarms"].values():  # no engine has matched anything here
            each["matched"] = each["fired"]
        assert imbalances(books, self.outbox.count_waiting()) == []
        return books["alarms"][alarm]

    async def __aenter__(self) -> Self:
        self.dispatcher.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.dispatcher.stop()
        self.outbox.close()


def run(scene: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scene())


def test_what_is_claimed_is_sent_as_the_message_of_all() -> None:
    """The owner of a message sends it with the id and the text of the fleet, and says that it was sent."""

    async def scene() -> None:
        async with Stage(RecordingFleet()) as stage:
            stage.put(firing(1))
            assert await stage.drain()
            (sent,) = stage.recorder.wait_for(1)
            assert (sent.id, sent.message) == ("shared-a1", b"1 (on 2 machines)\n")
            assert stage.fleet.asked == ["hurry", "claim a1", "sent a1"]
            assert (stage.row()["delivered"], stage.row()["deferred"]) == (1, 0)

    run(scene)


def test_what_another_machine_has_sent_is_dropped_with_its_reason() -> None:
    """A message that another machine has sent is not sent again, and the ledger says why."""

    async def scene() -> None:
        async with Stage(RecordingFleet(left={"a1"})) as stage:
            stage.put(firing(1), firing(2))
            assert await stage.drain()
            assert stage.recorder.messages == [b"2 (on 2 machines)\n"]
            assert stage.row()["dropped"] == {"fleet": 1}

    run(scene)


def test_alarms_that_are_not_shared_ask_nobody() -> None:
    """An alarm of this machine alone is sent as without a fleet."""

    async def scene() -> None:
        async with Stage(RecordingFleet(alarms={"b"})) as stage:
            stage.put(firing(1))
            assert await stage.drain()
            assert stage.recorder.messages == [b"1\n"]
            assert stage.fleet.asked == ["hurry"]

    run(scene)


def test_a_deferred_message_holds_up_no_other() -> None:
    """While another machine owns a message, the alarm's other messages are delivered; its own fate is counted."""

    async def scene() -> None:
        async with Stage(RecordingFleet(owned={"a1"}, left={"a1"})) as stage:
            stage.put(firing(1), firing(2), firing(3))
            await until(lambda: len(stage.recorder.messages) == 2)
            assert stage.outbox.count_waiting() == {"a": 1}
            stage.fleet.free("a1")
            assert await stage.drain()
            assert stage.row()["dropped"] == {"fleet": 1}
            assert (stage.row()["delivered"], stage.row()["deferred"]) == (2, 1)

    run(scene)


def test_an_heir_sends_what_its_owner_did_not() -> None:
    """A message whose owner vanished is sent by a machine that was deferred, and counted as such."""

    async def scene() -> None:
        async with Stage(RecordingFleet(owned={"a1"})) as stage:
            stage.put(firing(1))
            await until(lambda: stage.fleet.asked)
            stage.fleet.free("a1")
            assert await stage.drain()
            assert (stage.row()["delivered"], stage.row()["deferred"]) == (1, 1)

    run(scene)


def test_a_group_is_sent_without_what_others_have_sent() -> None:
    """Every message of a group is claimed; the rest is delivered as the group."""

    async def scene() -> None:
        async with Stage(RecordingFleet(left={"a2"}), structs.replace(QUICK, group_wait=60.0)) as stage:
            stage.put(*map(firing, (1, 2, 3)))
            assert await stage.drain()
            (sent,) = stage.recorder.wait_for(1)
            assert (sent.id, sent.count) == ("shared-a1+1", 2)
            assert sorted(stage.fleet.asked) == ["claim a1", "claim a2", "claim a3", "hurry", "sent a1", "sent a3"]
            assert (stage.row()["delivered"], stage.row()["dropped"]) == (2, {"fleet": 1})

    run(scene)


def test_the_end_does_not_wait_for_other_machines(tmp_path: Path) -> None:
    """A program ends though another machine owns a message; the message stays in the outbox for the next start."""

    async def scene() -> None:
        async with Stage(RecordingFleet(owned={"a1"}), outbox=tmp_path / "outbox.db") as stage:
            stage.put(firing(1), firing(2))
            assert not await stage.drain(wait_for_retries=False)
            assert stage.recorder.messages == [b"2 (on 2 machines)\n"]
        outbox = Outbox(tmp_path / "outbox.db")
        assert outbox.count_waiting() == {"a": 1}
        outbox.close()

    run(scene)


def test_further_attempts_renew_the_claim() -> None:
    """A claim is renewed before each further attempt; one that was lost in between is made again."""

    async def scene() -> None:
        async with Stage(RecordingFleet()) as stage:
            stage.recorder.fail_with(ActionError("busy", retry=True))
            stage.put(firing(1))
            assert await stage.drain()
            assert stage.fleet.asked == ["hurry", "claim a1", "renew a1", "sent a1"]
            stage.fleet.is_kept = False
            stage.recorder.fail_with(ActionError("busy", retry=True))
            stage.put(firing(2))
            assert await stage.drain()
            assert stage.fleet.asked[4:] == ["hurry", "claim a2", "renew a2", "claim a2", "sent a2"]

    run(scene)


def test_a_receiver_that_keeps_failing_is_left_to_others() -> None:
    """What this machine cannot deliver soon is given up, so that others may; it is claimed again before it is tried."""

    async def scene() -> None:
        async with Stage(RecordingFleet(), SLOW) as stage:
            stage.recorder.fail_with(ActionError("no route", retry=True))
            stage.put(firing(1))
            await until(lambda: stage.fleet.asked == ["claim a1", "given up a1"])
            stage.dispatcher.retry_now(["a"])
            assert await stage.drain()
            assert stage.fleet.asked == ["claim a1", "given up a1", "hurry", "claim a1", "sent a1"]

    run(scene)


def test_a_refused_message_is_left_to_others() -> None:
    """What the receiver refuses from this machine becomes a dead letter here, and others may try."""

    async def scene() -> None:
        async with Stage(RecordingFleet()) as stage:
            stage.recorder.fail_with(ActionError("forbidden", retry=False))
            stage.put(firing(1))
            assert await stage.drain()
            assert stage.fleet.asked == ["hurry", "claim a1", "given up a1"]
            assert stage.row()["dead"] == {"refused": 1}

    run(scene)


def test_a_changed_alarm_does_not_wait_for_other_machines() -> None:
    """A reload that changes an alarm claims anew what was deferred."""

    async def scene() -> None:
        async with Stage(RecordingFleet(owned={"i-1-1-1.a"})) as stage:
            stage.put(about("firing", 1))
            await until(lambda: stage.fleet.asked)
            await stage.dispatcher.exchange(stage.routes())
            await until(lambda: stage.fleet.asked == ["claim i-1-1-1.a"] * 2)
            stage.fleet.free("i-1-1-1.a")
            assert await stage.drain()
            assert len(stage.recorder.messages) == 1

    run(scene)


def test_what_is_granted_to_a_lane_at_its_end_is_given_up() -> None:
    """A reload while a granted message waits for its turn leaves the message to the next lane, which claims it anew."""

    class Granting(RecordingFleet):
        async def claim(self, firing: Firing, on_deferred: Callable[[], object]) -> Claim | Left:
            found = await super().claim(firing, on_deferred)
            granted[firing.id].set()
            return found

    granted, gate = {"a1": asyncio.Event(), "a2": asyncio.Event()}, asyncio.Event()

    async def scene() -> None:
        async with Stage(Granting(owned={"a1"})) as stage:

            class Gated(RecordingAction):
                recorder = stage.recorder

                async def deliver(self, firing: Firing) -> None:
                    await gate.wait()
                    await super().deliver(firing)

            gated = Gated(NoOptions(), ActionContext("a", lambda _: None))
            await stage.dispatcher.exchange({"a": Route(gated, QUICK)})
            stage.put(firing(1), firing(2))
            await granted["a2"].wait()
            stage.fleet.free("a1")
            await granted["a1"].wait()
            await stage.dispatcher.exchange(stage.routes())
            gate.set()
            assert await stage.drain()
            assert stage.fleet.asked.count("claim a1") == 2
            assert stage.fleet.asked.index("given up a1") < stage.fleet.asked.index("sent a1")
            assert len(stage.recorder.messages) == 2

    run(scene)


def test_an_acknowledgement_ends_what_is_deferred() -> None:
    """A later step of an escalation that waits for another machine is dropped once somebody has acknowledged."""

    async def scene() -> None:
        async with Stage(RecordingFleet(owned={"i-1-1-1.a"})) as stage:
            stage.put(about("escalated", 1))
            await until(lambda: stage.fleet.asked)
            with stage.outbox.transaction() as transaction:
                stage.outbox.cancel(transaction, "i-1-1")
            stage.fleet.free("i-1-1-1.a")
            assert await stage.drain()
            assert stage.fleet.asked == ["claim i-1-1-1.a", "hurry", "given up i-1-1-1.a"]
            assert stage.row()["dropped"] == {"acknowledged": 1}

    run(scene)


def test_an_end_does_not_replace_a_beginning_that_is_being_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An incident that is over before its owner has asked all machines is still told, beginning and end."""
    monkeypatch.setattr(outbox_module, "MERGE_AFTER", 0.0)

    async def scene() -> None:
        async with Stage(RecordingFleet(owned={"i-1-1-1.a"})) as stage:
            stage.put(about("firing", 1))
            await until(lambda: stage.fleet.asked)
            stage.put(about("resolved", 2))
            stage.fleet.free("i-1-1-1.a")
            assert await stage.drain()
            assert [_status(one) for one in stage.recorder.wait_for(2)] == ["firing", "resolved"]

    run(scene)


def _status(one: Firing) -> str:
    assert one.trigger is not None
    assert one.trigger.incident is not None
    return one.trigger.incident.status


def test_a_fleet_that_fails_keeps_no_message_back(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected failure of the fleet's code leads to a message too many, not to one too few."""

    async def scene() -> None:
        async with Stage(RecordingFleet(error=RuntimeError("oops"))) as stage:
            stage.put(firing(1))
            assert await stage.drain()
            assert stage.recorder.messages == [b"1\n"]

    run(scene)
    assert "the fleet cannot be asked, the message is sent" in caplog.text


def test_a_lane_keeps_a_bounded_number_of_messages_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound, messages stay in the outbox until some of those that are deferred have an owner."""
    monkeypatch.setattr("alarm_mw.delivery.lane.MAX_PACED", 2)

    async def scene() -> None:
        numbers = range(1, 7)
        async with Stage(RecordingFleet(owned={f"a{n}" for n in numbers})) as stage:
            stage.put(*map(firing, numbers))
            await until(lambda: len(stage.fleet.asked) >= 3)
            stage.put(firing(1, "b"))
            await until(lambda: stage.recorder.messages)
            assert stage.fleet.asked == ["claim a1", "claim a2", "claim a3", "claim b1", "sent b1"]
            stage.fleet.free(*(f"a{n}" for n in numbers))
            assert await stage.drain()
            assert len(stage.recorder.messages) == 7

    run(scene)
