"""The connection of a member to the shared state: heartbeats, events, and the way back after a failure."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from alarm_mw.fleet.store import Answer, Beat, Event, FleetUnreachableError, Store
from alarm_mw.fleet.tasks import end, is_set, within
from alarm_mw.model.fleet import while_away

log = logging.getLogger(__name__)


#: After how many heartbeats another process of the same name is no former process of this machine.
TWIN_BEATS = 3

#: After how many times between two heartbeats without a sign of life of the other process nothing is shown of it.
TWIN_GONE = 2.5


class Periods(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a fleet, in seconds. All members should have the same."""

    #: Between two signs of life.
    heartbeat: float = 3.0
    #: An owner that was not heard of for so long loses its messages.
    owner_timeout: float = 15.0
    #: A machine that was not heard of for so long is an incident.
    silent_after: float = 60.0
    #: What a machine reported counts as over when it was not heard of for so long.
    gone_after: float = 3600.0
    #: Nobody misses a machine any more.
    forget_after: float = 86_400.0
    #: The end of an incident that no machine reports is sent by any member.
    owed_after: float = 20.0
    #: Between two looks at what others have left.
    sweep_every: float = 3.0
    #: For how long a new generation waits for what members know.
    grace: float = 6.0
    #: For how long a machine that gives a message up leaves it to others.
    release_pause: float = 10.0
    #: Any message waits so long for a fleet that went away: Redis restarts, or fails over.
    tolerance: float = 2.0
    #: A message that another machine owns, or has sent before, waits so long.
    patience: float = 60.0
    #: The end of an incident that another machine has told waits so long.
    end_patience: float = 600.0
    #: Seconds before the first and between further attempts to connect, each spread at random.
    reconnect_first: float = 0.5
    reconnect: float = 10.0
    #: Between two comparisons of what is firing here with what the fleet knows.
    compare: float = 60.0
    #: How long a firing waits for the very first connection.
    first_connection: float = 5.0
    #: Events are gathered for so long.
    gather: float = 0.1


class Listener(Protocol):
    """What follows from what comes over the connection. All methods are called on the event loop."""

    def info(self) -> str:
        """Return facts about this machine for the others, as JSON."""
        ...

    def connected(self, grace: float) -> None:
        """Take note of a new connection, or a new shared state, which waits `grace` seconds for what members know."""
        ...

    def event(self, event: Event) -> None:
        """Take note of an event."""
        ...

    def sweep(self) -> Awaitable[None]:
        """Look after what others have left: it is this member's turn."""
        ...


class Clock:
    """The shared clock, as far as this member knows it. A step of this machine's clock does not change it."""

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._wall = wall
        #: Milliseconds by which the shared clock is ahead of the monotonic one; None before the first answer.
        self._offset: float | None = None

    def note(self, now: int, sent: float, received: float) -> None:
        """Take an answer in that names the shared time; the others are `monotonic`'s seconds."""
        self._offset = now - (sent + received) / 2 * 1000

    def now(self) -> int:
        """Return the shared time in milliseconds."""
        if self._offset is None:
            return int(self._wall() * 1000)
        return int(self.monotonic() * 1000 + self._offset)

    def wall(self, moment: float) -> float:
        """Return a shared time in seconds since the epoch by this machine's clock."""
        return self._wall() + (moment - self.now()) / 1000

    def shared(self, moment: float) -> int:
        """Return a time of this machine's clock as a shared time."""
        return int(self.now() + (moment - self._wall()) * 1000)


