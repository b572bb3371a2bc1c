"""A fleet: what its members cost a real Redis, how soon another machine takes over, and lines while Redis hangs.

``python bench/fleet.py``, with the options of `harness`. The members of the first section are light: they speak Redis'
protocol and send what a master sends, without its engine. Each incident begins on all of them at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec
from corpus import NEEDLE, access_lines, configuration, patterns
from harness import Case, Metric, Options, Section, run
from pipeline import Writing, below_us

from alarm_mw.fleet.link import Periods
from alarm_mw.fleet.redis_store import library
from alarm_mw.fleet.store import Beat, Offer, Settlement

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "services"))

from fleet_members import incident, machines, make
from redis_server import RedisServer
from waiting import until

FLEET = "bench"
PREFIX = f"{{alarm_mw:{FLEET}}}:"

#: Incidents a second; each is over after so many seconds.
RATE, LASTS = 10.0, 5.0

#: Seconds within which all machines see the same incident.
SPREAD = 0.05

SHARE = {
    "p50": Metric("offer p50, ms"),
    "p99": Metric("offer p99, ms"),
    "calls": Metric("calls/s", more=True),
    "cpu": Metric("Redis, % of a core"),
    "each": Metric("Redis, processor µs/call"),
    "memory": Metric("memory, KB/machine"),
    "sent": Metric("messages/change"),
}
PEAK = {"peak": Metric("calls/s, Redis busy", more=True)}
FAILOVER = {"takeover": Metric("takeover, s")}
LINES = {"lines": Metric("thousand lines/s", more=True), "processor": Metric("processor, ns/line")}

#: What a machine says of an incident, and of itself.
INFO = '{"rule":"db","key":{"db":"eu"},"labels":{"severity":"critical"},"text":"lost connection to db eu"}'
FACTS = '{"labels":{"zone":"eu"},"version":"1.0","rules":"4f2a91c0","lag":0.0012,"lines":[]}'

_LAST = re.compile(rb"\$\d+\r\n(\d{13}-\d+)\r\n")


def sections(options: Options) -> Iterator[Section]:
    """Measure fleets of several sizes, the most that Redis does, and a takeover."""
    seconds = options.pick(full=20.0, quick=5.0, tiny=0.5)
    counts = options.pick(full=(10, 100, 1000), quick=(10, 100, 1000), tiny=(3,))
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as name:
        server = RedisServer(Path(name))
        server.start()
        try:
            cases = [Case(f"{n:,} machines", partial(shared, server, n, seconds)) for n in counts]
            yield Section("Ten incidents a second, each on all machines at once", SHARE, cases, rounds=3)
            calls = options.pick(full=200_000, quick=50_000, tiny=500)
            peak = [Case("offers as fast as Redis answers", partial(busiest, server, calls))]
            yield Section("The most that one Redis does", PEAK, peak, rounds=3)
            periods = (
                Periods() if options.size == "full" else Periods(heartbeat=0.1, owner_timeout=0.5, sweep_every=0.1)
            )
            dies = [Case("the owner is killed while it sends", partial(failover, server, periods))]
            yield Section("An owner dies", FAILOVER, dies, rounds=3)
            yield from beside_a_fleet(server, Path(name), options)
        finally:
            server.stop()


def beside_a_fleet(server: RedisServer, folder: Path, options: Options) -> Iterator[Section]:
    """Measure the way of a line, one in 10,000 of which fires, alone, in a fleet, and while Redis hangs."""
    lines = folder / "lines"
    found = access_lines(100_000)
    lines.write_text("".join(line.replace(NEEDLE, f"{NEEDLE} {n}") for n, line in enumerate(found)), encoding="utf-8")
    for portion, how, times in (
        (0, "a write for each line", options.pick(full=100, quick=30, tiny=1)),
        (65_536, "writes of 64 KB", options.pick(full=800, quick=200, tiny=1)),
    ):
        measured = partial(lines_beside, server, folder, Writing(lines, times, portion))
        cases = [
            Case("alone", partial(measured, "", hangs=False)),
            Case("in a fleet", partial(measured, server.url, hangs=False)),
            Case("in a fleet whose Redis hangs", partial(measured, server.url, hangs=True)),
        ]
        yield Section(f"Lines, one in 10,000 fires, {how}", LINES, cases, peer="alone", warm_up=1)


def lines_beside(
    server: RedisServer, folder: Path, writing: Writing, url: str, *, hangs: bool
) -> Mapping[str, float | None]:
    """Pass lines on; with `hangs`, Redis stops when the first of them has come."""
    own = folder / "own"
    own.mkdir(exist_ok=True)
    alarm = 'action = "log"\nlimits = { repeat_after = 0 }\n' + ('scope = "fleet"' if url else "")
    config = configuration(own, patterns(10), alarm, f'[fleet]\nurl = "{url}"\ngroup_wait = 0' if url else "")
    hung: list[int] = []

    def passed(seen: int) -> None:
        if hangs and not hung:
            hung.append(seen)
            server.send(signal.SIGSTOP)

    try:
        return below_us(config, writing, own, passed).per_line(writing)
    finally:
        server.send(signal.SIGCONT)


def shared(server: RedisServer, count: int, seconds: float) -> Mapping[str, float]:
    """Let so many machines share for some seconds."""
    prepare(server)
    empty = figure(server, "memory", "used_memory")
    return asyncio.run(_share(server, count, seconds, empty))


def prepare(server: RedisServer) -> None:
    """Empty the state, and load the functions."""
    server.cli("FLUSHALL")
    subprocess.run(
        ["redis-cli", "-s", str(server.socket), "-x", "FUNCTION", "LOAD", "REPLACE"],
        input=library().code.encode(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    server.cli("HSET", f"{PREFIX}gen", "id", "1", "grace", "0", "run", "")


def figure(server: RedisServer, section: str, name: str) -> float:
    """Return a figure of INFO."""
    found = re.search(rf"^{name}:([\d.]+)", server.cli("INFO", section), re.MULTILINE)
    assert found is not None
    return float(found[1])


class Wire(asyncio.Protocol):
    """A connection that takes bulk answers, in the order of the requests, with as little work as possible."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[bytes], None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n")) >= 0:
            if self._buffer[:1] != b"$":
                raise RuntimeError(self._buffer[:200])
            size = int(self._buffer[1:end])
            if len(self._buffer) < end + size + 4:
                return
            body, self._buffer = self._buffer[end + 2 : end + 2 + size], self._buffer[end + size + 4 :]
            self.waiting.popleft()(body)

    def call(self, name: bytes, body: bytes, answered: Callable[[bytes], None]) -> None:
        """Call one of the functions."""
        self.send(request(b"FCALL", library().name.encode() + b"_" + name, b"1", KEY, body), answered)

    def send(self, words: bytes, answered: Callable[[bytes], None]) -> None:
        """Send a request."""
        assert self._transport is not None
        self.waiting.append(answered)
        self._transport.write(words)

    def future(self, name: bytes, body: bytes) -> asyncio.Future[bytes]:
        """Call one of the functions; return what will be its answer."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.call(name, body, future.set_result)
        return future

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


KEY = f"{PREFIX}gen".encode()

#: As long as every key.
NO_KEY = "iKEYKEYK"


def request(*words: bytes) -> bytes:
    """Return a request in Redis' protocol."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Events(asyncio.Protocol):
    """Reads the stream as a member does, and gathers for a tenth of a second."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._place = b"$"
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            stream = f"{PREFIX}ev".encode()
            self._transport.write(
                request(b"XREAD", b"COUNT", b"1000", b"BLOCK", b"2000", b"STREAMS", stream, self._place)
            )

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        found = _LAST.findall(data)
        if found:
            self._place = found[-1]
        if self._timer is None or self._timer.when() < asyncio.get_running_loop().time():
            self._timer = asyncio.get_running_loop().call_later(0.1, self._ask)

    def close(self) -> None:
        """End the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()


