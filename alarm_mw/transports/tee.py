"""Sees what is printed through `sys.stdout` and `sys.stderr` where they lead away from descriptors 1 and 2."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from alarm_mw.transports.records import to_bytes

_STREAMS = {"stdout": 1, "stderr": 2}


class Tee:
    """Passes on what is written, and shows each line to `see`; in all else it is the stream. For any thread."""

    def __init__(self, stream: TextIO, see: Callable[[bytes], object]) -> None:
        self._stream = stream
        self._see = see
        #: The line under way of each thread.
        self._begun: dict[int, str] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write to the stream first."""
        written = self._stream.write(text)
        thread = threading.get_ident()
        *lines, rest = (self._begun.pop(thread, "") + text).split("\n")
        if rest:
            self._begun[thread] = rest
        for line in lines:
            self._see(to_bytes(line) + b"\n")
        return written

    def writelines(self, texts: Iterable[str]) -> None:
        """Write one after the other."""
        for text in texts:
            self.write(text)

    def end(self) -> None:
        """Show the lines that lack their newline."""
        while self._begun:
            self._see(to_bytes(self._begun.popitem()[1]))


class Tees:
    """Tees in the place of the streams that reach no captured descriptor, though another one."""

    def __init__(self) -> None:
        self._tees: dict[str, tuple[Tee, TextIO]] = {}

    def start(self, see: Callable[[str, bytes], object]) -> None:
        """Show `see` the name of the stream, and the line, for what is printed from now on."""
        for name, stream in _elsewhere():
            tee = Tee(stream, lambda line, name=name: see(name, line))  # type: ignore[misc]  # bound to this name
            self._tees[name] = tee, stream
            setattr(sys, name, tee)

    def stop(self) -> None:
        """Give the streams back; a stream that was put in the place of a tee since then stays."""
        for name, (tee, stream) in self._tees.items():
            tee.end()
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
        self._tees = {}


def _elsewhere() -> Iterator[tuple[str, TextIO]]:
    for name in _STREAMS:
        stream = getattr(sys, name)
        # One without a descriptor may write to any other stream in the end, where its lines would be seen again.
        with contextlib.suppress(AttributeError, OSError, ValueError, TypeError):
            place = os.fstat(stream.fileno())
            if not any(os.path.samestat(place, os.fstat(number)) for number in _STREAMS.values()):
                yield name, stream
