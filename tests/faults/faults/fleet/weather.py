"""Incidents that begin and end by chance on some of the machines, whatever happens to these meanwhile."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from random import Random

from faults.fleet.checker import Incident
from faults.fleet.fleets import back, lost
from faults.fleet.machines import Machine

#: Seconds from one incident to the next on average, and for which an incident lasts, from and to.
EVERY = 4.0
LASTS = (3.0, 240.0)

#: Seconds in which the machines of an incident have it one after the other.
SPREAD = 4.0

#: Seconds before a power cut whose lines may be lost with it.
CUT = 10.0


class Printer:
    """What one machine prints, in its order. While the machine is down, its lines wait."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        #: Held by whoever kills or starts the machine, and while it prints.
        self.lock = threading.Lock()
        self._due: list[tuple[float, int, Incident, bool]] = []
        self._last: dict[int, tuple[float, Incident, bool]] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_over = False

    def add(self, at: float, incident: Incident, *, is_lost: bool) -> None:
        """Print a line at a time of the monotonic clock."""
        with self._changed:
            heapq.heappush(self._due, (at, next(self._numbers), incident, is_lost))
            self._changed.notify()

    def run(self) -> None:
        while (found := self._next()) is not None:
            self._print(*found)

    def finish(self) -> None:
        """Print what is left, and end."""
        with self._changed:
            self._is_over = True
            soon = time.monotonic() + SPREAD
            self._due = [(min(at, soon), n, incident, is_lost) for at, n, incident, is_lost in self._due]
            self._changed.notify()

    def _next(self) -> tuple[Incident, bool] | None:
        with self._changed:
            while True:
                pause = self._due[0][0] - time.monotonic() if self._due else 3600.0
                if self._due and pause <= 0:
                    _, _, incident, is_lost = heapq.heappop(self._due)
                    return incident, is_lost
                if self._is_over and not self._due:
                    return None
                self._changed.wait(pause)

    def _print(self, incident: Incident, is_lost: bool) -> None:
        with self.lock:  # which is held from the machine's end to its next start
            self._say(incident, is_lost=is_lost)

    def _say(self, incident: Incident, *, is_lost: bool) -> None:
        now = time.monotonic()
        if is_lost:
            incident.began = min(incident.began, now)
        self.machine.print(lost(incident.number) if is_lost else back(incident.number))
        if not is_lost:
            incident.ended = max(incident.ended, time.monotonic())
        self._last[incident.number] = (now, incident, is_lost)

    def repeat(self, killed_at: float) -> None:
        """After a power cut, print again what may be lost with it; the lock is held."""
        for at, incident, is_lost in [*self._last.values()]:
            if is_lost or at > killed_at - CUT:
                self._say(incident, is_lost=is_lost)


class Weather:
    """Makes incidents until it is told that it is enough."""

    def __init__(self, machines: list[Machine], chance: Random) -> None:
        self.printers = {machine.name: Printer(machine) for machine in machines}
        self.incidents: list[Incident] = []
        self._chance = chance
        self._over = threading.Event()

    @contextlib.contextmanager
    def blowing(self) -> Iterator[None]:
        """Begin incidents; at the end, end all of them, and return when all lines are printed."""
        threads = [threading.Thread(target=printer.run) for printer in self.printers.values()]
        threads.append(threading.Thread(target=self._run))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            threads[-1].join()
            for printer in self.printers.values():
                printer.finish()
            for thread in threads[:-1]:
                thread.join()

    def _run(self) -> None:
        chance = self._chance
        for number in itertools.count(1):
            if self._over.wait(chance.expovariate(1 / EVERY)):
                return
            self._begin(number)

    def _begin(self, number: int) -> None:
        """Let some of the machines have it, and let it end on each of them."""
        chance, now = self._chance, time.monotonic()
        names = chance.sample(sorted(self.printers), chance.randint(1, len(self.printers)))
        incident = Incident(number, frozenset(names), float("inf"), float("-inf"))
        self.incidents.append(incident)
        least, most = LASTS
        end = now + least * (most / least) ** chance.random()
        for name in names:
            begun = now + chance.uniform(0, SPREAD)
            self.printers[name].add(begun, incident, is_lost=True)
            self.printers[name].add(max(end, begun) + chance.uniform(0.5, SPREAD), incident, is_lost=False)
