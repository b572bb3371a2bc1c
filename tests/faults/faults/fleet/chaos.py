"""Faults by chance under incidents by chance, and a checker at the end, as Jepsen does it."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random

from faults.clock import HOUR
from faults.fleet.checker import Fault, check, number_of
from faults.fleet.fleets import Fleet, fleet, is_connected
from faults.fleet.machines import Machine, start_all
from faults.fleet.scale import LONG
from faults.fleet.stores import Pair
from faults.fleet.verdict import Verdict
from faults.fleet.weather import Weather
from faults.ground import meanwhile, wait_until
from faults.processes import send

#: How many machines there are, and how many of them have a clock that can jump.
MACHINES = 10
WITH_CLOCKS = 3

#: Seconds for which a fault lasts, and until the next one begins, from and to.
LASTS = (1.0, 40.0)
APART = (1.0, 40.0)

#: Seconds between two looks at how busy this machine is, and by which they may come late.
PULSE = 0.1
LATE = 0.5

#: Seconds for everything to be sent at the end.
END = 300.0


class Chaos:
    """Does things to machines and to Redis, and writes them down."""

    def __init__(self, shop: Fleet, pair: Pair, weather: Weather, chance: Random) -> None:
        self.faults: list[Fault] = []
        self._shop = shop
        self._pair = pair
        self._weather = weather
        self._chance = chance
        self._begun = time.monotonic()

    def run(self, until: float) -> None:
        """Inject one or two faults at a time, with pauses."""
        kinds: tuple[Callable[[], None], ...] = (
            self._power_cut,
            self._master_killed,
            self._machine_stopped,
            self._cut,
            self._hung,
            self._slowed,
            self._flushed,
            self._restarted,
            self._redis_stopped,
            self._failed_over,
            self._clock_stepped,
        )
        pause = threading.Event()
        while time.monotonic() < until:
            self._chance.choice(kinds)()
            pause.wait(self._chance.uniform(*APART))

    @contextlib.contextmanager
    def _fault(self, kind: str, *machines: Machine) -> Iterator[None]:
        fault = Fault(kind, frozenset(machine.name for machine in machines), time.monotonic())
        self.faults.append(fault)
        self._log(f"{kind} {' '.join(machine.name for machine in machines)}")
        yield
        fault.ended = time.monotonic()
        self._log(f"end of {kind}, after {fault.ended - fault.began:.1f} s")

    def _log(self, text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._begun:8.1f} s  {text}\n")
        sys.stderr.flush()

    def _some(self, most: int) -> list[Machine]:
        return self._chance.sample(self._shop.machines, self._chance.randint(1, most))

    def _last(self, most: float = LASTS[1]) -> None:
        least = LASTS[0]
        threading.Event().wait(least * (most / least) ** self._chance.random())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note when this machine has more to do than it can: that is a fault, too."""

        def watch(over: threading.Event) -> None:
            while not over.is_set():
                begun = time.monotonic()
                over.wait(PULSE)
                if (now := time.monotonic()) - begun > PULSE + LATE:
                    self.faults.append(Fault("machine too busy", frozenset(), begun, now))

        with meanwhile(watch):
            yield

    # Machines

    def _power_cut(self) -> None:
        machines = self._some(3)
        with self._fault("power cut", *machines), contextlib.ExitStack() as stack:
            printers = [self._weather.printers[machine.name] for machine in machines]
            for printer in printers:
                stack.enter_context(printer.lock)
            at = time.monotonic()
            for machine in machines:
                machine.kill()
            self._last()
            start_all(machines, 2)
            for printer in printers:
                printer.repeat(at)

    def _master_killed(self) -> None:
        machines = self._some(len(self._shop.machines))
        with self._fault("master killed", *machines):
            for machine in machines:
                machine.kill_master()
            for machine in machines:
                machine.ready()

    def _machine_stopped(self) -> None:
        machines = self._some(3)
        with self._fault("machine stopped", *machines):
            pids = [pid for machine in machines for pid in machine.processes()]
            send(pids, signal.SIGSTOP)
            try:
                self._last()
            finally:
                send(pids, signal.SIGCONT)

    def _clock_stepped(self) -> None:
        name = self._chance.choice(sorted(self._shop.clocks))
        (machine,) = [each for each in self._shop.machines if each.name == name]
        with self._fault("clock stepped", machine):
            self._shop.clocks[name].move(self._chance.choice((-HOUR, HOUR)))
            self._last()
            self._shop.clocks[name].move(0)

    # The lines between them

    def _cut(self) -> None:
        self._apart("cut", lambda name: self._shop.proxies[name].cut())

    def _hung(self) -> None:
        self._apart("hung", lambda name: self._shop.proxies[name].hang())

    def _slowed(self) -> None:
        seconds = self._chance.uniform(0.05, 1.5)
        self._apart(f"slowed by {seconds:.2f} s", lambda name: self._shop.proxies[name].slow(seconds))

    def _apart(self, kind: str, act: Callable[[str], None]) -> None:
        machines = self._some(4)
        with self._fault(kind, *machines):
            for machine in machines:
                act(machine.name)
            self._last()
            for machine in machines:
                self._shop.proxies[machine.name].heal()

    # Redis

    def _flushed(self) -> None:
        with self._fault("FLUSHALL"):
            self._pair.master.flush()

    def _restarted(self) -> None:
        with self._fault("Redis restarted"):
            self._pair.master.stop()
            self._last(10)
            self._pair.master.start()
            self._pair.follow()

    def _redis_stopped(self) -> None:
        with self._fault("Redis stopped"):
            self._pair.master.pause()
            self._last()
            self._pair.master.resume()

    def _failed_over(self) -> None:
        is_synced = self._chance.random() < 0.5
        with self._fault(f"failover, {'synced' if is_synced else 'unsynced'}"):
            self._pair.fail_over(is_synced=is_synced)
            self._last(10)
            self._pair.recover()


