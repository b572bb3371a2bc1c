"""What becomes of firings while their receiver fails: attempts kept back, other ways, age, groups."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import pytest
from msgspec import structs
from plain_action import PlainAction
from waiting import LIMIT

from alarm_mw import signals
from alarm_mw.delivery import breaker as breaker_module
from alarm_mw.delivery import lane
from alarm_mw.delivery.dispatcher import Dispatcher, Route
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing, IncidentNotice, Reason, Record, Trigger

QUICK = DeliveryPolicy(backoff_first=0.001, backoff_max=0.002, attempt_timeout=5.0)
SLOW = DeliveryPolicy(backoff_first=1000.0, backoff_max=1000.0)


def firing(alarm: str, number: int, text: str = "") -> Firing:
    message = (text or str(number)).encode() + b"\n"
    return Firing(f"{alarm}{number}", alarm, message, Record(message, "stdout", 1.0, str(number)), float(number))


class Receiver(PlainAction):
    """An action that fails while it is told to; knows what it has taken, and how often it was tried."""

    def __init__(self, error: ActionError | None = None, *, only: bytes = b"") -> None:
        self.error = error
        self.only = only
        self.taken: list[Firing] = []
        self.tries: list[bytes] = []
        self.changed = asyncio.Event()

    async def deliver(self, one: Firing) -> None:
        self.tries.append(one.message)
        self.changed.set()
        if self.error is not None and one.message.startswith(self.only):
            raise self.error
        self.taken.append(one)

    async def until(self, is_so: Callable[[Self], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not is_so(self):
                self.changed.clear()
                await self.changed.wait()

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.taken]


class Shut(Receiver):
    """One that cannot be opened while it has an error."""

    async def __aenter__(self) -> Self:
        self.tries.append(b"")
        self.changed.set()
        if self.error is not None:
            raise self.error
        return self


class Restarts(logging.Handler):
    """Waits until a lane has failed, and rests before it starts again."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "is started again" in record.msg:
            self._seen.set()

    async def wait(self) -> None:
        logger = logging.getLogger(lane.__name__)
        logger.addHandler(self)
        try:
            await asyncio.wait_for(self._seen.wait(), LIMIT)
        finally:
            logger.removeHandler(self)


class Wide(Receiver):
    """One that takes several at once."""

    concurrency: ClassVar[int] = 8


def busy() -> ActionError:
    return ActionError("connection refused", retry=True)


class Stage:
    """An outbox and a dispatcher on the running loop; the ledger balances at the end."""

    def __init__(self, routes: dict[str, Route], outbox: Path | Literal[":memory:"] = ":memory:") -> None:
        self.outbox = Outbox(outbox)
        self.dispatcher = Dispatcher(self.outbox, routes)

    def put(self, *firings: Firing) -> None:
        def book(one: Firing, _: bool) -> None:
            self.outbox.ledger.alarm(one.alarm, "matched")
            self.outbox.ledger.alarm(one.alarm, "fired")

        self.dispatcher.offer(self.outbox.take(firings, book))

    def row(self, alarm: str) -> dict[str, object]:
        return {column: n for column, n in self.outbox.ledger.books()["alarms"][alarm].items() if n}

    async def drain(self, timeout: float = LIMIT) -> bool:
        return await self.dispatcher.drain(timeout, wait_for_retries=True)

    async def __aenter__(self) -> Self:
        self.dispatcher.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.dispatcher.stop()
        assert imbalances(self.outbox.ledger.books(), self.outbox.count_waiting()) == []
        self.outbox.close()


def numbered(alarm: str, count: int) -> Sequence[Firing]:
    return [firing(alarm, number) for number in range(count)]


