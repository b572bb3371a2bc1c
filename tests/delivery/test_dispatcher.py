"""Lanes and their dispatcher, with a real outbox in memory."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Literal, Self

import pytest
from msgspec import structs
from plain_action import PlainAction
from waiting import until

from alarm_mw import signals
from alarm_mw.delivery import dispatcher as dispatcher_module
from alarm_mw.delivery import lane
from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import Action, ActionContext
from alarm_mw.model.types import Firing, IncidentNotice, Reason, Record, Trigger
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions

QUICK = DeliveryPolicy(backoff_first=0.001, backoff_max=0.002, attempt_timeout=5.0)


def firing(alarm: str, number: int) -> Firing:
    message = b"%d\n" % number
    return Firing(f"{alarm}{number}", alarm, message, Record(message, "stdout", 1.0, str(number)), 1.0)


def context(alarm: str) -> ActionContext:
    return ActionContext(alarm, lambda _: None)


def recording(recorder: Recorder, alarm: str = "a") -> Action:
    return recorder.find(alarm)(NoOptions(), context(alarm))


class Stage:
    """An outbox and a dispatcher on the running loop."""

    def __init__(
        self, policy: DeliveryPolicy = QUICK, outbox: Path | Literal[":memory:"] = ":memory:", **actions: Action
    ) -> None:
        self.outbox = Outbox(outbox)
        self.policy = policy
        self.dispatcher = Dispatcher(self.outbox, self._routes(actions))

    def _routes(self, actions: dict[str, Action]) -> dict[str, Route]:
        return {name: Route(action, self.policy) for name, action in actions.items()}

    async def exchange(self, **actions: Action) -> None:
        await self.dispatcher.exchange(self._routes(actions))
        await self.dispatcher.settle()

    def put(self, firings: Sequence[Firing]) -> None:
        self.dispatcher.offer(self.outbox.take(firings, lambda one, _: self.outbox.ledger.alarm(one.alarm, "fired")))

    async def drain(self, timeout: float = 10.0, *, wait_for_retries: bool = True) -> bool:
        return await self.dispatcher.drain(timeout, wait_for_retries=wait_for_retries)

    async def __aenter__(self) -> Self:
        self.dispatcher.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.dispatcher.stop()
        self.outbox.close()


class Scripted(PlainAction):
    """An action whose delivery is a function."""

    def __init__(self, deliver: Callable[[Firing], object]) -> None:
        self._deliver = deliver
        self.starts = 0

    async def __aenter__(self) -> Self:
        self.starts += 1
        return self

    async def deliver(self, one: Firing) -> None:
        result = self._deliver(one)
        if asyncio.iscoroutine(result):
            await result


class Blocking(Scripted):
    """An action whose delivery is a plain function, which may block."""

    def deliver(self, one: Firing) -> None:  # type: ignore[override]  # a plain function is allowed as well
        self._deliver(one)


class Unstartable(Scripted):
    """An action that cannot start the first time."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self.starts == 1:
            raise RuntimeError
        return self


def run(scene: Callable[[], object]) -> None:
    coroutine = scene()
    assert asyncio.iscoroutine(coroutine)
    asyncio.run(coroutine)


def test_firings_are_delivered_in_order() -> None:
    """An alarm's firings arrive in the order in which they were fired."""

    async def scene() -> None:
        recorder = Recorder()
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", n) for n in range(200)])
            assert await stage.drain()
        assert recorder.messages == [b"%d\n" % n for n in range(200)]

    run(scene)


def test_a_hanging_alarm_holds_nobody_else_up() -> None:
    """Another alarm is delivered while one hangs."""

    async def scene() -> None:
        recorder = Recorder()
        never = asyncio.Event()
        async with Stage(stuck=Scripted(lambda _: never.wait()), a=recording(recorder)) as stage:
            stage.put([firing("stuck", 1), firing("a", 1)])
            await asyncio.to_thread(recorder.wait_for, 1)
            assert not await stage.drain(0.01)

    run(scene)


