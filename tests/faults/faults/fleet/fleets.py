"""A whole fleet: Redis, a line to it for each machine, the machines, and the receiver of their messages."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from waiting import LIMIT

from faults.clock import Clock
from faults.fleet.hook import BODY, Hook, Message
from faults.fleet.machines import Machine, start_all
from faults.fleet.proxies import Proxies, Proxy, proxies
from faults.fleet.scale import Scale
from faults.fleet.verdict import Verdict
from faults.ground import wait_until

#: The name that the machines share.
NAME = "shop"

#: Seconds for which the owner of a message waits for other machines.
GROUP_WAIT = 1.0

#: How many machines start at the same time.
AT_ONCE = 3

#: The rule of which the incidents are silent machines.
OF_MACHINES = "fleet"

FLEET = """
[fleet]
url = "{url}"
name = "{name}"
machine = "{machine}"
group_wait = "{group_wait}s"
alarms = ["hook"]
"""

ALARM = """
[alarms.{alarm}]
action = "curl"
url = "{url}"
format = "json"
timeout = {timeout}
json = {{ {body} }}
delivery = {{ backoff_first = 0.05, backoff_max = 0.5, give_up_after = 600 }}
limits = {{ {limits} }}
notify = {{ {notify} }}
"""

#: An incident for each number.
INCIDENTS = r"""
[[rules]]
name = "db"
pattern = 'lost db n(?P<n>\d+)'
key = ["n"]
resolve = 'back db n(?P<n>\d+)'
alarms = ["hook"]
"""

#: An incident that a second alarm reports when nobody has acknowledged it.
ESCALATED = r"""
[escalations.ops]
steps = [{ after = "0s", alarms = ["hook"] }, { after = "6s", alarms = ["pager"] }]
[[rules]]
name = "escalated"
pattern = 'lost payments n(?P<n>\d+)'
key = ["n"]
resolve = 'back payments n(?P<n>\d+)'
escalation = "ops"
"""

#: A message for each line.
STATELESS = """
[[rules]]
name = "order"
pattern = "cannot take order"
alarms = ["hook"]
"""

#: A message for many lines.
LOAD = """
[[rules]]
pattern = "^TERRIBLE LOAD"
alarms = ["load"]
"""


def lost(number: int) -> str:
    """Return the line with which an incident begins."""
    return f"lost db n{number}"


def back(number: int) -> str:
    """Return the line with which it ends."""
    return f"back db n{number}"


class Fleet:
    """What a scenario has in hand."""

    def __init__(self, folder: Path, scale: Scale, hook: Hook, lines: Proxies, port: Callable[[], int]) -> None:
        self.folder = folder
        self.scale = scale
        self.hook = hook
        self.machines: list[Machine] = []
        self.proxies: dict[str, Proxy] = {}
        #: The port of the Redis that is written to.
        self.port = port
        #: What machines are told instead of their own line to Redis.
        self.url = ""
        self.password = ""
        self.rules = INCIDENTS
        self.limits = "repeat_after = 0"
        self.notify = ""
        self.timeout = 5.0
        #: Alarms of each machine.
        self.alarms: Sequence[str] = ("hook",)
        #: Whether each has a line of its own, which can be cut.
        self.has_proxies = True
        #: How many of the machines have clocks that can be moved, and these.
        self.clocked = 0
        self.clocks: dict[str, Clock] = {}
        self._lines = lines
        self._numbers = itertools.count(1)
        self._mark = 0

    def add(self, n: int) -> list[Machine]:
        """Make machines, and do not start them."""
        first = len(self.machines) + 1
        added = [Machine(self.folder / f"web-{i}", f"web-{i}") for i in range(first, first + n)]
        for machine in added:
            if len(self.clocks) < self.clocked:
                self.clocks[machine.name] = Clock(machine.folder / "clock")
                machine.environ |= self.clocks[machine.name].environ
            self.machines.append(machine)
            if self.has_proxies:
                self.proxies[machine.name] = self._lines.open(self.port)
            self.configure(machine)
        return added

    def configure(self, machine: Machine, more: str = "") -> None:
        """Write a machine's configuration."""
        port = self.proxies[machine.name].port if self.has_proxies else self.port()
        secret = f":{self.password}@" if self.password else ""
        url = self.url or f"redis://{secret}127.0.0.1:{port}/0"
        text = FLEET.format(url=url, name=NAME, machine=machine.name, group_wait=GROUP_WAIT)
        for alarm in self.alarms:
            text += ALARM.format(
                alarm=alarm,
                url=self.hook.url(machine.name, alarm),
                timeout=self.timeout,
                body=BODY,
                limits=self.limits,
                notify=self.notify,
            )
        machine.configure(text + self.rules + more)

    def start(self, n: int) -> list[Machine]:
        """Start so many machines, and wait until all of them share."""
        added = self.add(n)
        start_all(added, AT_ONCE)
        self.wait_until_shared(added)
        return added

    def wait_until_shared(self, machines: Sequence[Machine], timeout: float = LIMIT) -> None:
        """Wait until each of these has reached the others."""
        for machine in machines:
            wait_until(lambda one=machine: is_connected(one), timeout, f"{machine.name} in the fleet")  # type: ignore[misc]

    # Acts

    def begin(self) -> int:
        """Begin another act: forget the messages of the one before, and return the number of a new incident."""
        self._mark = len(self.hook.messages())
        return self.number()

    def number(self) -> int:
        """Return the number of an incident that nobody has had."""
        return next(self._numbers)

    def messages(self) -> list[Message]:
        """Return the messages of this act, without those that machines are silent."""
        return [message for message in self.hook.messages()[self._mark :] if message.rule != OF_MACHINES]

    def about(self, number: int, status: str = "firing") -> list[Message]:
        """Return the messages about an incident."""
        return [m for m in self.messages() if m.status == status and lost(number) == m.message.strip()]

    def wait_for(self, number: int, status: str = "firing", n: int = 1, timeout: float = LIMIT) -> list[Message]:
        """Wait for so many messages about an incident, and return them."""
        wait_until(lambda: len(self.about(number, status)) >= n, timeout, f"{n} × {status} of {lost(number)}")
        return self.about(number, status)

    def end(self, verdict: Verdict, number: int, on: Sequence[Machine] | None = None) -> None:
        """End an incident, and complain unless there is one message of it."""
        self.print(back(number), on=on)
        self.wait_for(number, "resolved")
        self.settle()
        self.quiet()
        verdict.equal(f"resolved, n{number}", len(self.about(number, "resolved")), 1)

    # What all do

    def print(self, *lines: str, on: Sequence[Machine] | None = None) -> None:
        """Print lines on machines, on all of them at nearly the same time."""
        threads = [threading.Thread(target=one.print, args=lines) for one in (self.machines if on is None else on)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def settle(self, timeout: float = LIMIT) -> None:
        """Wait until no machine that runs has anything left to send."""
        running = [machine for machine in self.machines if machine.is_running()]
        wait_until(lambda: not any(machine.waiting() for machine in running), timeout, "empty outboxes")

    def quiet(self, seconds: float | None = None) -> list[Message]:
        """Wait until no message has come for a while, and return those of this act."""
        seconds = self.scale.quiet if seconds is None else seconds
        since, known = time.monotonic(), len(self.hook.messages())
        pause = threading.Event()
        while time.monotonic() < since + seconds:
            pause.wait(0.05)
            if (now := len(self.hook.messages())) != known:
                since, known = time.monotonic(), now
        return self.messages()

    def close(self) -> None:
        """Leave nothing running, and write down what has come."""
        for machine in self.machines:
            machine.close()
        messages = [asdict(message) for message in self.hook.messages()]
        (self.folder / "messages.json").write_text(json.dumps(messages, indent=1))

    def check_books(self, verdict: Verdict) -> None:
        """Complain of each ledger that does not add up."""
        for machine in self.machines:
            verdict.complaints += [f"{machine.name}: {imbalance}" for imbalance in machine.imbalances()]


def is_connected(machine: Machine) -> bool:
    """Return whether a machine shares with others right now."""
    fleet = machine.status().get("fleet") or {}
    return fleet.get("state") == "connected"


@contextlib.contextmanager
def fleet(folder: Path, scale: Scale, port: Callable[[], int]) -> Iterator[Fleet]:
    """Provide a fleet without machines, with Redis at what port ever that is at the time."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        hook = stack.enter_context(Hook().serving())
        lines = stack.enter_context(proxies())
        found = Fleet(folder, scale, hook, lines, port)
        stack.callback(found.close)
        yield found