def test_a_receiver_that_is_down_is_tried_by_one_firing_at_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a thousand that wait only a few attempts are made, whoever makes them; the first success lets all go."""
    monkeypatch.setattr(lane, "OVERTAKEN_AFTER", 1)
    caplog.set_level(logging.INFO)
    policy = DeliveryPolicy(backoff_first=0.01, backoff_max=0.05)

    async def scene() -> None:
        receiver = Wide(busy())
        async with Stage({"a": Route(receiver, policy)}) as stage:
            began = time.monotonic()
            stage.put(*numbered("a", 1000))
            await receiver.until(lambda it: len(it.tries) >= breaker_module.OPEN_AFTER + Wide.concurrency + 5)
            lasted = time.monotonic() - began
            # Those under way when it opened, and one after each pause, which is at least half of the longest then.
            assert len(receiver.tries) <= breaker_module.OPEN_AFTER + Wide.concurrency + lasted / 0.02
            failing = stage.dispatcher.failing()["a"]
            assert failing["is_open"]
            assert failing["error"] == "connection refused"
            assert len(receiver.tries) - failing["failures"] in range(Wide.concurrency + 1)
            assert abs(failing["since"] + lasted - time.time()) < 10.0
            receiver.error = None
            assert await stage.drain()
            assert stage.dispatcher.failing() == {}
        assert len(receiver.taken) == 1000

    asyncio.run(scene())
    assert caplog.text.count("it keeps failing, attempts are made one at a time from now on") == 1
    assert [record.levelname for record in caplog.records if "delivery works again" in record.message] == ["INFO"]


def test_a_receiver_that_answers_is_not_down() -> None:
    """A refusal for good is an answer: what waits behind it is tried at once."""

    async def scene() -> None:
        receiver = Receiver(ActionError("404", retry=False))
        async with Stage({"a": Route(receiver, SLOW)}) as stage:
            stage.put(*numbered("a", 100))
            assert await stage.drain()
            assert stage.row("a")["dead"] == {Reason.REFUSED: 100}

    asyncio.run(scene())


def test_while_it_is_down_firings_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would never be taken does not make the receiver look as if it were down for ever."""
    monkeypatch.setattr(lane, "OVERTAKEN_AFTER", 1)

    async def scene() -> None:
        receiver = Receiver(busy())
        async with Stage({"a": Route(receiver, QUICK)}) as stage:
            stage.put(*numbered("a", 3))
            await receiver.until(lambda it: len(it.tries) > 20)
            receiver.only = b"0"
            await receiver.until(lambda it: len(it.taken) == 2)
            await receiver.until(lambda it: it.tries[-2:] == [b"0\n", b"0\n"])
            assert stage.outbox.count_waiting() == {"a": 1}

    asyncio.run(scene())


@pytest.mark.parametrize("fallback", [(), ("mail",)])
def test_what_waits_for_too_long_is_given_up_though_others_were_tried(fallback: tuple[str, ...]) -> None:
    """A receiver that is down for good keeps no alarm for ever: old ones make way untried, and it is still tried."""
    policy = DeliveryPolicy(give_up_after=0.2, backoff_first=0.02, backoff_max=0.04)

    ends: list[str] = []

    def note(_: str, *, firing: Firing, dead: bool, **_facts: object) -> None:
        ends.extend([firing.id] * dead)

    async def scene() -> None:
        receiver, mail = Receiver(busy()), Receiver()
        route = Route(receiver, policy, fallback, 1000.0)
        async with Stage({"a": route, "mail": Route(mail, QUICK)}) as stage:
            stage.put(*numbered("a", 5))
            assert await stage.drain(30.0)
            before = len(receiver.tries)
            stage.put(*(firing("a", number) for number in range(10, 110)))
            assert await stage.drain(30.0)
            assert 0 < len(receiver.tries) - before < 100
            gone = stage.row("a")["handed_over"] if fallback else stage.row("a")["dead"]
            assert gone == (105 if fallback else {Reason.GAVE_UP: 105})
            receiver.error = None
            stage.put(firing("a", 1000))
            await receiver.until(lambda it: len(it.taken) == 1)

    with signals.failed.connected_to(note):
        asyncio.run(scene())
    assert len(ends) == len(set(ends)) == (0 if fallback else 105)


@pytest.mark.parametrize("failures", [1, breaker_module.OPEN_AFTER])
def test_the_next_attempt_can_be_had_now(failures: int) -> None:
    """Whatever the receiver asked for; else the next attempt is when the state says it is."""

    async def scene() -> None:
        receiver, failed = Receiver(busy()), asyncio.Event()

        def note(_: str, *, error: ActionError, **_facts: object) -> None:
            if error.after:
                failed.set()

        policy = DeliveryPolicy(backoff_first=0.001, backoff_max=0.001)
        async with Stage({"a": Route(receiver, policy), "b": Route(Receiver(), policy)}) as stage:
            stage.put(*numbered("a", 5))
            await receiver.until(lambda it: len(it.tries) == failures)
            receiver.error = ActionError("busy", retry=True, after=1000.0)
            with signals.failed.connected_to(note):
                await asyncio.wait_for(failed.wait(), LIMIT)
            assert 900.0 < stage.dispatcher.failing()["a"]["next_at"] - time.time() < 1100.0
            stage.dispatcher.retry_now(["a", "b", "gone"])
            await receiver.until(lambda it: len(it.tries) == failures + 2)
            receiver.error = None
            stage.dispatcher.retry_now(["a"])
            assert await stage.drain()
        assert sorted(receiver.texts) == ["0", "1", "2", "3", "4"]

    asyncio.run(scene())


