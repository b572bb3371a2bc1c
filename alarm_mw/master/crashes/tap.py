"""Stands between a stream's reader and its intake, and copies what reports a crash.

A chunk without a crash costs one more search, for literals of its own.
"""

from __future__ import annotations

import copy
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from alarm_mw.master.streams.lines import Chunk, LinePrefilter
from alarm_mw.model.types import Context
from alarm_mw.monitors.segfault.crashdump import BEGINNING, is_beginning, is_dump_line
from alarm_mw.patterns.literal_finder import literal_finder
from alarm_mw.patterns.literals import Literal
from alarm_mw.patterns.prefilter import Hit, Hits

#: Seconds after the first line of a dump for which its other lines are looked for.
DUMP_TIME = 1.0

#: What a line that reports a crash contains: Python's words, and gunicorn's newer and older ones.
_WORDS = [Literal(words) for words in (BEGINNING, b"Worker (pid:", b"Worker with pid ")]
_KILLED = re.compile(
    rb"Worker (?:\(pid:(\d{1,9})\) was sent|with pid (\d{1,9}) was terminated due to signal) (SIG[A-Z0-9]+|\d{1,3}\b)"
)
#: Only LF ends a line, and the last of a stream may lack it.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class StreamLine(NamedTuple):
    """A line of a stream."""

    #: Of its first byte.
    offset: int
    line: str


class Listener(Protocol):
    """Is called with what was found; in the reader's thread, and before the lines go out."""

    def hear_lines(self, stream: str, lines: Sequence[StreamLine]) -> None:
        """Take lines that begin a dump or belong to one."""
        ...

    def hear_killed(self, pid: int, number: int) -> None:
        """Take what a parent says: its child was killed by a signal."""
        ...


@dataclass(slots=True)
class _Found:
    """What was found in the stream and not handed over yet."""

    #: Until when lines of a dump are looked for.
    open_until: float = 0.0
    is_any: bool = False


class CrashTap:
    """The prefilter and the ``hand_over`` of one `StreamReader`; for that reader's thread."""

    def __init__(self, prefilter: LinePrefilter, hand_over: Callable[[Chunk], None], listener: Listener) -> None:
        self.prefilter = prefilter
        self._hand_over = hand_over
        self._listener = listener
        self._words = literal_finder(_WORDS)
        self._found = _Found()

    @property
    def rule_set(self) -> object:
        """What the numbers of the hits' rules belong to (`LinePrefilter`)."""
        return self.prefilter.rule_set

    @property
    def contexts(self) -> Mapping[int, Context]:
        """The lines that rules want around their hits (`LinePrefilter`)."""
        return self.prefilter.contexts

    def with_prefilter(self, prefilter: LinePrefilter) -> CrashTap:
        """Return the same tap with another prefilter: what the one scans, the other hands over as well."""
        fresh = copy.copy(self)
        fresh.prefilter = prefilter
        return fresh

    def scan(self, data: bytes, base: int = 0) -> Hits:
        """Return the prefilter's hits, and the lines that report a crash as hits of no rule (`LinePrefilter`)."""
        hits = self.prefilter.scan(data, base)
        has_words = self._words.finds_any(data)
        if not has_words and not self._is_open():
            return hits
        if has_words and BEGINNING in data:
            self._found.open_until = time.monotonic() + DUMP_TIME
        self._found.is_any = True
        return self._with_crash_lines(data, base, hits)

    def candidates(self, message: bytes) -> tuple[int, ...]:
        """Return the rules that may match a record of several lines (`LinePrefilter`)."""
        return self.prefilter.candidates(message)

    def __call__(self, chunk: Chunk) -> None:
        """Let the listener hear of crashes, and hand the rest over."""
        if self._found.is_any and chunk.hits:
            self._found.is_any = False
            self._report(chunk)
            chunk = replace(chunk, hits=tuple(hit for hit in chunk.hits if hit.rules))
        self._hand_over(chunk)

    def _is_open(self) -> bool:
        return self._found.open_until > 0.0 and time.monotonic() < self._found.open_until

    def _with_crash_lines(self, data: bytes, base: int, hits: Hits) -> Hits:
        found: dict[int, Hit] = {}
        start = base
        for line in _LINE.findall(data):
            if _is_of_crash(line):
                found[start] = Hit(start, line, ())
            start += len(line)
        found.update((hit.start, hit) for hit in hits)
        merged = Hits(found[at] for at in sorted(found))
        merged.has_beginnings = hits.has_beginnings
        return merged

    def _report(self, chunk: Chunk) -> None:
        ours = [hit for hit in chunk.hits if _is_of_crash(hit.line)]
        for killed in filter(None, (_KILLED.search(hit.line) for hit in ours)):
            self._listener.hear_killed(int(killed[1] or killed[2]), _number(killed[3].decode()))
        lines = [StreamLine(hit.start, _text(hit.line)) for hit in ours if not _KILLED.search(hit.line)]
        if lines:
            self._listener.hear_lines(chunk.stream, lines)


def _is_of_crash(line: bytes) -> bool:
    return is_dump_line(line) or is_beginning(line) or _KILLED.search(line) is not None


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _number(name: str) -> int:
    """Return the signal's number; 0 for a name that this system does not know."""
    return int(name) if name.isdigit() else getattr(signal, name, 0)