def chaos(folder: Path, seconds: float, seed: int, n: int, verdict: Verdict) -> None:
    """Inject faults for so long, then heal everything, end all incidents, and check what the receiver has got."""
    verdict.figures["seed"] = seed
    chance = Random(seed)
    with Pair(folder / "redis").running() as pair, fleet(folder, LONG, lambda: pair.master.port) as shop:
        shop.clocked = WITH_CLOCKS
        machines = shop.add(n)
        start_all(machines, 2)
        shop.wait_until_shared(machines)
        weather = Weather(machines, Random(chance.random()))
        storm = Chaos(shop, pair, weather, chance)
        begun = time.monotonic()
        with weather.blowing(), storm.watching():
            storm.run(begun + seconds)
        _end(verdict, shop)
        _judge(verdict, shop, storm, weather)
        verdict.figures["seconds"] = round(time.monotonic() - begun)
        _keep(folder, storm, weather)


def _end(verdict: Verdict, shop: Fleet) -> None:
    """Wait until everything is sent, and complain of what is left."""
    for what, condition in (
        ("machines in the fleet", lambda: all(map(is_connected, shop.machines))),
        ("empty outboxes", lambda: not any(machine.waiting() for machine in shop.machines)),
        ("the ends of all incidents", lambda: not any(map(_open, shop.machines))),
    ):
        try:
            wait_until(condition, END, what)
        except TimeoutError:
            verdict.complaints.append(f"after {END:.0f} s there were not: {what}")
    shop.quiet(20)


def _open(machine: Machine) -> list[str]:
    return [each["id"] for each in machine.incidents() if each["rule"] == "db"]


def _judge(verdict: Verdict, shop: Fleet, storm: Chaos, weather: Weather) -> None:
    messages = shop.hook.messages()
    report = check(weather.incidents, messages, storm.faults)
    others = Counter(f"{m.rule} {m.status}" for m in messages if number_of(m) is None)
    verdict.figures |= {
        "faults": len(storm.faults),
        "incidents": report.incidents,
        "of which are long": report.long,
        "told": report.told,
        "ended": report.ended,
        "messages": report.messages,
        "firing again": report.again["firing"],
        "resolved again": report.again["resolved"],
        "with the id of the minute before or after": report.neighbors,
        "incidents with messages that came again": report.doubled,
    }
    verdict.figures |= {
        f"fault, {kind.split(' by ')[0]}": n for kind, n in Counter(f.kind for f in storm.faults).items()
    }
    verdict.figures |= {f"other message, {kind}": n for kind, n in others.items()}
    verdict.complaints += report.complaints
    shop.check_books(verdict)


def _keep(folder: Path, storm: Chaos, weather: Weather) -> None:
    """Write down everything for whoever wants to know what has happened."""
    facts = {
        "faults": [{**asdict(fault), "machines": sorted(fault.machines)} for fault in storm.faults],
        "incidents": [{**asdict(each), "machines": sorted(each.machines)} for each in weather.incidents],
    }
    (folder / "chaos.json").write_text(json.dumps(facts, indent=1))
