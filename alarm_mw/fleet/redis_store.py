"""The shared state of a fleet on Redis or Valkey, from version 7.0 on."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from alarm_mw.fleet.addresses import address_of
from alarm_mw.fleet.store import (
    Answer,
    Beat,
    Event,
    Facts,
    FleetUnreachableError,
    IncidentFacts,
    IncidentRecord,
    Offer,
    PastEpisode,
    Settlement,
    Sweep,
)
from alarm_mw.fleet.tasks import end, within
from alarm_mw.model.fleet import SharedOrder, SharedSilence

#: Seconds for each call, from when it is made.
TIMEOUT = 2.0

#: Seconds between two looks for calls that have waited for too long.
LOOK = 0.1

#: Seconds for which calls are gathered, and how many are sent at once.
BATCH_WAIT, BATCH = 0.02, 500

#: Calls that wait for Redis; more are refused.
MOST_CALLS = 20_000

#: Milliseconds for which Redis keeps a request for events, and how many it returns at once.
BLOCK, EVENTS = 2000, 1000

#: How many incidents, and machines of each, are shown to people; how many past episodes are read at once.
SHOWN, NAMES, PART = 500, 20, 500

#: Milliseconds for which messages wait for a hub; their machines have them as well.
KEPT = 86_400_000

_WRONG_PASSWORD = "wrong user or password"  # noqa: S105  # a text about it

#: What an operator can do about an error.
_REMEDIES = (
    (OutOfMemoryError, "its memory is full (maxmemory)"),
    (NoPermissionError, "the user lacks a permission (see the ACL in the guide)"),
    (AuthenticationError, _WRONG_PASSWORD),
    (ReadOnlyError, "it is a read-only replica"),
    (BusyLoadingError, "it is still loading its data"),
    (MovedError, "another node of the cluster has the state"),
)

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_answers = msgspec.json.Decoder(Answer)


class Library(NamedTuple):
    """The functions, under a name that differs between versions: members of several versions use one Redis."""

    name: str
    code: str


@functools.cache
def library() -> Library:
    """Return the functions that this version uses."""
    code = resources.files(__package__).joinpath("functions.lua").read_text(encoding="utf-8")
    name = f"alarm_mw_{hashlib.blake2b(code.encode(), digest_size=4).hexdigest()}"
    return Library(name, code.replace("@LIBRARY@", name))


class _Call(NamedTuple):
    name: str
    body: bytes
    answer: asyncio.Future[Answer]
    #: How often was looked for late calls before it was made.
    looks: int


class RedisStore:
    """Lives on one event loop. Implements `Store`."""

    def __init__(self, url: str, fleet: str, *, timeout: float = TIMEOUT) -> None:
        """`timeout` is in seconds, for each call. Raises `ValueError` for a wrong URL."""
        self._address = address_of(url)
        self._prefix = f"{{alarm_mw:{fleet}}}:"
        self._timeout = timeout
        self._client: Redis | None = None
        #: Waits for events.
        self._stream: Redis | None = None
        #: Of a cluster: the node that has this fleet.
        self._node: tuple[str, int] | None = None
        #: Those that are not sent, and all.
        self._calls: list[_Call] = []
        self._waiting: deque[_Call] = deque()
        self._looks = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._is_due = asyncio.Event()
        #: How many calls were made, and in how many batches.
        self.calls = 0
        self.batches = 0

    async def connect(self) -> None:
        """Connect again. Raises `FleetUnreachableError`."""
        await self.close()
        try:
            await self._read(self._connect())
            self._stream = await self._read(self._address.connect(self._node))
        except (ValueError, TypeError) as error:  # redis-py's; its text may show a part of a password
            raise FleetUnreachableError("redis-py cannot use the url of [fleet]: see `alarm-mw check`") from error
        self._is_due.clear()
        self._tasks = [
            asyncio.create_task(self._flush(self._ready()), name="alarm-mw-fleet-calls"),
            asyncio.create_task(self._fail_late(), name="alarm-mw-fleet-late"),
        ]

    async def close(self) -> None:
        """Close the connections. Calls that wait fail."""
        tasks, self._tasks = self._tasks, []
        await end(tasks)
        self._fail(self._waiting, FleetUnreachableError("the connection was closed"))
        self._calls.clear()
        self._waiting.clear()
        clients, self._client, self._stream = (self._client, self._stream), None, None
        for client in clients:
            if client is not None:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    async def _connect(self) -> None:
        """Connect to the server that has the state: a node of a cluster names the one that has it."""
        self._node = None
        client = self._client = await self._address.connect()
        try:
            await client.exists(f"{self._prefix}gen")
        except MovedError as error:
            self._node = (error.host, error.port)
            await client.aclose()
            self._client = await self._address.connect(self._node)

    async def _read(self, call: Coroutine[object, object, T], *, more: float = 0.0) -> T:
        """Return the result of a call that is not gathered with others; it may take this many seconds more."""
        try:
            return await within(call, self._timeout + more)
        except (RedisError, OSError, TimeoutError) as error:
            raise _unreachable(error, self._timeout) from error

    # Calls

    async def offer(self, offer: Offer) -> Answer:
        """See `Store`."""
        return await self._call("offer", offer)

    async def settle(self, settlement: Settlement) -> Answer:
        """See `Store`."""
        return await self._call("settle", settlement)

    async def release(self, settlement: Settlement) -> Answer:
        """See `Store`."""
        return await self._call("release", settlement)

    async def resolve(self, offer: Offer) -> Answer:
        """See `Store`."""
        return await self._call("resolve", offer)

    async def beat(self, beat: Beat) -> Answer:
        """See `Store`."""
        return await self._call("beat", beat)

    async def sweep(self, sweep: Sweep) -> Answer:
        """See `Store`."""
        return await self._call("sweep", sweep)

    async def silence(self, silence: SharedSilence) -> Answer:
        """See `Store`."""
        return await self._call("silence", silence)

    async def order(self, order: SharedOrder) -> Answer:
        """See `Store`."""
        return await self._call("order", order)

    async def _call(self, name: str, body: msgspec.Struct) -> Answer:
        if self._client is None:
            raise FleetUnreachableError("not connected")
        if len(self._waiting) >= MOST_CALLS:
            raise FleetUnreachableError("too many calls wait")
        call = _Call(name, _encoder.encode(body), asyncio.get_running_loop().create_future(), self._looks)
        self._calls.append(call)
        self._waiting.append(call)
        self._is_due.set()
        return await call.answer

    async def _fail_late(self) -> None:
        """Let calls fail that have waited for too long.

        The time counts in looks: a process that was kept from running for a while takes the answers first.
        """
        most = round(self._timeout / LOOK)
        while True:
            await asyncio.sleep(LOOK)
            self._looks += 1
            while self._waiting and (self._waiting[0].answer.done() or self._looks - self._waiting[0].looks > most):
                self._fail([self._waiting.popleft()], _unreachable(TimeoutError(), self._timeout))

    async def _flush(self, client: Redis) -> None:
        """Send what has gathered, all in one go."""
        while True:
            await self._is_due.wait()
            await asyncio.sleep(BATCH_WAIT)
            calls, self._calls = self._calls[:BATCH], self._calls[BATCH:]
            if not self._calls:
                self._is_due.clear()
            try:
                await self._send(client, calls)
            except (RedisError, OSError) as error:
                self._fail(calls, _unreachable(error, self._timeout))

    async def _send(self, client: Redis, calls: Sequence[_Call]) -> None:
        # Nobody waits for an answer that is too late.
        pending = [call for call in calls if not call.answer.done()]
        if not pending:
            return
        answers = await self._execute(client, pending)
        if any(_is_missing(answer) for answer in answers):
            error = await self._load(client)
            answers = [
                (error or (await self._execute(client, [call]))[0]) if _is_missing(answer) else answer
                for call, answer in zip(pending, answers, strict=True)
            ]
        self.calls += len(pending)
        self.batches += 1
        for call, answer in zip(pending, answers, strict=True):
            if call.answer.done():
                continue
            if isinstance(answer, Exception):
                call.answer.set_exception(_unreachable(answer, self._timeout))
            else:
                call.answer.set_result(_answers.decode(answer))

    async def _execute(self, client: Redis, calls: Sequence[_Call]) -> list[Any]:
        name, key = library().name, f"{self._prefix}gen"
        async with client.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command("FCALL", f"{name}_{call.name}", 1, key, call.body)
            return list(await pipeline.execute(raise_on_error=False))

    async def _load(self, client: Redis) -> ResponseError | None:
        """Load the functions; return what keeps them from being loaded."""
        try:
            await client.function_load(library().code)
        except ResponseError as error:
            return None if "already exists" in str(error) else error  # another member was faster
        return None

    @staticmethod
    def _fail(calls: Iterable[_Call], error: FleetUnreachableError) -> None:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)

    # Reads

    def _ready(self) -> Redis:
        if self._client is None:
            raise FleetUnreachableError("not connected")
        return self._client

    async def silences(self) -> Sequence[SharedSilence]:
        """See `Store`."""
        found: list[bytes] = await self._read(_hvals(self._ready(), f"{self._prefix}sil"))
        return [msgspec.json.decode(each, type=SharedSilence) for each in found]

    async def dead(self) -> Mapping[str, tuple[bytes, bytes]]:
        """See `Store`."""
        return await self._read(self._dead(self._ready()))

    async def _dead(self, client: Redis) -> Mapping[str, tuple[bytes, bytes]]:
        found: dict[bytes, bytes] = await client.hgetall(f"{self._prefix}dead")  # type: ignore[assignment]
        if not found:
            return {}
        facts: list[bytes | None] = await client.hmget(f"{self._prefix}mach", list(found))  # type: ignore[assignment]
        return {name.decode(): (found[name], fact or b"{}") for name, fact in zip(found, facts, strict=True)}

    async def events(self, after: str) -> Sequence[Event]:
        """See `Store`."""
        if self._stream is None:
            raise FleetUnreachableError("not connected")
        return await self._read(self._events(self._stream, after), more=BLOCK / 1000)

    async def _events(self, client: Redis, after: str) -> Sequence[Event]:
        found: Any = await client.xread({f"{self._prefix}ev": after}, count=EVENTS, block=BLOCK)
        entries = [entry for _, entries in found for entry in entries]
        return [Event(name.decode(), fields[b"t"].decode(), fields[b"d"]) for name, fields in entries]

    # The hub

    async def hand_over(self, name: str, data: bytes, most: int) -> bool:
        """See `Store`."""
        return await self._read(self._hand_over(self._ready(), name, data, most))

    async def _hand_over(self, client: Redis, name: str, data: bytes, most: int) -> bool:
        key = f"{self._prefix}hub"
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.hlen(key)
            pipeline.hexists(key, name)
            count, is_there = await pipeline.execute()
        if count >= most and not is_there:
            return False
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.hset(key, name, data)
            pipeline.pexpire(key, KEPT)
            await pipeline.execute()
        return True

    async def waits_for_hub(self, name: str) -> bool:
        """See `Store`."""
        return await self._read(_hexists(self._ready(), f"{self._prefix}hub", name))

    async def handed_over(self) -> Mapping[str, bytes]:
        """See `Store`."""
        return _named(await self._read(_hgetall(self._ready(), f"{self._prefix}hub")))

    async def took(self, names: Sequence[str]) -> None:
        """See `Store`."""
        if names:
            await self._read(_hdel(self._ready(), f"{self._prefix}hub", names))

    async def facts(self, alarms: Mapping[str, float]) -> Facts:
        """See `Store`."""
        return await self._read(self._facts(self._ready(), alarms))

    async def _facts(self, client: Redis, alarms: Mapping[str, float]) -> Facts:
        p = self._prefix
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.hgetall(f"{p}mach")
            pipeline.zrange(f"{p}hb", 0, -1, withscores=True)
            pipeline.hgetall(f"{p}dead")
            pipeline.zrange(f"{p}left", 0, -1, withscores=True)
            pipeline.zrevrange(f"{p}open", 0, SHOWN - 1)
            for alarm in alarms:
                pipeline.zrange(f"{p}rate:{alarm}" if alarm else f"{p}arate", 0, -1, withscores=True)
            (seconds, micros), mach, beats, dead, left, keys, *budgets = await pipeline.execute()
        rows = await self._incidents(client, [key.decode() for key in keys])
        now = seconds * 1000 + micros // 1000
        spent = {
            alarm: [at for _, at in found if now - at < window]
            for (alarm, window), found in zip(alarms.items(), budgets, strict=True)
        }
        return Facts(now, _named(mach), _named(dict(beats)), _named(dead), _named(dict(left)), rows, spent)

    async def _incidents(self, client: Redis, keys: Sequence[str]) -> dict[str, IncidentFacts]:
        p = self._prefix
        async with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(f"{p}i:{key}")
                pipeline.zrange(f"{p}m:{key}", 0, NAMES - 1)
                pipeline.zcard(f"{p}m:{key}")
                pipeline.hvals(f"{p}c:{key}")
            found = await pipeline.execute() if keys else []
        parts = [found[i : i + 4] for i in range(0, len(found), 4)]
        return {key: _incident(*part) for key, part in zip(keys, parts, strict=True)}

    async def past(self, since: int, until: int, skip: int) -> Sequence[PastEpisode]:
        """See `Store`."""
        return await self._read(self._past(self._ready(), since, until, skip))

    async def _past(self, client: Redis, since: int, until: int, skip: int) -> Sequence[PastEpisode]:
        p = self._prefix
        names: list[bytes] = await client.zrange(  # type: ignore[assignment]  # without scores
            f"{p}past",
            until,
            since,
            desc=True,
            byscore=True,
            offset=skip,
            num=PART,
        )
        places = [name.decode().rpartition("~") for name in names]
        async with client.pipeline(transaction=False) as pipeline:
            for key, _, number in places:
                pipeline.hget(f"{p}e:{key}", number)
            found: list[bytes | None] = await pipeline.execute() if places else []
        # One that is forgotten meanwhile keeps its place, so that the next part begins where this one ends.
        return [PastEpisode(key, facts or b"") for (key, _, _), facts in zip(places, found, strict=True)]

    async def incident(self, key: str) -> IncidentRecord:
        """See `Store`."""
        return await self._read(self._record(self._ready(), key))

    async def _record(self, client: Redis, key: str) -> IncidentRecord:
        p = self._prefix
        found = (await self._incidents(client, [key]))[key]
        past = await _hgetall(client, f"{p}e:{key}")
        names = list(found.machines)
        facts: list[bytes | None] = await client.hmget(f"{p}mach", names) if names else []  # type: ignore[assignment]
        machines = {name: fact for name, fact in zip(names, facts, strict=True) if fact is not None}
        return IncidentRecord(
            found if found.fields else None, [PastEpisode(key, each) for each in past.values()], machines
        )


def _incident(
    fields: Mapping[bytes, bytes], machines: Sequence[bytes], machine_count: int, counts: Sequence[bytes]
) -> IncidentFacts:
    count = sum(int(value.partition(b":")[0]) for value in counts) + int(fields.get(b"n", b"0"))
    return IncidentFacts(_named(fields), tuple(name.decode() for name in machines), machine_count, count)


async def _hexists(client: Redis, key: str, name: str) -> bool:
    return bool(await client.hexists(key, name))


async def _hgetall(client: Redis, key: str) -> Mapping[bytes, bytes]:
    return dict(await client.hgetall(key))  # type: ignore[arg-type]


async def _hdel(client: Redis, key: str, names: Sequence[str]) -> None:
    await client.hdel(key, *names)


async def _hvals(client: Redis, key: str) -> list[bytes]:
    return list(await client.hvals(key))  # type: ignore[arg-type]


def _named(found: Mapping[bytes, Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in found.items()}


def _is_missing(answer: object) -> bool:
    return isinstance(answer, ResponseError) and "Function not found" in str(answer)


def _unreachable(error: BaseException, timeout: float) -> FleetUnreachableError:
    """Return the error with what an operator should know."""
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return FleetUnreachableError(f"no answer from Redis within {timeout:g} s", timeout)
    said = str(error).partition(" : <")[0][:200]
    found = next((text for kind, text in _REMEDIES if isinstance(error, kind)), None)
    # Of no class of its own, Redis' and Valkey's.
    if found is None and any(words in said for words in ("username-password", "Authentication required")):
        found = _WRONG_PASSWORD
    return FleetUnreachableError(f"Redis: {found}: {said}" if found else f"Redis: {said}")
