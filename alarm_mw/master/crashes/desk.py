"""The crash desk of a master: gathers what is seen of the ends of processes, and reports each death once.

Four ways lead here, any of them may be missing, and none is spare. Of six deaths each, under gunicorn:

- without the kernel's word for each watched process (`ProcessWatch`), no crashed child of the application is reported;
- without the dump in the output (`CrashTap`), no crash comes with its stacks;
- without gunicorn's words (`CrashTap`), no worker killed by SIGKILL is reported before Linux 6.15, where the parent may
  be faster with its question how the process ended;
- without the supervisor's word, the end of the server itself is not reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alarm_mw.master.crashes.death_book import DeathBook
from alarm_mw.master.crashes.process_watch import ProcessWatch
from alarm_mw.master.crashes.tap import CrashTap, StreamLine
from alarm_mw.master.streams.lines import Chunk, LinePrefilter
from alarm_mw.model.types import Death
from alarm_mw.monitors.segfault.crashdump import is_beginning
from alarm_mw.system.exits import OomKills, is_dumping_core
from alarm_mw.system.processes import newest_pid

log = logging.getLogger(__name__)


class Pace:
    """Pure: times are in seconds, of any clock that does not jump."""

    def __init__(self, lively: float, quiet: float, calm: float) -> None:
        """Pause for `lively` seconds, and for `quiet` ones when nothing has happened for `calm` seconds."""
        self._lively, self._quiet, self._calm = lively, quiet, calm
        self._happened = -math.inf

    def note(self, now: float) -> None:
        """Note that something has happened."""
        self._happened = now

    def pause(self, now: float) -> float:
        """Return the seconds until the next question."""
        return self._lively if now < self._happened + self._calm else self._quiet


#: Seconds between questions whether there is any new process: one that dies before it is watched has no number. The
#: second is for when no process of the server has begun or ended for `CALM` seconds: each question wakes the machine.
ASK_EVERY = 0.1
ASK_WHEN_QUIET = 0.5
CALM = 10.0
#: Seconds between looks at which processes there are, where no new one asks for it.
LOOK_EVERY = 2.0
#: Seconds for which a rise in the count of kills for want of memory explains a SIGKILL.
OOM_MEMORY = 3.0
#: Seconds for which a new master reports deaths again: the outbox knows those that it has.
REPORT_AGAIN = 5.0

Report = Callable[[Death], None]


class CrashDesk:
    """Lives on the event loop; what it hears may come from any thread."""

    def __init__(
        self,
        run_id: str,
        command: Sequence[str],
        directory: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        find_oom_kills: Callable[[int], OomKills] = OomKills.of,
    ) -> None:
        self._loop = loop
        self._command = shlex.join(command)
        self._lock = threading.Lock()
        self._book = DeathBook(directory / "deaths.jsonl", run_id)
        self._listeners: list[Report] = []
        self._watch = ProcessWatch(self._ended)
        self._pace = Pace(ASK_EVERY, ASK_WHEN_QUIET, CALM)
        self._server: int | None = None
        self._find_oom_kills = find_oom_kills
        self._oom: OomKills | None = None
        self._oom_count = 0
        self._oom_rose = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None

    def tap(self, prefilter: LinePrefilter, hand_over: Callable[[Chunk], None]) -> CrashTap:
        """Return what stands between a stream's reader and `hand_over`, and lets the desk hear of crashes."""
        return CrashTap(prefilter, hand_over, self)

    @contextlib.contextmanager
    def subscribed(self, report: Report) -> Iterator[None]:
        """Call `report`, on the event loop, with every death while the context lasts; with the latest at once."""
        self._listeners.append(report)
        with self._lock:
            recent = self._book.deaths.reported_since(time.monotonic() - REPORT_AGAIN)
        for death in recent:
            _report_one(report, death)
        self._turn()
        try:
            yield
        finally:
            self._listeners.remove(report)

    # From other threads

    def hear_lines(self, stream: str, lines: Sequence[StreamLine]) -> None:
        """Take lines of the output that begin a dump or belong to one; they are written down when this returns."""
        now = time.monotonic()
        with self._lock:
            for offset, line in lines:
                begins = is_beginning(line.encode())
                if begins or self._book.deaths.is_open(stream):
                    method = "begin_dump" if begins else "add_line"
                    self._book.note(method, stream=stream, offset=offset, line=line, now=now)
        self._call(self._turn)

    def hear_killed(self, pid: int, number: int) -> None:
        """Take what a parent says: its child was killed by signal `number`."""
        self._call(self._child_killed, pid, -number)

    def hear_supervisor(self, words: Sequence[str]) -> None:
        """Take the supervisor's words, of which it is certain: ``server PID`` and ``exited RETURNCODE``."""
        match words:
            case ["server", pid]:
                self._call(self._watch_server, int(pid))
            case ["exited", returncode]:
                self._call(self._server_ended, int(returncode))

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    # On the event loop

    async def start(self, server: int | None) -> None:
        """Start watching process `server` and all that comes from it.

        To be called before the output is read and anybody listens: the rest of half a dump still lies in the pipe.
        """
        if server is not None:
            self._watch_server(server)
        with self._lock:
            self._book.deaths.wait_again(time.monotonic())
        self._looking = asyncio.create_task(self._look_again_and_again(), name="alarm-mw-crashes")

    async def stop(self) -> None:
        """Report what is still waited for, as far as it is known, and stop watching."""
        if self._looking is not None:
            self._looking.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._report(at_once=True)
        self._watch.close()

    async def _look_again_and_again(self) -> None:
        newest, due = -1, 0.0
        while True:
            with contextlib.suppress(OSError):  # no descriptor is left at the moment
                asked, now = newest_pid(), time.monotonic()
                if now >= due or asked != newest:
                    newest, due = asked, now + LOOK_EVERY
                    self._look()
            await asyncio.sleep(self._pace.pause(time.monotonic()))

    def _look(self) -> None:
        if self._server is None:
            return
        try:
            if self._watch.look(self._server):
                self._pace.note(time.monotonic())
            self._count_oom_kills()
        except Exception:  # a process that cannot be looked at must not keep deaths from being reported
            log.exception("the server's processes cannot be looked at")

    def _watch_server(self, pid: int) -> None:
        self._server = pid
        self._oom = self._find_oom_kills(pid)
        self._oom_count = self._oom.count()
        self._look()

    def _count_oom_kills(self) -> None:
        count = self._oom.count() if self._oom is not None else 0
        if count > self._oom_count:
            self._oom_rose = time.monotonic()
        self._oom_count = count

    def _server_ended(self, returncode: int) -> None:
        if self._server is not None and returncode != 0:
            self._note_end(self._server, returncode, "", is_server=True)

    def _child_killed(self, pid: int, returncode: int) -> None:
        # A worker that nobody has looked at yet has the command of the server that it was forked from.
        self._ended(pid, returncode, self._watch.command(pid) or self._command)

    def _ended(self, pid: int, returncode: int | None, command: str) -> None:
        self._pace.note(time.monotonic())
        if returncode != 0:
            self._note_end(pid, returncode, command, is_server=pid == self._server)

    def _note_end(self, pid: int, returncode: int | None, command: str, *, is_server: bool) -> None:
        command = command or self._watch.command(pid) or (self._command if is_server else "")
        is_killed = returncode == -signal.SIGKILL
        if is_killed:
            self._count_oom_kills()
        now = time.monotonic()
        with self._lock:
            self._book.note(
                "end",
                # A child of the application that ends with some status is nothing to remember.
                is_lasting=is_server or (returncode is not None and returncode < 0),
                pid=pid,
                returncode=returncode,
                now=now,
                command=command,
                is_server=is_server,
                out_of_memory=is_killed and now < self._oom_rose + OOM_MEMORY,
            )
        self._turn()

    def _turn(self) -> None:
        """Report what is due, and come back when there will be more."""
        with self._lock:
            lacks_pid = self._book.deaths.lacks_pid()
        if lacks_pid:
            self._look_for_dying()
        self._report()
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            due = self._book.deaths.next_due()
        if due is not None and self._listeners:
            self._timer = self._loop.call_later(max(due - time.monotonic(), 0.0) + 0.001, self._turn)

    def _look_for_dying(self) -> None:
        """Find who writes a dump before it is gone; one whose core file is being written may stay for long."""
        self._look()
        for pid in self._watch.pids():
            if is_dumping_core(pid):
                with self._lock:
                    self._book.deaths.end(pid, None, time.monotonic(), command=self._watch.command(pid))

    def _report(self, *, at_once: bool = False) -> None:
        if not self._listeners:
            return
        with self._lock:
            ripe = self._book.deaths.ripe(time.monotonic(), at_once=at_once)
        for death in ripe:
            for report in self._listeners:
                _report_one(report, death)
        with self._lock:
            for death in ripe:
                self._book.note("mark_reported", key=death.key)
            self._book.tidy()


def _report_one(report: Report, death: Death) -> None:
    try:
        report(death)
    except Exception:  # a monitor may be anybody's code, and the others must hear of it
        log.exception("a monitor failed at a death")
