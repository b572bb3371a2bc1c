"""What is known of deaths, in a file that outlives the master: the next one goes on from there.

Every fact is a line of JSON, written before it counts. The file is small, and empty while nothing dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from alarm_mw.master.crashes.deaths import Deaths

log = logging.getLogger(__name__)

#: A file larger than this, in bytes, is neither read nor written until nothing in it matters any more.
MAX_SIZE = 4_000_000


class _Fact(msgspec.Struct, array_like=True, frozen=True):
    """A call of one of the methods of `Deaths`."""

    run_id: str
    method: str
    arguments: dict[str, str | int | float | bool | None]


class DeathBook:
    """`Deaths`, written down in `path`. For one thread at a time; every fact may block for the time of a write."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.deaths = Deaths(run_id)
        self._run_id = run_id
        self._path = path
        self._methods: dict[str, Callable[..., None]] = {
            method.__name__: method
            for method in (self.deaths.begin_dump, self.deaths.add_line, self.deaths.end, self.deaths.mark_reported)
        }
        self._size = self._read()

    def note(self, method: str, *, is_lasting: bool = True, **arguments: str | float | bool | None) -> None:
        """Call a method of `Deaths`; where `is_lasting`, the next master will have heard of it."""
        if is_lasting:
            self._write(msgspec.json.encode(_Fact(self._run_id, method, dict(arguments))) + b"\n")
        self._methods[method](**arguments)

    def tidy(self) -> None:
        """Empty the file when nothing is known any more."""
        if self._size and self.deaths.is_idle():
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)
                self._size = 0

    def _read(self) -> int:
        """Hear what the former master of this run has written; return the file's size."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return 0
        for line in data.splitlines()[: MAX_SIZE // 10]:
            with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):  # the last one may be half a line
                fact = msgspec.json.decode(line, type=_Fact)
                if fact.run_id == self._run_id:
                    self._methods[fact.method](**fact.arguments)
        return len(data)

    def _write(self, line: bytes) -> None:
        if self._size + len(line) > MAX_SIZE:
            return
        try:
            self._path.touch(mode=0o600)
            with self._path.open("ab", buffering=0) as file:
                self._size += file.write(line)
        except OSError as error:
            log.warning("%s cannot be written: %s; a crash may be reported twice", self._path, error.strerror)