class Light:
    """A machine without an engine."""

    def __init__(self, name: str, wire: Wire, events: Events) -> None:
        self.name = name
        self.wire = wire
        self.events = events
        self.latencies: list[float] = []
        self.sent = 0
        self._loop = asyncio.get_running_loop()
        self._beat = encode(Beat(machine=name, instance=name, info=FACTS))
        self._offers = [self._offer(is_over=is_over) for is_over in (False, True)]
        self._timer: asyncio.TimerHandle | None = None

    def _offer(self, *, is_over: bool) -> bytes:
        """Return a request in which the key is still to be filled in, by as many bytes."""
        body = encode(
            Offer(
                machine=self.name,
                key=NO_KEY,
                alarm="mail",
                name="mail",
                id=f"{self.name}-{NO_KEY}-{is_over}",
                kind="resolved" if is_over else "begin",
                is_member=not is_over,
                thread="1",
                info=INFO,
            )
        )
        name = f"{library().name}_{'resolve' if is_over else 'offer'}"
        return request(b"FCALL", name.encode(), b"1", KEY, body)

    def report(self, key: str, *, is_over: bool) -> None:
        """Offer the beginning of an incident, or its end; and send it where it is this machine's turn."""
        began = time.perf_counter()

        def answered(body: bytes) -> None:
            self.latencies.append(time.perf_counter() - began)
            if b'"kind":"own"' in body:
                self._loop.call_later(0.0 if is_over else 0.5, self._settle, key, body)

        self.wire.send(self._offers[is_over].replace(NO_KEY.encode(), key.encode()), answered)

    def _settle(self, key: str, body: bytes) -> None:
        answer = msgspec.json.decode(body)
        settlement = Settlement(machine=self.name, key=key, alarm="mail", token=answer["token"], id=answer["id"])
        self.wire.call(b"settle", encode(settlement), self._settled)

    def _settled(self, _: bytes) -> None:
        self.sent += 1

    def beat(self) -> None:
        """Give signs of life until `close`."""
        self.wire.call(b"beat", self._beat, lambda _: None)
        self._timer = self._loop.call_later(random.uniform(2.4, 3.6), self.beat)

    def close(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self.wire.close()
        self.events.close()


encode = msgspec.json.Encoder().encode


async def _share(server: RedisServer, count: int, seconds: float, empty: float) -> Mapping[str, float]:
    loop = asyncio.get_running_loop()
    found = []
    for n in range(count):
        _, wire = await loop.create_connection(Wire, "127.0.0.1", server.port)
        _, events = await loop.create_connection(Events, "127.0.0.1", server.port)
        found.append(Light(f"web-{n}", wire, events))
        found[-1].beat()
    await asyncio.sleep(min(seconds, 3.0))
    server.cli("CONFIG", "RESETSTAT")
    cpu, began = server.cpu(), time.perf_counter()
    memory = await _report_all(server, found, seconds)
    await until(lambda: not any(machine.wire.waiting for machine in found))
    took = time.perf_counter() - began
    busy = server.cpu() - cpu
    calls = re.search(r"cmdstat_fcall:calls=(\d+)", server.cli("INFO", "commandstats"))
    assert calls is not None
    for machine in found:
        machine.close()
    await asyncio.sleep(0.1)
    latencies = sorted(latency for machine in found for latency in machine.latencies)
    return {
        "p50": statistics.median(latencies) * 1000,
        "p99": latencies[int(len(latencies) * 0.99)] * 1000,
        "calls": int(calls[1]) / took,
        "cpu": busy / took * 100,
        "each": busy / int(calls[1]) * 1e6,
        "memory": (memory - empty) / count / 1024,
        "sent": sum(machine.sent for machine in found) / (len(latencies) / count),
    }


async def _report_all(server: RedisServer, found: list[Light], seconds: float) -> float:
    """Let incidents begin and end on all machines; return the most memory that Redis has used."""
    loop = asyncio.get_running_loop()
    for n in range(int(seconds * RATE)):
        loop.call_later(n / RATE, _all_report, found, f"i{n:07}", False)
        loop.call_later(n / RATE + LASTS, _all_report, found, f"i{n:07}", True)
    await asyncio.sleep(seconds)
    memory = figure(server, "memory", "used_memory")
    await asyncio.sleep(LASTS + SPREAD + 1.0)
    return memory


def _all_report(found: list[Light], key: str, is_over: bool, first: int = 0) -> None:  # noqa: FBT001  # for the loop
    """Let some machines report, and the next ones a millisecond later."""
    many = max(len(found) // int(SPREAD * 1000), 1)
    for machine in found[first : first + many]:
        machine.report(key, is_over=is_over)
    if first + many < len(found):
        asyncio.get_running_loop().call_later(0.001, _all_report, found, key, is_over, first + many)


def busiest(server: RedisServer, calls: int) -> Mapping[str, float]:
    """Return how many offers a second Redis answers when there are always more."""
    prepare(server)
    return asyncio.run(_busiest(server, calls))


async def _busiest(server: RedisServer, calls: int) -> Mapping[str, float]:
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", server.port)
    for n in range(100):
        await wire.future(b"beat", encode(Beat(machine=f"web-{n}", instance="1")))
    bodies = [
        encode(
            Offer(
                machine=f"web-{n % 100}",
                key=f"i{n // 100 % 50}",
                alarm="mail",
                name="mail",
                id=f"f{n % 5000}",
                kind="begin",
                is_member=True,
                thread="1",
                info=INFO,
            )
        )
        for n in range(5000)
    ]
    cpu = server.cpu()
    for start in range(0, calls, 250):
        await asyncio.gather(*(wire.future(b"offer", bodies[n % 5000]) for n in range(start, min(start + 250, calls))))
    busy = server.cpu() - cpu
    wire.close()
    await asyncio.sleep(0)
    return {"peak": calls / max(busy, 1.0 / os.sysconf("SC_CLK_TCK"))}


def failover(server: RedisServer, periods: Periods) -> Mapping[str, float]:
    """Return how long it takes from the death of an owner until another machine may send its message."""
    prepare(server)
    return {"takeover": asyncio.run(_failover(server, periods))}


async def _failover(server: RedisServer, periods: Periods) -> float:
    async with machines(server.url, FLEET, "b", "c", "d", periods=periods) as others:
        owner = make(server.url, FLEET, "a", periods=periods)
        await owner.member.start()
        await owner.claim(incident())
        waiting = [asyncio.create_task(machine.claim(incident())) for machine in others]
        await until(lambda: all(machine.deferred for machine in others))
        began = time.perf_counter()
        await owner.kill()
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        took = time.perf_counter() - began
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return took


if __name__ == "__main__":
    run("fleet", sections, packages=["redis"], programs=["redis-server"])
