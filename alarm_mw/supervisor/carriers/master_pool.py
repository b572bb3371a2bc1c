"""Keeps the output moving: a master, another one when it dies, and a relay when masters keep dying."""

from __future__ import annotations

import math
import os
import resource
import signal
import time
from collections import Counter
from contextlib import suppress

from alarm_mw.supervisor.carriers.carrier import Carrier, Message, Watchdog
from alarm_mw.supervisor.carriers.start import CarrierStart, start_relay
from alarm_mw.supervisor.descriptors import warn
from alarm_mw.supervisor.streams import Stream

#: How many descriptors are for streams and masters, where there are not many.
_OTHERS = 64


class Connections:
    """Descriptors that a master leaves with the supervisor, each under a token, for the next master."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        #: The rest is for streams and masters. Of each process there is a connection, and the memory that it shares.
        self.limit = max(most // 2, most - _OTHERS)

    def keep(self, token: str, fd: int) -> None:
        """Take a descriptor in; beyond the limit it is closed, and its records live and die with their master."""
        self.drop(token)
        if len(self.held) < self.limit:
            self.held[token] = fd
        else:
            os.close(fd)

    def drop(self, token: str) -> None:
        """Close the descriptor of a connection that has ended."""
        fd = self.held.pop(token, None)
        if fd is not None:
            os.close(fd)


#: A master that dies sooner after it said "ready", in seconds, has failed.
EARLY = 1.0
#: After how many failures in a row the output is passed on without a master.
TOO_MANY = 5
#: One that hangs sooner, in seconds beyond the patience, has failed as well.
HEALTHY = 60.0
#: How many masters in a row may be killed early before that counts as a failure: somebody's `kill -9` is no crash.
MANY_KILLS = 50
#: When this many of them hang at the end, the rest of the output is passed on without one.
MASTERS_AT_END = 2

_PAUSE_FIRST = 0.1
_PAUSE_MAX = 5.0


def pause(failures: int) -> float:
    """Return the seconds from failure number `failures` in a row (from 1) to the next master."""
    return _PAUSE_MAX if failures >= TOO_MANY else min(_PAUSE_MAX, _PAUSE_FIRST * 2.0 ** (failures - 1))


class MasterPool:
    """Starts masters and relays, one at a time, and does what they ask for."""

    def __init__(self, start: CarrierStart, streams: list[Stream]) -> None:
        self._start = start
        self._connections = Connections()
        self._news: list[str] = []
        self._failures = 0
        self._kills = 0
        #: How each master has ended that was replaced.
        self._replaced: list[str] = []
        #: How many carriers had to be killed at the end, since they took too long.
        self._end_kills = 0
        #: How many lines of each stream have passed without a master, and no master has written down yet.
        self._unjudged: Counter[str] = Counter()
        self._is_finishing = False
        #: The configuration was to be read again while there was no master.
        self._is_reload_due = False
        #: Whether the last master said that nothing waits any more.
        self.has_delivered = False
        #: The streams that have not ended.
        self.streams = streams
        self.current: Carrier | None = None
        #: When to try the next master (``time.monotonic()``).
        self.retry_at: float | None = None

    def announce(self, news: str) -> None:
        """Send it to this master, and to every later one."""
        self._news.append(news)
        if self.current is not None:
            self.current.send(news)

    def reload(self) -> None:
        """Have the master read its configuration again; where there is none, the next one when it is ready."""
        if self.current is not None and self.current.is_master:
            self.current.send("reload")
        else:
            self._is_reload_due = True

    def listen(self) -> None:
        """Do what the current carrier has asked for."""
        carrier = self.current
        if carrier is not None:
            for message in carrier.said():
                if carrier.watchdog is not None:
                    carrier.watchdog.heard()
                self._obey(carrier, message)

    def _take(self, message: Message, fd: int) -> None:
        """Take a descriptor in."""
        match message:
            case Message("keep", token):
                self._connections.keep(token, fd)
            case Message("plan", ""):
                self._start.replace_plan(fd)
            case Message("listen" | "lock" as what, ""):
                self._start.replace(what, fd)
            case _:
                os.close(fd)

    def _obey(self, carrier: Carrier, message: Message) -> None:
        match message:
            case Message(_, _, int(fd)):
                self._take(message, fd)
            case Message("ready", ""):
                carrier.ready_since = time.monotonic()
                carrier.watchdog = Watchdog(self._start.patience, carrier.ready_since)
                self._report_unjudged(carrier)
                if self._is_reload_due:
                    self._is_reload_due = False
                    carrier.send("reload")
            case Message("delivered", ""):
                self.has_delivered = True
            case Message("unjudged", subject):
                self._unjudged.update(_count(subject))
            case Message("counted", subject):
                self._unjudged.subtract(_count(subject))
            case Message("eof" | "broken", name):
                self.end_stream(name)
            case Message("drop", token):
                self._connections.drop(token)

    def _report_unjudged(self, carrier: Carrier) -> None:
        """Let a master count the lines that a relay has passed on; it says when they are written down."""
        for name, n in (+self._unjudged).items():
            carrier.send(f"unjudged {name} {n}")

    def end_stream(self, name: str) -> None:
        """Close a stream that has come to its end."""
        for stream in [stream for stream in self.streams if stream.name == name]:
            self.streams.remove(stream)
            stream.close()
        if self._is_finishing:
            self._stop_when_drained()

    def start_master(self) -> None:
        """Start a master with everything that the one before it left behind."""
        try:
            self.current = self._start.master(self.streams, self._connections.held, self._replaced)
        except OSError:
            self._master_failed()
            return
        for news in self._news:
            self.current.send(news)

    def ended(self, returncode: int) -> None:
        """Replace the current carrier, which has ended with that exit status (or, below zero, by that signal)."""
        self.listen()
        carrier, self.current = self.current, None
        assert carrier is not None
        carrier.control.close()
        if self._is_finishing:
            self._replace_last(has_delivered=returncode == 0)
        elif carrier.is_master:
            self._replaced.append(_ended(carrier, returncode))
            self._replace_master(carrier, returncode)
        elif self.retry_at is None:  # a relay that was asked to make room
            self.start_master()

    def _replace_last(self, *, has_delivered: bool) -> None:
        if has_delivered:
            return
        self._failures += 1
        if not self._end_kills or (self._end_kills == 1 and self.streams):
            self._start_last()
        elif self._end_kills == MASTERS_AT_END and self.streams:
            self._start_relay()

    def _start_last(self) -> None:
        if self._failures < TOO_MANY:
            self.start_master()
        self._stop_when_drained()

    def _stop_when_drained(self) -> None:
        """Let the last master end when it has read what the one before it left unread."""
        if self.current is not None and not self.streams:
            self.current.send("stop")

    def _replace_master(self, carrier: Carrier, returncode: int) -> None:
        if carrier.has_hung and carrier.lived() < HEALTHY + self._start.patience:
            self._master_failed()
        elif carrier.lived() >= EARLY:
            self._failures = self._kills = 0
            self.start_master()
        elif returncode == -signal.SIGKILL and self._kills < MANY_KILLS:
            self._kills += 1
            self.start_master()
        else:
            self._master_failed()

    def _master_failed(self) -> None:
        if self._is_finishing:
            return
        self._failures += 1
        self.retry_at = time.monotonic() + pause(self._failures)
        if self._failures == TOO_MANY:
            warn("the alarm master keeps dying; output passes without alarms while it is tried again")
        if self._failures >= TOO_MANY and self.streams:
            self._start_relay()

    def _start_relay(self) -> None:
        with suppress(OSError):  # where there is no room for it, the next master is tried all the same
            self.current = start_relay(self.streams)

    @property
    def due(self) -> float | None:
        """When `look_at_time` has something to do (``time.monotonic()``)."""
        watched = self._watched()
        times = (self.retry_at, None if watched is None else watched.due)
        return min((at for at in times if at is not None and at != math.inf), default=None)

    def _watched(self) -> Watchdog | None:
        """Return the watchdog of the current master. One that was asked to end has a limit of its own."""
        carrier = self.current
        return None if carrier is None or carrier.has_hung or self._is_finishing else carrier.watchdog

    def look_at_time(self, now: float) -> None:
        """Try the next master when it is time (``time.monotonic()``); ask the current one whether it is well."""
        watched = self._watched()
        if self.current is not None and watched is not None and now >= watched.due:
            self._look_after(self.current, watched, now)
        if self.retry_at is None or now < self.retry_at:
            return
        self.retry_at = None
        if self.current is None:
            self.start_master()
        else:
            self.current.send("stop")

    def _look_after(self, master: Carrier, watchdog: Watchdog, now: float) -> None:
        if not watchdog.look(now):
            master.send("ping")
            return
        warn("the alarm master does not answer; it is killed, and another one takes its place")
        master.has_hung = True
        os.kill(master.pid, signal.SIGKILL)

    def finish(self) -> None:
        """Have the master deliver what it has and end; start one for it when there is none but one could work."""
        self._is_finishing = True
        self.retry_at = None
        if self.current is None:
            self._start_last()
        else:
            self.current.send("stop")

    def kill(self) -> None:
        """End the current carrier at once.

        Where output is left, the next one gets it: another master, then a relay, then nobody.
        """
        self._end_kills += 1
        if self.current is not None:
            os.kill(self.current.pid, signal.SIGKILL)


def _count(subject: str) -> dict[str, int]:
    """Return the number of lines that a message is about, by the stream; nothing where it is not understood."""
    name, _, n = subject.partition(" ")
    return {name: int(n)} if name.isascii() and n.isascii() and n.isdecimal() else {}


def _ended(master: Carrier, returncode: int) -> str:
    """Return how a master has ended."""
    if master.has_hung:
        return f"process {master.pid} did not answer and was killed"
    if returncode < 0:
        return f"process {master.pid} was ended by {signal.Signals(-returncode).name}"
    return f"process {master.pid} ended with status {returncode}"