def test_a_retry_delivers_in_the_end_and_in_order() -> None:
    """What failed for now is tried again, and what comes behind it waits."""

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(*(ActionError("busy", retry=True, after=0.001) for _ in range(3)))
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", 1), firing("a", 2)])
            assert await stage.drain()
        assert recorder.messages == [b"1\n", b"2\n"]

    run(scene)


def dead_letters(outbox: Outbox) -> dict[str, int]:
    return outbox.ledger.books()["alarms"]["a"]["dead"]


def test_what_cannot_be_delivered_becomes_a_dead_letter() -> None:
    """A refusal is final, is counted with its reason, and holds nothing else up."""

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(ActionError("404", retry=False))
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", 1), firing("a", 2)])
            assert await stage.drain()
            assert dead_letters(stage.outbox) == {Reason.REFUSED: 1}
        assert recorder.messages == [b"2\n"]

    run(scene)


def test_retrying_ends_after_its_time() -> None:
    """After give_up_after seconds a firing goes to the dead letters."""

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(ActionError("busy", retry=True))
        async with Stage(DeliveryPolicy(give_up_after=0.0), a=recording(recorder)) as stage:
            stage.put([firing("a", 1)])
            assert await stage.drain()
            assert dead_letters(stage.outbox) == {Reason.GAVE_UP: 1}

    run(scene)


def test_an_attempt_has_a_time_limit(caplog: pytest.LogCaptureFixture) -> None:
    """An action that hangs is cut off, and tried again; the log names the option that says when."""

    async def scene() -> None:
        never, attempts = asyncio.Event(), []

        async def deliver(one: Firing) -> None:
            attempts.append(one)
            if len(attempts) == 1:
                await never.wait()

        async with Stage(DeliveryPolicy(attempt_timeout=0.01, backoff_first=0.001), a=Scripted(deliver)) as stage:
            stage.put([firing("a", 1)])
            assert await stage.drain()
        assert len(attempts) == 2

    run(scene)
    assert "will be repeated: not done within 0.01 seconds (attempt_timeout)" in caplog.text


def test_a_plugins_mistake_is_a_dead_letter_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """An action that raises what it should not harms only the one firing."""

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(ZeroDivisionError())
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", 1), firing("a", 2)])
            assert await stage.drain()
            assert dead_letters(stage.outbox) == {Reason.REFUSED: 1}
        assert recorder.messages == [b"2\n"]

    run(scene)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