class Link:
    """Lives on one event loop."""

    def __init__(
        self,
        store: Store,
        machine: str,
        instance: str,
        listener: Listener,
        periods: Periods,
        *,
        is_hub: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`instance` names this process: two of one machine name are noticed."""
        self.store = store
        self.clock = Clock(monotonic, wall)
        self.periods = periods
        self._machine = machine
        self._is_hub = is_hub
        self._instance = instance
        self._listener = listener
        self._monotonic = monotonic
        #: ``connecting``, ``connected`` or ``away``.
        self.state = "connecting"
        #: Why the fleet is away, for people.
        self.error = ""
        #: What else is wrong.
        self.warning = ""
        #: When it went away, in `monotonic`'s seconds.
        self.away_since = monotonic()
        self.generation = 0
        #: When this member joined, by the shared clock itself.
        self.joined = 0
        #: Seconds that the last heartbeat took.
        self.lag = 0.0
        self.reconnects = 0
        self.is_connected = asyncio.Event()
        #: Set after the first attempt to connect.
        self.is_known = asyncio.Event()
        self._down = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._place = ""
        #: How often another process was seen, and when last.
        self._twins = 0
        self._twin_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._task = asyncio.create_task(self._run(), name="alarm-mw-fleet")

    async def stop(self, timeout: float) -> None:
        """Say goodbye, and end. Takes at most `timeout` seconds, and as long to close."""
        task, self._task = self._task, None
        if task is not None:
            await end([task])
        if not (await self._leave(timeout / 2) or await self._leave(timeout / 2)) and self.generation:
            log.warning("fleet: could not say goodbye, other machines will report this one as silent: %s", self.error)
        self.is_connected.clear()
        await self.store.close()

    async def _leave(self, timeout: float) -> bool:
        """Say goodbye within so many seconds of a loop that may be kept from running; return whether it was heard."""
        try:
            await within(self._say_goodbye(), timeout)
        except (FleetUnreachableError, TimeoutError) as error:
            self.error = str(error) or f"no answer within {timeout:g} s"
            return False
        return True

    async def _say_goodbye(self) -> None:
        """Say it over a new connection where this one is lost, or was tried before."""
        if self.state != "connected":
            await self.store.connect()
        self.state = "away"
        await self.store.beat(self._sign(leaving=True))

    async def call(self, call: Awaitable[Answer]) -> Answer:
        """Return an answer; raise `FleetUnreachableError` and note that the fleet is away."""
        try:
            answer = await call
        except FleetUnreachableError as error:
            if self.state != "away":  # or its call was one of several
                self.lost(error)
            raise
        self._note(answer)
        return answer

    def lost(self, error: FleetUnreachableError) -> None:
        """Note that the fleet cannot be reached."""
        if self.state != "away":
            if self.state == "connected" or str(error) != self.error:
                log.warning("fleet: unreachable, %s: %s", while_away(is_hub=self._is_hub), error)
            self.away_since = self._monotonic() - error.waited
        elif str(error) != self.error:
            log.warning("fleet: still unreachable: %s", error)
        self.error = str(error)
        self.state = "away"
        self.is_connected.clear()
        self.is_known.set()
        self._down.set()

    def _note(self, answer: Answer) -> None:
        if self.generation and answer.gen != self.generation:
            self.generation = answer.gen
            log.warning("fleet: the shared state is new: this member says again what it knows")
            self._place = f"{max(answer.gen - 1, 0)}-0"
            self._listener.connected(self.periods.grace)

    async def _run(self) -> None:
        failures = 0
        while True:
            self._down.clear()
            try:
                await self._connect()
                failures = 0
                await self._stay()
            except FleetUnreachableError as error:
                self.lost(error)
            except Exception as error:  # a mistake must not end it
                log.exception("fleet: unexpected failure, connecting again")
                self.lost(FleetUnreachableError(f"unexpected failure: {error!r}"))
            self.state = "away"
            self.is_connected.clear()
            await self.store.close()
            failures += 1
            most = min(self.periods.reconnect_first * 2**failures, self.periods.reconnect)
            await asyncio.sleep(random.uniform(self.periods.reconnect_first / 2, most))

    async def _connect(self) -> None:
        await self.store.connect()
        answer = await self._beat(hello=True)
        is_new = answer.gen != self.generation
        is_first = not self.generation
        self.generation = answer.gen
        if is_first:
            self.joined = answer.now
            self._place = f"{max(answer.now - 3_600_000, 0)}-0"
        elif is_new:
            self._place = f"{max(answer.gen - 1, 0)}-0"
        if self.state == "away":
            log.info("fleet: connected again")
            self.reconnects += 1
        self.error = ""
        self.state = "connected"
        self.is_connected.set()
        self.is_known.set()
        self._listener.connected(answer.grace / 1000 if is_new else 0.0)
        await self._swept(answer)

    async def _stay(self) -> None:
        """Return, or raise, when the connection is lost."""
        tasks = [asyncio.create_task(each) for each in (self._beats(), self._events(), self._lost())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(tasks)
        for task in done:
            await task

    async def _lost(self) -> None:
        await self._down.wait()

    async def _beats(self) -> None:
        while True:
            pause = self.periods.heartbeat * random.uniform(0.8, 1.2)
            await is_set(self._beat_now, pause)
            self._beat_now.clear()
            answer = await self._beat()
            self._note(answer)
            await self._swept(answer)

    async def _swept(self, answer: Answer) -> None:
        if answer.sweep:
            await self._listener.sweep()

    async def _beat(self, *, hello: bool = False) -> Answer:
        sent = self._monotonic()
        answer = await self.store.beat(self._sign(hello=hello))
        received = self._monotonic()
        self.lag = received - sent
        self.clock.note(answer.now, sent, received)
        self._note_twin(answer.twin)
        return answer

    def _note_twin(self, twin: str) -> None:
        """Another process has the same name. Once may be the former process of this machine.

        Of two that are alive, each may give several signs of life between two of the other one.
        """
        now = self._monotonic()
        if twin:
            self._twins, self._twin_at = self._twins + 1, now
            if self._twins >= TWIN_BEATS:
                self.warning = (
                    f"another master of the fleet is called {self._machine!r} too, and each takes the other's messages "
                    "for its own: set [fleet] machine to a name of its own for one of them"
                )
            if self._twins == TWIN_BEATS:
                log.error("fleet: %s", self.warning)
        elif now - self._twin_at > 2 * self.periods.owner_timeout:
            self._twins, self.warning = 0, ""
        elif now - self._twin_at > TWIN_GONE * self.periods.heartbeat:
            self.warning = ""  # it has stopped, or is slow: then nothing is logged again

    def _sign(self, *, hello: bool = False, leaving: bool = False) -> Beat:
        periods = self.periods
        return Beat(
            machine=self._machine,
            instance=self._instance,
            info=self._listener.info(),
            hello=hello,
            leaving=leaving,
            grace=int(periods.grace * 1000),
            owner_timeout=int(periods.owner_timeout * 1000),
            sweep_every=int(periods.sweep_every * 1000),
        )

    async def _events(self) -> None:
        while True:
            place = self._place
            for event in await self.store.events(place):
                if self._place == place:
                    self._place = place = event.id
                    if event.kind == "gen":
                        self._beat_now.set()
                    else:
                        self._listener.event(event)
            await asyncio.sleep(self.periods.gather)
