"""`capture_stdio()` of one process: descriptors 1 and 2 go through a relay. `alarm-mw run` uses `master.streams`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alarm_mw.app.capture.console import console_lines
from alarm_mw.app.capture.relay import REPORT
from alarm_mw.engine.echo import LineCounts
from alarm_mw.model.origin import is_by_alarm
from alarm_mw.system.descriptors import has_no_writer, is_open, lead_to_one_place, unread, write_all
from alarm_mw.system.forks import new_lock

_RELAY = Path(__file__).with_name("relay.py")


def shared_file() -> BinaryIO:
    """Return an unnamed file of a page of zeros."""
    if hasattr(os, "memfd_create"):
        file: BinaryIO = os.fdopen(os.memfd_create("alarm-mw-relay"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    file.truncate(mmap.PAGESIZE)
    return file


def spawn(descriptors: list[int]) -> int:
    """Start the relay with copies of `descriptors` and return its process id."""
    first = max(descriptors) + 1
    numbers = range(first, first + len(descriptors))
    actions = [(os.POSIX_SPAWN_DUP2, *pair) for pair in zip(descriptors, numbers, strict=True)]
    python = _python()
    return os.posix_spawn(
        python,
        [python, "-I", "-S", str(_RELAY), *map(str, numbers)],
        os.environ,
        file_actions=actions,
        # Until it ignores them itself.
        setsigmask=(signal.SIGINT, signal.SIGHUP, signal.SIGTERM),
    )


def _python() -> str:
    """Return a Python interpreter: where Python is embedded, `sys.executable` is something else."""
    if "python" in Path(sys.executable or "").name:
        return sys.executable
    return str(Path(sys.exec_prefix, "bin", "python3"))


#: All own lines are remembered under one name.
_OURS = ""


class OwnPrints:
    """Learns of each record where it is made: `logging` has no other place that all of them pass."""

    def __init__(self) -> None:
        self._lines = LineCounts()
        #: Any thread logs or prints.
        self._lock = new_lock()
        self._before: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()

    def start(self) -> None:
        """Begin to learn."""
        self._before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._make)

    def stop(self) -> None:
        """End; a factory that was set since then stays."""
        if logging.getLogRecordFactory() == self._make:
            logging.setLogRecordFactory(self._before)

    def takes(self, line: bytes) -> bool:
        """Return whether a printed line is one of ours; each record excuses its lines once."""
        with self._lock:
            return self._lines.take(_OURS, line.rstrip(b"\r\n"), time.monotonic())

    def _make(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        # `makeLogRecord` gives the name afterwards.
        if is_by_alarm(record.name or ""):
            for line in console_lines(record, certain=False):
                with self._lock:
                    self._lines.add(_OURS, line, time.monotonic())
        return record


_STDOUT, _STDERR = 1, 2

#: Seconds between two looks at a relay that is to end.
_TICK = 0.002

#: Seconds between two looks into a pipe whose relay was killed.
_STAND_IN_TICK = 0.01

#: What a forked child must not hold: it would keep the relay from seeing that this process is gone.
_not_for_children: set[int] = set()


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    #: The descriptors that are captured: 1, 2, or both where they lead to one place.
    numbers: tuple[int, ...]
    #: The reading end of the pipe in their place. The relay reads it; this one is for when the relay is gone.
    source: int
    #: Where the numbers led before.
    original: int
    #: What the relay offers to the reader.
    copy: int


class StdioCapture:
    """Puts a pipe in the place of standard output and error, from which a small relay process passes all of it on.

    So prints of C extensions and of child processes are read too, byte for byte and in order, and no print waits for
    a thread of this process, not even one that holds the GIL. What comes out is what was printed, except that
    programs that ask find no terminal any more: ``isatty()`` is False. What a forked child prints is read by its
    parent, as long as that lives. A standard stream that is closed is left out.

    For each of `copies` start a reader, and let it call `copy_ended` at the end; then `stop`, wait for the readers,
    `close`. Methods may be called from any thread. In a forked child they do nothing, and a new capture can be made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pouring = threading.Lock()
        self._streams: list[_Stream] = []
        self._captured: set[str] = set()
        self._pid = 0
        #: The process id of the relay, while there is one.
        self.relay: int | None = None
        self._report: mmap.mmap | None = None
        self._dropped = 0
        self._stopping = False

    @property
    def copies(self) -> dict[str, int]:
        """The descriptors to read: ``stdout`` and ``stderr``, or only ``stdout`` where both lead to one place.

        Each comes to its end when the stream has: after `stop`, when no child writes to it any more.
        """
        return {stream.name: stream.copy for stream in self._streams}

    @property
    def saved_stderr(self) -> int:
        """A descriptor that leads to standard error past the capture: what is written there is not read."""
        return next((stream.original for stream in self._streams if _STDERR in stream.numbers), _STDERR)

    @property
    def dropped(self) -> int:
        """How many lines are missing in the copies because nobody read them in time."""
        if self._report is not None:
            self._dropped = sum(self._reported(number)[1] for number in range(len(self._streams)))
        return self._dropped

    def start(self) -> None:
        """Begin to capture; a second call does nothing.

        Raises `OSError` when both streams are closed, or when the relay cannot be started: then nothing is changed.
        """
        with self._lock:
            if self._streams:
                return
            groups = _groups()
            if not groups:
                raise OSError(errno.EBADF, "standard output and standard error are closed: nothing can be captured")
            _flush()
            with contextlib.ExitStack() as on_error:
                self._start(groups, on_error)
                on_error.pop_all()

    def _start(self, groups: dict[str, tuple[int, ...]], on_error: contextlib.ExitStack) -> None:
        def keep(descriptor: int) -> int:
            # Not in the place of a standard stream that is closed.
            kept = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STDERR + 1)
            on_error.callback(os.close, kept)
            return kept

        def pipe() -> tuple[int, int]:
            readable, writable = os.pipe()
            try:
                return keep(readable), keep(writable)
            finally:
                os.close(readable)
                os.close(writable)

        streams, writers, passed = [], [], []
        for name, numbers in groups.items():
            (source, writer), (copy, offered) = pipe(), pipe()
            streams.append(_Stream(name, numbers, source, keep(numbers[0]), copy))
            writers.append((writer, offered))
            passed += [source, streams[-1].original, offered]
        with shared_file() as report:
            memory = mmap.mmap(report.fileno(), mmap.PAGESIZE)
            self.relay = spawn([report.fileno(), *passed])
        for stream, (writer, offered) in zip(streams, writers, strict=True):
            for number in stream.numbers:
                os.dup2(writer, number)
            os.close(writer)
            os.close(offered)
            _not_for_children.update((stream.source, stream.copy))
        self._streams, self._report, self._pid = streams, memory, os.getpid()
        self._captured = set(groups)
        self._stopping = False

    def stop(self, timeout: float) -> bool:
        """Give the descriptors back and wait, for at most `timeout` seconds, until all that was printed came out.

        Returns whether it did, and whether the readers have taken their copies. A child that goes on printing
        keeps the relay; its output comes out as before. May be called twice.
        """
        if os.getpid() != self._pid or self._report is None:
            return True
        _flush()
        with self._lock:
            self._stopping = True
            for stream in self._streams:
                self._give_back(stream)
        return self._wait_for_relay(time.monotonic() + timeout)

    def close(self) -> None:
        """Close the copies and all else, when their readers have ended. May be called twice."""
        if os.getpid() != self._pid or self._report is None:
            return
        self.stop(0)
        self._dropped = self.dropped
        with self._lock:
            for stream in self._streams:
                _not_for_children.difference_update((stream.source, stream.copy))
                for descriptor in (stream.source, stream.original, stream.copy):
                    os.close(descriptor)
            self._report.close()
            self._streams, self._report = [], None

    def copy_ended(self, name: str) -> None:
        """Go on without the relay, if it was killed or nobody reads the original: call it when a copy has ended.

        The stream's descriptors are given back. What the relay left in the pipe, and what children still write into
        it, is passed on by the calling thread, until there is no writer any more or `stop` is called.
        """
        stream = next((stream for stream in self._streams if stream.name == name), None)
        with self._lock:
            if stream is None or name not in self._captured:
                return
            self._give_back(stream)
        while not self._stopping and not has_no_writer(stream.source):
            if not self._pour(stream):
                time.sleep(_STAND_IN_TICK)
        self._pour(stream)

    def _pour(self, stream: _Stream) -> bool:
        """Pass on what is in the pipe of a relay that is gone; return whether there was anything."""
        with self._pouring:
            size = unread(stream.source)
            data = os.read(stream.source, size) if size else b""
            # Where it is impossible to write, who prints must not wait for us.
            write_all(stream.original, data)
        return size > 0

    def _give_back(self, stream: _Stream) -> None:
        self._captured.discard(stream.name)
        pipe = os.fstat(stream.source)
        for number in stream.numbers:
            # The application may have put something else there since.
            if is_open(number) and os.path.samestat(os.fstat(number), pipe):
                os.dup2(stream.original, number)

    def _wait_for_relay(self, deadline: float) -> bool:
        while not self._has_ended():
            if self._has_others() and all(self._is_passed_on(number) for number in range(len(self._streams))):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_TICK)
        for stream in self._streams:
            # Nothing, unless the relay was killed.
            self._pour(stream)
        return True

    def _has_others(self) -> bool:
        """Return whether other processes still print, for whose sake the relay goes on."""
        return not all(has_no_writer(stream.source) for stream in self._streams)

    def _has_ended(self) -> bool:
        if self.relay is not None:
            try:
                ended, _ = os.waitpid(self.relay, os.WNOHANG)
            except ChildProcessError:
                # Somebody waits for every child of this process.
                ended = self.relay
            if ended:
                self.relay = None
        return self.relay is None

    def _is_passed_on(self, number: int) -> bool:
        # In this order: the relay says that it is busy before it empties the source.
        return not unread(self._streams[number].source) and not self._reported(number)[0]

    def _reported(self, number: int) -> tuple[bool, int]:
        assert self._report is not None
        busy, dropped = REPORT.unpack_from(self._report, number * REPORT.size)
        return busy, dropped


def _groups() -> dict[str, tuple[int, ...]]:
    """Return what is to be captured: numbers by the name of their stream."""
    numbers = tuple(filter(is_open, (_STDOUT, _STDERR)))
    if len(numbers) > 1 and lead_to_one_place(*numbers):
        return {"stdout": numbers}
    return {"stdout" if number == _STDOUT else "stderr": (number,) for number in numbers}


def _flush() -> None:
    """Let out what was printed before, by Python and by C."""
    for file in (sys.stdout, sys.stderr):
        # None, closed, or broken: there is nothing to be let out.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            file.flush()
    # All of C's files would include one from which another thread is just reading.
    for name in ("stdout", "__stdoutp"):
        with contextlib.suppress(ValueError):
            _libc.fflush(ctypes.c_void_p.in_dll(_libc, name))


_libc = ctypes.CDLL(None)


def _after_fork_in_child() -> None:
    for descriptor in _not_for_children:
        os.close(descriptor)
    _not_for_children.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
