"""Waits for the server, its signals and its master; and for nothing else."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import NoReturn

from alarm_mw.supervisor.carriers.carrier import patience_of
from alarm_mw.supervisor.carriers.master_pool import MasterPool
from alarm_mw.supervisor.carriers.start import CarrierStart
from alarm_mw.supervisor.notify import NotifySocket
from alarm_mw.supervisor.process import children, end_as
from alarm_mw.supervisor.records import RecordsSocket
from alarm_mw.supervisor.signals import ENDING, STOPPING, is_sent_to_us_alone, stop_as
from alarm_mw.supervisor.started import Started
from alarm_mw.system.linux import Arrived, read_signals, signal_fd

#: Seconds for which output that somebody unknown holds open is waited for after the last of the server's processes.
DRAIN = 5.0
#: Seconds that a master gets beyond its own time limit at the end.
GRACE = 2.0

#: The exit status, where it says so, if alarms still wait that a server which has succeeded has fired.
UNDELIVERED = os.EX_TEMPFAIL

_TICK = 1.0


class Supervisor:
    """The parent of a running server and of whatever carries its output."""

    def __init__(
        self, server: int, masters: MasterPool, shutdown_timeout: float, notify: NotifySocket | None = None
    ) -> None:
        self._server = server
        self._masters = masters
        self._shutdown_timeout = shutdown_timeout
        self._notify = notify
        self.signals = signal_fd()
        self._leads_session = os.getsid(0) == os.getpid()
        #: As in `subprocess`: the exit status, or a signal's number below zero.
        self._returncode: int | None = None
        self._has_heirs = False
        #: The signals that the server got from us.
        self._forwarded: set[int] = set()
        #: The one of them that has ended it, if one has.
        self._ended_by: int | None = None
        #: Which of the processes that it left behind got that one, too.
        self._ended_with_server: set[int] = set()
        self._is_asked_to_end = False
        self._drained_at: float | None = None
        #: When the last carrier's time is over (``time.monotonic()``).
        self._limit: float | None = None

    def run(self) -> int:
        """Return how the server ended, as `subprocess` reports it, after its last output was passed on."""
        self._masters.announce(f"server {self._server}")
        self._masters.start_master()
        self._reap()  # where this process had other threads, one of them may have received the signal of a death
        while not self.is_over(time.monotonic()):
            self._turn()
        self._finish()
        assert self._returncode is not None
        return self._returncode

    def _finish(self) -> None:
        self._masters.finish()
        self._limit = time.monotonic() + self._shutdown_timeout + GRACE
        while self._masters.current is not None:
            if self._limit is not None and time.monotonic() >= self._limit:
                self._limit = time.monotonic() + self._shutdown_timeout + GRACE
                self._masters.kill()
            self._turn()

    def _turn(self) -> None:
        self._wait()
        for arrived in read_signals(self.signals):
            self.handle(arrived)
        if self._notify is not None:
            self._notify.pass_on()
        self._masters.listen()
        self._masters.look_at_time(time.monotonic())

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(self.signals, select.POLLIN)
        if self._notify is not None:
            waiting.register(self._notify, select.POLLIN)
        carrier = self._masters.current
        if carrier is not None and carrier.is_talking:
            waiting.register(carrier.control, select.POLLIN)
        waiting.poll(self._patience())

    def _patience(self) -> float | None:
        """Return the milliseconds until something must be done though nothing happens."""
        now = time.monotonic()
        waits = [max(0.0, at - now) for at in (self._masters.due, self._limit) if at is not None]
        if self._returncode is not None and not self._has_heirs:
            waits.append(_TICK)
        return min(waits) * 1000 if waits else None

    def handle(self, arrived: Arrived) -> None:
        """Do what a signal asks for."""
        if arrived.number == signal.SIGCHLD:
            self._reap()
            return
        if arrived.number in ENDING:
            self._is_asked_to_end = True
        if arrived.number == signal.SIGHUP:
            self._masters.reload()
        if self._is_news_to_server(arrived):
            self._forward(arrived.number)
        if arrived.number in STOPPING:
            stop_as(arrived.number)

    def _is_news_to_server(self, arrived: Arrived) -> bool:
        terminals = [stream for stream in self._masters.streams if stream.terminal]
        if arrived.number == signal.SIGWINCH and terminals:
            for stream in terminals:
                stream.copy_window_size()
            return True  # the size it may have asked for already was the old one
        return is_sent_to_us_alone(arrived, leads_session=self._leads_session)

    def _forward(self, number: int) -> None:
        if self._returncode is None:
            self._forwarded.add(number)
            _send({self._server}, number)
        else:
            _send(self.heirs(), number)

    def heirs(self) -> set[int]:
        """Return what the server left behind: a gunicorn that took over, a daemon."""
        carrier = self._masters.current
        return children() - ({carrier.pid} if carrier is not None else set())

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self.ended(pid, status)
        if self._returncode is not None:
            self._look_for_heirs()

    def _look_for_heirs(self) -> None:
        heirs = self.heirs()
        if self._ended_by is not None:
            self._end_with_server(heirs, self._ended_by)
        self._has_heirs = bool(heirs)
        if heirs and self._server not in heirs:
            self._server = min(heirs)
            self._masters.announce(f"server {self._server}")

    def _end_with_server(self, heirs: set[int], number: int) -> None:
        """Pass the signal that has ended the server on to what it left, and to what that leaves, each once.

        A shell dies of SIGTERM without its command, which would then be waited for. A daemon that has let go of the
        output is not waited for, and is left alone; a server that ends with a status has passed the signal on itself,
        or has been replaced, as gunicorn is after SIGUSR2.
        """
        self._ended_with_server &= heirs
        left = {pid for pid in heirs - self._ended_with_server if self._holds_output(pid)}
        self._ended_with_server |= left
        _send(left, number)

    def _holds_output(self, pid: int) -> bool:
        return any(stream.is_held_by(pid) for stream in self._masters.streams)

    def ended(self, pid: int, status: int) -> None:
        """Note that a child has ended, with the status that ``waitpid`` gives."""
        carrier = self._masters.current
        returncode = os.waitstatus_to_exitcode(status)
        if carrier is not None and pid == carrier.pid:
            self._masters.ended(returncode)
        elif pid == self._server and self._returncode is None:
            self._returncode = returncode
            if -returncode in self._forwarded:
                self._ended_by = -returncode
            self._masters.announce(f"exited {self._returncode}")

    def is_over(self, now: float) -> bool:
        """Return whether the server has ended, and its output with it; `now` is ``time.monotonic()``."""
        if self._returncode is None:
            return False
        if not self._masters.streams:
            return True
        if self._has_heirs or self._is_waiting_for_reader():
            self._drained_at = None
            return False
        if self._drained_at is None:
            self._drained_at = now
        if now < self._drained_at + DRAIN:
            return False
        self._look_for_heirs()  # an orphan is adopted without a word
        return not self._has_heirs

    def _is_waiting_for_reader(self) -> bool:
        """Return whether output waits for a slow reader of ours: it would wait in the pipe without us, too."""
        return not self._is_asked_to_end and any(stream.is_unread() for stream in self._masters.streams)


def _send(pids: set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def supervise(started_fd: int) -> NoReturn:
    """Supervise what was started, by the descriptor of its facts, and end this process as its server ended."""
    started, plan, plan_fd = Started.take(started_fd)
    records = RecordsSocket(plan.socket, socket.socket(fileno=started.records), started.file)
    notify = None
    if started.notify is not None:
        notify = NotifySocket.of(os.environ, socket.socket(fileno=started.notify))
    start = CarrierStart(plan, plan_fd, records.listening, started.inherited, patience=patience_of(os.environ))
    masters = MasterPool(start, [*started.streams])
    returncode = Supervisor(started.server, masters, plan.shutdown_timeout, notify).run()
    if plan.is_strict and returncode == 0 and not masters.has_delivered:
        returncode = UNDELIVERED
    if notify is not None:
        notify.close()
    records.close()
    end_as(returncode)