def test_what_cannot_be_opened_is_tried_again_now_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an action's next start who wants it now."""
    monkeypatch.setattr(lane, "PAUSE", 1000.0)

    async def scene() -> None:
        receiver = Shut(busy())
        async with Stage({"a": Route(receiver, DeliveryPolicy())}) as stage:
            stage.put(*numbered("a", 1))
            await Restarts().wait()
            receiver.error = None
            stage.dispatcher.retry_now(["a"])
            assert await stage.drain()

    asyncio.run(scene())


def test_a_change_of_the_configuration_waits_for_no_turn() -> None:
    """A lane that keeps attempts back makes way at once."""

    async def scene() -> None:
        down = Receiver(busy())
        policy = DeliveryPolicy(backoff_first=0.001, backoff_max=0.001)
        async with Stage({"a": Route(down, policy)}) as stage:
            stage.put(*numbered("a", 5))
            await down.until(lambda it: len(it.tries) > breaker_module.OPEN_AFTER)
            down.error = ActionError("busy", retry=True, after=1000.0)
            tries = len(down.tries)
            await down.until(lambda it: len(it.tries) > tries)
            up = Receiver()
            await stage.dispatcher.exchange({"a": Route(up, policy)})
            assert await stage.drain()
        assert up.texts == ["0", "1", "2", "3", "4"]

    asyncio.run(scene())


def test_another_way_is_taken_when_the_first_fails(caplog: pytest.LogCaptureFixture) -> None:
    """After its time each firing gets out by the fallback, once, and says by which way it should have come."""

    async def scene() -> None:
        jabber, mail = Receiver(busy()), Receiver()
        routes = {"jabber": Route(jabber, QUICK, ("mail",), 0.05), "mail": Route(mail, QUICK)}
        async with Stage(routes) as stage:
            stage.put(*numbered("jabber", 50))
            assert await stage.drain()
            assert stage.row("jabber") == {"matched": 50, "fired": 50, "handed_over": 50}
            assert stage.row("mail") == {"taken_over": 50, "fired": 50, "delivered": 50}
        assert mail.texts == [f"{number} [instead of jabber]" for number in range(50)]
        assert (mail.taken[0].alarm, mail.taken[0].id, mail.taken[0].via) == ("mail", "jabber0.mail", ("jabber",))

    asyncio.run(scene())
    assert "alarm jabber: handed over to mail: connection refused" in caplog.text


def test_the_first_way_is_probed_and_taken_again() -> None:
    """While firings go the other way, one now and then tries the first one, which is back as soon as it works."""

    async def scene() -> None:
        jabber, mail = Receiver(busy()), Receiver()
        routes = {"jabber": Route(jabber, QUICK, ("mail",), 0.0), "mail": Route(mail, QUICK)}
        async with Stage(routes) as stage:
            stage.put(*numbered("jabber", 200))
            assert await stage.drain()
            assert len(mail.taken) == 200
            jabber.error = None
            async with asyncio.timeout(LIMIT):
                number = 200
                while not jabber.taken:
                    stage.put(firing("jabber", number))
                    assert await stage.drain()
                    number += 1
            stage.put(firing("jabber", number))
            assert await stage.drain()
            assert stage.dispatcher.failing() == {}
        assert len(jabber.taken) == 2
        assert len(jabber.taken) + len(mail.taken) == number + 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("error", "policy"),
    [(ActionError("401", retry=False), SLOW), (busy(), DeliveryPolicy(give_up_after=0.0))],
    ids=["refused", "given up"],
)
def test_what_would_be_a_dead_letter_goes_the_other_way_at_once(error: ActionError, policy: DeliveryPolicy) -> None:
    """Bad credentials do not get better within a minute: the fallback has it at once, and nothing is dead."""

    async def scene() -> None:
        jabber, mail = Receiver(error), Receiver()
        async with Stage({"jabber": Route(jabber, policy, ("mail",)), "mail": Route(mail, QUICK)}) as stage:
            stage.put(firing("jabber", 1))
            assert await stage.drain()
            assert stage.row("jabber") == {"matched": 1, "fired": 1, "handed_over": 1}
        assert mail.texts == ["1 [instead of jabber]"]
        assert len(jabber.tries) == 1

    asyncio.run(scene())