def test_a_shortage_is_no_mistake(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What fails since the system has too little of something is tried again."""

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(error)
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", 1)])
            assert await stage.drain()
        assert recorder.messages == [b"1\n"]

    run(scene)
    assert type(error).__name__ in caplog.text
    assert "Traceback" not in caplog.text


def test_an_action_that_cannot_start_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """A failure at the start of an action delays its alarm, and loses nothing."""

    async def scene() -> None:
        delivered: list[Firing] = []
        action = Unstartable(delivered.append)
        async with Stage(a=action) as stage:
            stage.put([firing("a", 1)])
            assert await stage.drain()
        assert len(delivered) == 1
        assert action.starts == 2

    run(scene)
    assert "started again" in caplog.text


def test_a_blocking_action_blocks_only_its_own_thread() -> None:
    """A plain function delivers in a thread; others are delivered meanwhile."""

    async def scene() -> None:
        recorder, release, threads = Recorder(), threading.Event(), []

        def block(_: Firing) -> None:
            threads.append(threading.current_thread())
            release.wait(10.0)

        async with Stage(blocked=Blocking(block), a=recording(recorder)) as stage:
            stage.put([firing("blocked", 1), firing("a", 1)])
            await asyncio.to_thread(recorder.wait_for, 1)
            release.set()
            assert await stage.drain()
        assert threads[0] is not threading.main_thread()

    run(scene)


def test_what_waited_before_the_start_is_delivered() -> None:
    """Firings that an earlier process left in the outbox are delivered at the start."""

    async def scene() -> None:
        recorder = Recorder()
        stage = Stage(a=recording(recorder))
        stage.outbox.take([firing("a", 1)], lambda _, __: None)
        async with stage:
            assert await stage.drain()
        assert recorder.messages == [b"1\n"]

    run(scene)


def test_a_durable_outbox_does_not_wait_for_retries() -> None:
    """At the end, what is between two attempts may stay in a durable outbox."""

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(ActionError("busy", retry=True, after=1000.0))
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", 1)])
            assert not await stage.drain(60.0, wait_for_retries=False)
            assert stage.outbox.count_waiting() == {"a": 1}

    run(scene)


def test_programs_can_listen() -> None:
    """`delivered` and `failed` are sent with the firing, and a receiver that raises does no harm."""
    heard: list[str] = []

    def note(alarm: str, **facts: object) -> None:
        heard.append(f"{alarm} {'failed' if 'error' in facts else 'delivered'}")
        raise ValueError

    async def scene() -> None:
        recorder = Recorder()
        recorder.fail_with(ActionError("busy", retry=True))
        async with Stage(a=recording(recorder)) as stage:
            stage.put([firing("a", 1)])
            assert await stage.drain()

    with signals.delivered.connected_to(note), signals.failed.connected_to(note):
        run(scene)
    assert heard == ["a failed", "a delivered"]


def test_an_outcome_that_cannot_be_written_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the outbox fails after a delivery, the outcome is written as soon as it can be, and counted once."""
    path = tmp_path / "outbox.db"

    def alter(old: str, new: str) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    async def scene() -> None:
        deliveries: list[Firing] = []

        def deliver(one: Firing) -> None:
            deliveries.append(one)
            alter("ledger", "hidden")
            asyncio.get_running_loop().call_later(0.1, alter, "hidden", "ledger")

        async with Stage(outbox=path, a=Scripted(deliver)) as stage:
            stage.put([firing("a", 1)])
            assert await stage.drain()
            assert stage.outbox.ledger.books()["alarms"]["a"]["delivered"] == 1
        assert len(deliveries) == 1

    run(scene)
    assert "cannot be written" in caplog.text


class Endless(Scripted):
    """An action that does not end."""

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.Event().wait()


def test_an_action_that_does_not_end_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """The end waits for an action no longer than it is told to, and the log names the alarm."""

    async def scene() -> None:
        stage = Stage(a=Endless(lambda _: None), b=recording(Recorder()))
        stage.dispatcher.start()
        stage.put([firing("a", 1)])
        assert await stage.drain()
        await asyncio.wait_for(stage.dispatcher.stop(0.3), 10.0)
        stage.outbox.close()

    run(scene)
    assert "alarm a: its action did not end" in caplog.text
    assert "alarm b: its action did not end" not in caplog.text


def test_nothing_to_stop_is_no_error() -> None:
    """A configuration without alarms starts and stops."""

    async def scene() -> None:
        async with Stage() as stage:
            assert await stage.drain()

    run(scene)


def test_firings_behind_the_end_stay_in_the_outbox() -> None:
    """Whoever submits when the loop is closed already is not disturbed."""
    stages: list[Stage] = []

    async def scene() -> None:
        stages.append(Stage(a=recording(Recorder())))

    run(scene)
    stages[0].put([firing("a", 1)])
    assert stages[0].outbox.count_waiting() == {"a": 1}
    stages[0].outbox.close()


class Concurrent(Scripted):
    """An action that delivers several messages at a time."""

    concurrency: ClassVar[int] = 4


def test_a_drain_waits_for_the_end_of_an_incident_behind_its_beginning() -> None:
    """A message that waits for an earlier one about the same incident is not stuck, whatever else is retried."""

    def about(status: str, number: int) -> Firing:
        notice = IncidentNotice("i", status, 1, "i-1-1", 0.0)
        return structs.replace(firing("a", number), id=f"i-1-1-{number}.a", trigger=Trigger(incident=notice))

    async def scene() -> None:
        is_free, delivered = asyncio.Event(), list[str]()

        async def deliver(one: Firing) -> None:
            if one.trigger is None:
                raise ActionError("busy", retry=True)
            await is_free.wait()
            delivered.append(one.trigger.incident.status if one.trigger.incident else "")

        async with Stage(a=Concurrent(deliver)) as stage:
            stage.put([firing("a", 0), about("firing", 1), about("resolved", 2)])
            draining = asyncio.create_task(stage.drain(wait_for_retries=False))
            await asyncio.sleep(0)
            is_free.set()
            assert not await draining
            assert delivered == ["firing", "resolved"]

    run(scene)


def test_an_outbox_that_cannot_be_read_ends_no_drain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the outbox unreadable the end is not known to be reached, and no exception is raised."""
    path = tmp_path / "outbox.db"

    async def scene() -> None:
        async with Stage(outbox=path, a=recording(Recorder())) as stage:
            with closing(sqlite3.connect(path)) as database:
                database.execute("ALTER TABLE firings RENAME TO hidden")
                assert not await stage.drain(0.01)
                database.execute("ALTER TABLE hidden RENAME TO firings")

    run(scene)
    assert "the outbox cannot be read" in caplog.text


def test_pauses_grow_and_are_bounded() -> None:
    """The pause before a retry doubles up to its limit and is never below half of it."""
    policy = DeliveryPolicy(backoff_first=1.0, backoff_max=10.0)
    assert [policy.pause(attempt, 1.0) for attempt in (1, 2, 3, 4, 5, 1000)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert policy.pause(3, 0.0) == 2.0


def test_a_message_that_is_never_taken_lets_others_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a receiver keeps refusing for now does not silence the alarm: those behind it are delivered."""
    monkeypatch.setattr(lane, "OVERTAKEN_AFTER", 2)

    delivered: list[bytes] = []
    all_of_them = asyncio.Event()

    def deliver(one: Firing) -> None:
        if one.message == b"0\n":
            raise ActionError("500", retry=True)

    def note(alarm: str, firing: Firing) -> None:
        delivered.append(firing.message)
        if len(delivered) == 4:
            all_of_them.set()

    async def scene() -> None:
        async with Stage(a=Scripted(deliver)) as stage:
            stage.put([firing("a", n) for n in range(5)])
            await asyncio.wait_for(all_of_them.wait(), 10.0)
            assert stage.outbox.count_waiting() == {"a": 1}

    with signals.delivered.connected_to(note):
        run(scene)
    assert delivered == [b"%d\n" % n for n in range(1, 5)]


def test_an_unchanged_alarm_goes_on_undisturbed() -> None:
    """A change of the configuration neither stops nor starts what it does not touch; new alarms are delivered."""

    async def scene() -> None:
        release, delivered = asyncio.Event(), []

        async def deliver(one: Firing) -> None:
            await release.wait()
            delivered.append(one.message)

        same, other = Scripted(deliver), Recorder()
        async with Stage(a=same) as stage:
            stage.put([firing("a", n) for n in range(3)])
            await asyncio.sleep(0)
            await stage.exchange(a=same, b=recording(other))
            stage.put([firing("b", 1)])
            await asyncio.to_thread(other.wait_for, 1)
            release.set()
            assert await stage.drain()
        assert delivered == [b"0\n", b"1\n", b"2\n"]
        assert same.starts == 1

    run(scene)


def test_a_changed_alarm_finishes_its_attempt_first() -> None:
    """The new action gets what the old one had not begun: nothing is lost, repeated, or out of order."""

    async def scene() -> None:
        release, begun, delivered = asyncio.Event(), asyncio.Event(), []

        async def deliver(one: Firing) -> None:
            begun.set()
            await release.wait()
            delivered.append(b"old " + one.message)

        async with Stage(a=Scripted(deliver)) as stage:
            stage.put([firing("a", n) for n in range(3)])
            await begun.wait()
            for _ in range(3):  # each takes over from the one before, which never got to deliver
                await stage.exchange(a=Scripted(lambda one: delivered.append(b"new " + one.message)))
            assert not await stage.drain(0.05)
            assert delivered == []
            release.set()
            assert await stage.drain()
            assert delivered == [b"old 0\n", b"new 1\n", b"new 2\n"]
            assert stage.outbox.ledger.books()["alarms"]["a"]["delivered"] == 3

    run(scene)


@pytest.mark.parametrize("patience", [1, 1000], ids=["stood aside", "in its place"])
def test_a_changed_alarm_does_not_wait_for_a_pause(monkeypatch: pytest.MonkeyPatch, patience: int) -> None:
    """What waits for its next attempt is tried by the new action at once."""
    monkeypatch.setattr(lane, "OVERTAKEN_AFTER", patience)

    async def scene() -> None:
        recorder, failed = Recorder(), asyncio.Event()

        def fail(_: Firing) -> None:
            failed.set()
            raise ActionError("busy", retry=True, after=1000.0)

        async with Stage(a=Scripted(fail)) as stage:
            stage.put([firing("a", 1)])
            await failed.wait()
            assert not await stage.drain(10.0, wait_for_retries=False)
            await stage.exchange(a=recording(recorder))
            assert await stage.drain()
        assert recorder.messages == [b"1\n"]

    run(scene)


def test_a_changed_alarm_does_not_wait_for_an_action_that_cannot_start() -> None:
    """An action that is to be started again some time makes way at once."""

    async def scene() -> None:
        recorder, failed = Recorder(), asyncio.Event()

        class Broken(Scripted):
            async def __aenter__(self) -> Self:
                failed.set()
                raise RuntimeError

        slow = DeliveryPolicy(backoff_first=1000.0, backoff_max=1000.0)
        async with Stage(slow, a=Broken(lambda _: None)) as stage:
            stage.put([firing("a", 1)])
            await failed.wait()
            await stage.exchange(a=recording(recorder))
            assert await stage.drain()
        assert recorder.messages == [b"1\n"]

    run(scene)


def test_an_attempt_that_does_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The new action begins at the latest when the old one's time limit is over, and the log says why."""
    monkeypatch.setattr(dispatcher_module, "GRACE", 0.01)

    async def scene() -> None:
        recorder, begun = Recorder(), asyncio.Event()

        class Stuck(Scripted):
            async def __aexit__(self, *exc: object) -> None:
                await asyncio.Event().wait()

        async with Stage(DeliveryPolicy(attempt_timeout=0.01), a=Stuck(lambda _: begun.set())) as stage:
            stage.put([firing("a", 1)])
            await begun.wait()
            await stage.exchange(a=recording(recorder))
            stage.put([firing("a", 2)])
            await asyncio.to_thread(recorder.wait_for, 1)
        assert recorder.messages == [b"2\n"]

    run(scene)
    assert "alarm a: what it began before the change did not end" in caplog.text


def test_a_removed_alarm_delivers_what_was_fired_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm that is taken out keeps its lane until nothing waits for it; given again, it has its new action."""
    monkeypatch.setattr(dispatcher_module, "RETIRE_EVERY", 0.001)

    async def scene() -> None:
        recorder, release, begun = Recorder(), asyncio.Event(), asyncio.Event()

        async def deliver(_: Firing) -> None:
            begun.set()
            await release.wait()

        async with Stage(a=Scripted(deliver), b=recording(Recorder())) as stage:
            stage.put([firing("a", 1), firing("a", 2)])
            await begun.wait()
            await stage.exchange(b=recording(Recorder()))
            assert stage.dispatcher.retired == ("a",)
            release.set()
            await until(lambda: not stage.dispatcher.retired)
            stage.put([firing("a", 3)])
            await asyncio.sleep(0)
            assert stage.outbox.count_waiting() == {"a": 1}
            await stage.exchange(a=recording(recorder))
            assert await stage.drain()
        assert recorder.messages == [b"3\n"]

    run(scene)


def test_a_change_needs_no_outbox_that_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the outbox unreadable it is not known what waits; a removed alarm keeps its lane until it is."""
    monkeypatch.setattr(dispatcher_module, "RETIRE_EVERY", 0.001)
    path = tmp_path / "outbox.db"

    async def scene() -> None:
        async with Stage(outbox=path, a=recording(Recorder())) as stage:
            with closing(sqlite3.connect(path)) as database:
                database.execute("ALTER TABLE firings RENAME TO hidden")
                await stage.exchange()
                assert not await stage.drain(0.05)
                assert stage.dispatcher.retired == ("a",)
                database.execute("ALTER TABLE hidden RENAME TO firings")
            await until(lambda: not stage.dispatcher.retired)

    run(scene)
    assert "the outbox cannot be read" in caplog.text


def test_nothing_is_drained_before_the_start() -> None:
    """A dispatcher that was never started has delivered nothing, takes nothing, and says so."""

    async def scene() -> None:
        outbox = Outbox(":memory:")
        dispatcher = Dispatcher(outbox, {"a": Route(recording(Recorder()), QUICK)})
        dispatcher.offer(outbox.take([firing("a", 1)], lambda *_: None))
        dispatcher.wake(["a"])
        assert not await dispatcher.drain(1.0, wait_for_retries=True)
        await dispatcher.stop()
        outbox.close()

    asyncio.run(scene())


@pytest.mark.parametrize("is_back", [False, True])
def test_a_lane_stays_until_no_rule_fires_its_alarm_any_more(monkeypatch: pytest.MonkeyPatch, *, is_back: bool) -> None:
    """While the old rules may still fire an alarm that leaves, those that left before end, and its lane does not.

    Neither does it where the alarm had left once before, and had come back.
    """
    monkeypatch.setattr(dispatcher_module, "RETIRE_EVERY", 0.001)

    async def scene() -> None:
        stays, leaves, gone = ({name: Route(recording(Recorder()), QUICK)} for name in ("stays", "leaves", "gone"))
        outbox = Outbox(":memory:")
        dispatcher = Dispatcher(outbox, {**stays, **leaves, **gone})
        dispatcher.start()
        if is_back:
            await dispatcher.exchange({**stays, **gone})
            await dispatcher.settle()
            await dispatcher.exchange({**stays, **leaves, **gone})
        await dispatcher.exchange({**stays, **leaves})
        await dispatcher.settle()
        await dispatcher.exchange(stays)
        await until(lambda: "gone" not in dispatcher.names())
        assert dispatcher.names() == {"stays", "leaves"}
        await dispatcher.settle()
        await until(lambda: "leaves" not in dispatcher.names())
        await dispatcher.stop(1.0)
        outbox.close()

    asyncio.run(scene())


def test_the_end_waits_for_those_that_leave() -> None:
    """A lane that still finishes when everything ends is stopped as well."""

    async def scene() -> None:
        begun, ended = asyncio.Event(), []

        async def deliver(_: Firing) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async with Stage(a=Scripted(deliver)) as stage:
            stage.put([firing("a", 1)])
            await begun.wait()
            await stage.exchange()
        assert ended == [True]

    run(scene)


def test_an_attempt_may_have_no_time_limit() -> None:
    """With `attempt_timeout` 0 an attempt goes on until it ends; since when is known, of those that take long."""
    release = asyncio.Event()
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await release.wait()

    async def scene() -> None:
        policy = DeliveryPolicy(attempt_timeout=0)
        async with Stage(policy, a=Scripted(lambda _: wait()), b=Scripted(lambda _: None)) as stage:
            assert stage.dispatcher.long_since(0.0) == {}
            stage.put([firing("a", 1)])
            await begun.wait()
            assert not await stage.drain(0.01)
            assert list(stage.dispatcher.long_since(0.0)) == ["a"]
            assert stage.dispatcher.long_since(60.0) == {}
            release.set()
            assert await stage.drain()
            assert stage.dispatcher.long_since(0.0) == {}

    asyncio.run(scene())


def test_a_changed_alarm_waits_for_an_attempt_without_a_time_limit() -> None:
    """What runs for as long as it takes is neither ended nor begun anew by a reload."""
    begun, release, seen = asyncio.Event(), asyncio.Event(), []

    async def wait(one: Firing) -> None:
        begun.set()
        await release.wait()
        seen.append(("old", one.id))

    async def scene() -> None:
        async with Stage(DeliveryPolicy(attempt_timeout=0), a=Scripted(wait)) as stage:
            stage.put([firing("a", 1)])
            await begun.wait()
            await stage.exchange(a=Scripted(lambda one: seen.append(("new", one.id))))
            stage.put([firing("a", 2)])
            assert not await stage.drain(0.05)
            release.set()
            assert await stage.drain()

    asyncio.run(scene())
    assert seen == [("old", "a1"), ("new", "a2")]
