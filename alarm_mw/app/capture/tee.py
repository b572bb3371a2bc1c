"""Sees what is printed through `sys.stdout` and `sys.stderr` where they lead away from descriptors 1 and 2."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from alarm_mw.transports.records import to_bytes
from alarm_mw.transports.wire import MAX_MESSAGE

_STREAMS = {"stdout": 1, "stderr": 2}


class Tee:
    """Passes on what is written, and shows each line to `see`; in all else it is the stream. For any thread."""

    def __init__(self, stream: TextIO, see: Callable[[bytes], object]) -> None:
        self.stream = stream
        #: May be replaced at any time.
        self.see = see
        #: The line under way of each thread.
        self._begun: dict[int, str] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write to the stream first."""
        written = self.stream.write(text)
        thread = threading.get_ident()
        *lines, rest = (self._begun.pop(thread, "") + text).split("\n")
        if rest:
            self._begun[thread] = rest[:MAX_MESSAGE]  # more of a line is not sent anyway
        for line in lines:
            self.see(to_bytes(line) + b"\n")
        return written

    def writelines(self, texts: Iterable[str]) -> None:
        """Write one after the other."""
        for text in texts:
            self.write(text)

    def end(self) -> None:
        """Show the lines that lack their newline."""
        with contextlib.suppress(KeyError):  # another thread has just ended the last one
            while self._begun:
                self.see(to_bytes(self._begun.popitem()[1]))


#: The last tee of each name: a `logging` handler that keeps it is seen by the next `Tees` as well.
_last: dict[str, Tee] = {}


class Tees:
    """Tees in the place of the streams that reach no captured descriptor, though another one."""

    def __init__(self) -> None:
        self._tees: dict[str, Tee] = {}

    def start(self, see: Callable[[str, bytes], object]) -> None:
        """Show `see` the name of the stream, and the line, for what is printed from now on."""
        for name, stream in _elsewhere():
            tee = _last.get(name)
            if tee is None or stream not in (tee, tee.stream):
                tee = _last[name] = Tee(stream, _nobody)
            tee.see = functools.partial(see, name)
            self._tees[name] = tee
            setattr(sys, name, tee)

    def stop(self) -> None:
        """Give the streams back; a stream that was put in the place of a tee since then stays."""
        for name, tee in self._tees.items():
            tee.end()
            tee.see = _nobody
            if getattr(sys, name) is tee:
                setattr(sys, name, tee.stream)
        self._tees = {}


def _nobody(line: bytes) -> None:
    """See nothing."""


def _elsewhere() -> Iterator[tuple[str, TextIO]]:
    for name in _STREAMS:
        stream = getattr(sys, name)
        # One without a descriptor may write to any other stream in the end, where its lines would be seen again.
        with contextlib.suppress(AttributeError, OSError, ValueError, TypeError):
            place = os.fstat(stream.fileno())
            if not any(os.path.samestat(place, os.fstat(number)) for number in _STREAMS.values()):
                yield name, stream