def test_a_firing_goes_along_a_chain_and_waits_at_its_end() -> None:
    """Each way is tried once, in order; the last one keeps it until it can be delivered there."""

    async def scene() -> None:
        refusal = ActionError("no", retry=False)
        first, second, third, last = Receiver(refusal), Receiver(refusal), Receiver(refusal), Receiver(busy())
        routes = {
            "first": Route(first, QUICK, ("second", "gone", "last")),
            "second": Route(second, QUICK, ("third", "first")),
            "third": Route(third, QUICK, ("second",)),
            "last": Route(last, QUICK, (), 0.0),
        }
        async with Stage(routes) as stage:
            stage.put(firing("first", 1))
            await last.until(lambda it: len(it.tries) > 3)
            assert stage.outbox.count_waiting() == {"last": 1}
            last.error = None
            assert await stage.drain()
        assert last.texts == ["1 [instead of first, second, third]"]
        assert [len(way.tries) for way in (first, second, third)] == [1, 1, 1]

    asyncio.run(scene())


def test_a_poisoned_firing_goes_the_other_way_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the receiver does not take, while it takes all others, is handed over as well."""
    monkeypatch.setattr(lane, "OVERTAKEN_AFTER", 1)

    async def scene() -> None:
        jabber, mail = Receiver(busy(), only=b"0"), Receiver()
        routes = {"jabber": Route(jabber, QUICK, ("mail",), 0.05), "mail": Route(mail, QUICK)}
        async with Stage(routes) as stage:
            stage.put(*numbered("jabber", 3))
            assert await stage.drain()
        assert mail.texts == ["0 [instead of jabber]"]
        assert jabber.texts == ["1", "2"]

    asyncio.run(scene())


def test_a_firing_is_handed_over_once(tmp_path: Path) -> None:
    """Where the fallback's firing is there already, it is counted as a duplicate."""

    async def scene() -> None:
        jabber, mail = Receiver(ActionError("no", retry=False)), Receiver(busy())
        routes = {"jabber": Route(jabber, QUICK, ("mail",)), "mail": Route(mail, SLOW)}
        async with Stage(routes, tmp_path / "outbox.db") as stage:
            stage.put(structs.replace(firing("mail", 1), id="jabber1.mail"))
            await mail.until(lambda it: bool(it.tries))
            stage.put(firing("jabber", 1))
            assert not await stage.dispatcher.drain(10.0, wait_for_retries=False)
            assert stage.row("mail")["held_back"] == {Reason.DUPLICATE: 1}

    asyncio.run(scene())


