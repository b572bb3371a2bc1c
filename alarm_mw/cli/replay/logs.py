"""Finds and opens logs: files, compressed ones too, directories, the standard input."""

from __future__ import annotations

import glob
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TextIO

from alarm_mw.config.tables.follow import JOURNAL

#: Bytes that are read at a time: as much as fits into a processor's cache.
BLOCK = 256 * 1024

#: Seconds until progress is shown, and between two updates.
_QUIET, _UPDATE = 1.0, 0.2


def files_of(names: Iterable[str]) -> list[str]:
    """Return the files of directories and of patterns such as ``*.log``; raise `FileNotFoundError` if there are none.

    A directory gives what is directly in it, hidden files left out, by name. "-" and ``journal:UNIT`` are as they are.
    """
    found: list[str] = []
    for name in names:
        if name == "-" or name.startswith(JOURNAL) or Path(name).is_file():
            files = [name]
        elif Path(name).is_dir():
            files = sorted(str(path) for path in Path(name).iterdir() if path.is_file() and path.name[0] != ".")
        else:
            files = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())  # noqa: PTH207
        if not files:
            raise FileNotFoundError(f"{name}: there is no such file")
        found += files
    return found


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield a stream in blocks of whole lines."""
    while data := stream.read(BLOCK):
        yield data if data.endswith(b"\n") else data + stream.readline()


class ReadProgress:
    """Shows on a terminal how much has been read, how fast, and how long the rest takes."""

    def __init__(self, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the number of bytes of all files; 0 if it is not known."""
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._start = clock()
        self._next = self._start + _QUIET if self._stream.isatty() else float("inf")
        self._is_shown = False

    def __call__(self, done: int) -> None:
        """Show that `done` bytes of all files have been read."""
        now = self._clock()
        if now < self._next:
            return
        self._next, self._is_shown = now + _UPDATE, True
        speed = done / max(now - self._start, 1e-9)
        text = f"{done / 1e9:.2f} GB read, {speed / 1e6:,.0f} MB/s"
        if self._total:
            text = f"{100 * done / self._total:.0f} % of {self._total / 1e9:.2f} GB, {speed / 1e6:,.0f} MB/s, "
            text += f"{max(self._total - done, 0) / max(speed, 1):.0f} s left"
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the line, so that something else can be printed."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown = False