def test_attempts_are_counted_over_restarts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A dead letter tells of all attempts that were made, in earlier processes too."""
    path = tmp_path / "outbox.db"

    async def scene(tries: int, error: ActionError) -> None:
        receiver = Receiver(error)
        async with Stage({"a": Route(receiver, QUICK)}, path) as stage:
            if tries > 1:
                stage.put(firing("a", 1))
            await receiver.until(lambda it: len(it.tries) >= tries)
            if not error.retry:
                assert await stage.drain()

    asyncio.run(scene(3, busy()))
    outbox = Outbox(path)
    (entry,) = outbox.waiting("a", after=0, limit=1)
    outbox.close()
    assert entry.attempts >= 3
    asyncio.run(scene(1, ActionError("no", retry=False)))
    assert f"undeliverable after {entry.attempts + 1} attempts (refused): no" in caplog.text


def test_a_group_is_one_message(tmp_path: Path) -> None:
    """A hundred firings within the time are one; each of them is counted as delivered."""

    async def scene() -> None:
        receiver = Receiver()
        policy = DeliveryPolicy(group_wait=1000.0)
        async with Stage({"a": Route(receiver, policy)}, tmp_path / "outbox.db") as stage:
            stage.put(*numbered("a", 60))
            await asyncio.sleep(0)
            stage.put(*[firing("a", number) for number in range(60, 100)])
            assert await stage.drain()
            assert stage.row("a") == {"matched": 100, "fired": 100, "delivered": 100}
        assert receiver.texts == ["0 [99 more in 99.0 s, the last:]\n99"]
        assert (receiver.taken[0].count, receiver.taken[0].id) == (100, "a0+99")

    asyncio.run(scene())


def test_a_group_ends_with_its_time() -> None:
    """The first one waits so long, and no longer; what comes then is the next group."""

    async def scene() -> None:
        receiver = Receiver()
        async with Stage({"a": Route(receiver, DeliveryPolicy(group_wait=0.2))}) as stage:
            stage.put(firing("a", 1))
            stage.put(firing("a", 2))
            await receiver.until(lambda it: len(it.taken) == 1)
            stage.put(firing("a", 3))
            await receiver.until(lambda it: len(it.taken) == 2)
        assert receiver.texts == ["1 [1 more in 1.0 s, the last:]\n2", "3"]

    asyncio.run(scene())


def test_a_group_that_was_waiting_at_a_kill_waits_no_longer(tmp_path: Path) -> None:
    """What an earlier process gathered is in the outbox, and its time counts."""
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, now=lambda: 1000.0)
    outbox.take(numbered("a", 3), lambda _, __: None)
    outbox.close()

    async def scene() -> None:
        receiver = Receiver()
        again = Outbox(path)
        dispatcher = Dispatcher(again, {"a": Route(receiver, DeliveryPolicy(group_wait=60.0))})
        dispatcher.start()
        await receiver.until(lambda it: bool(it.taken))
        await dispatcher.stop()
        assert receiver.texts == ["0 [2 more in 2.0 s, the last:]\n2"]
        again.close()

    asyncio.run(scene())


def test_a_group_is_handed_over_as_one() -> None:
    """By the fallback comes one message as well."""

    async def scene() -> None:
        jabber, mail = Receiver(ActionError("no", retry=False)), Receiver()
        routes = {"jabber": Route(jabber, DeliveryPolicy(group_wait=1000.0), ("mail",)), "mail": Route(mail, QUICK)}
        async with Stage(routes) as stage:
            stage.put(*numbered("jabber", 3))
            assert await stage.drain()
            assert stage.row("jabber") == {"matched": 3, "fired": 3, "handed_over": 3}
            assert stage.row("mail") == {"taken_over": 1, "fired": 1, "delivered": 1}
        assert mail.texts == ["0 [2 more in 2.0 s, the last:]\n2 [instead of jabber]"]

    asyncio.run(scene())


def test_a_change_ends_a_group() -> None:
    """A lane that gathers makes way at once, and the next one has what it gathered."""

    async def scene() -> None:
        first, second = Receiver(), Receiver()
        async with Stage({"a": Route(first, DeliveryPolicy(group_wait=1000.0))}) as stage:
            stage.put(*numbered("a", 3))
            for _ in range(20):  # more turns of the event loop than it takes to begin to gather
                await asyncio.sleep(0)
            await stage.dispatcher.exchange({"a": Route(second, QUICK)})
            assert await stage.drain()
        assert first.taken == []
        assert second.texts == ["0", "1", "2"]

    asyncio.run(scene())


class Acknowledging(Receiver):
    """One that acknowledges an episode of an incident while it is tried."""

    outbox: Outbox

    async def deliver(self, one: Firing) -> None:
        with self.outbox.transaction() as transaction:
            self.outbox.cancel(transaction, "thread")
        await super().deliver(one)


def test_what_was_acknowledged_is_not_handed_over() -> None:
    """A reminder that was dropped while it waited for its turn goes to no fallback either."""
    notice = IncidentNotice("id", "reminder", 1, "thread", 1.0)
    reminder = structs.replace(firing("a", 1), id="thread-1", trigger=Trigger(incident=notice))

    async def scene() -> None:
        receiver, mail = Acknowledging(busy()), Receiver()
        async with Stage({"a": Route(receiver, SLOW, ("mail",), 0.0), "mail": Route(mail, QUICK)}) as stage:
            receiver.outbox = stage.outbox
            stage.put(firing("a", 0), reminder)
            assert await stage.drain()
            assert (stage.row("a")["handed_over"], stage.row("a")["dropped"]) == (1, {Reason.ACKNOWLEDGED: 1})
        assert mail.texts == ["0 [instead of a]"]

    asyncio.run(scene())
