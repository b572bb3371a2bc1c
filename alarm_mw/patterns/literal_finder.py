"""Finds literals in bytes: all in one pass with Hyperscan's literal matcher, or one by one with `bytes.find`.

Hyperscan is used for literals only (``literal=True``): builds after 0.7.21 miss matches of regexps
(https://github.com/VectorCamp/vectorscan/issues/358) but not of literals, and a thousand literals compile in 15 ms.
Finders are usable from any thread and release the GIL.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from alarm_mw.patterns.literals import Literal
from alarm_mw.system.forks import held_off

#: A find is an end offset, shifted by this many bits, plus the number of a literal.
LITERAL_BITS = 24

#: A chunk with more finds than this, and more than this many per line, is searched line by line.
MOST_FINDS = 1000
FINDS_OF_A_LINE = 8

#: From this many literals on, the memory that compiling has freed is given back: 26 MB of 72 with 1,000 rules.
MANY_LITERALS = 100

#: Called with the number of a literal, the start (unused) and end of a match, flags and a context; True stops the scan.
Note = Callable[[int, int, int, int, object], bool]


#: Builds a finder.
MakeFinder = Callable[[Sequence[Literal]], "LiteralFinder"]


class LiteralFinder(Protocol):
    """Finds literals."""

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds in many lines, in any order, each literal at least once per line; None if too many."""
        ...

    def found_in(self, line: bytes) -> list[int]:
        """Return the numbers of the literals in one line."""
        ...

    def finds_any(self, data: bytes) -> bool:
        """Return whether any literal is in the data."""
        ...


class PlainFinder:
    """Searches for one literal after the other. Needs no package."""

    def __init__(self, literals: Sequence[Literal]) -> None:
        self._literals = [(number, each.text, each.ignores_case) for number, each in enumerate(literals)]
        self._ignores_case = any(each.ignores_case for each in literals)

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds in many lines."""
        small = data.lower() if self._ignores_case else data
        finds: list[int] = []
        for number, text, ignores_case in self._literals:
            where = small if ignores_case else data
            end = where.find(text)
            while end >= 0:
                end += len(text)
                finds.append(end << LITERAL_BITS | number)
                end = where.find(text, data.find(b"\n", end) + 1 or len(data))
        return finds

    def found_in(self, line: bytes) -> list[int]:
        """Return the numbers of the literals in one line."""
        small = line.lower() if self._ignores_case else line
        return [number for number, text, ignores_case in self._literals if text in (small if ignores_case else line)]

    def finds_any(self, data: bytes) -> bool:
        """Return whether any literal is in the data."""
        small = data.lower() if self._ignores_case else data
        return any(text in (small if ignores_case else data) for _, text, ignores_case in self._literals)


class HyperscanFinder:
    """Searches for all literals in one pass."""

    def __init__(self, literals: Sequence[Literal]) -> None:
        """Compile the literals; raise `ImportError` if Hyperscan is missing or does not support this processor."""
        with held_off():
            hyperscan: Any = importlib.import_module("hyperscan")
        self._new_scratch = hyperscan.Scratch
        self._error: type[Exception] = hyperscan.error
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        try:
            self._database.compile(
                expressions=[each.text for each in literals],
                ids=list(range(len(literals))),
                elements=len(literals),
                flags=[hyperscan.HS_FLAG_CASELESS if each.ignores_case else 0 for each in literals],
                literal=True,
            )
        except self._error as error:
            raise ImportError(f"Hyperscan cannot be used here: {error}") from error
        if len(literals) >= MANY_LITERALS:
            with held_off():
                from alarm_mw.system.linux import trim_heap  # noqa: PLC0415  # ctypes takes 1.5 ms at each start
            trim_heap()
        self._plain = PlainFinder(literals)
        self._local = threading.local()
        _live.add(self)

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds in many lines, or None if there are too many."""
        most = MOST_FINDS
        finds: list[int] = []
        append = finds.append

        def note(literal: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            append(end << LITERAL_BITS | literal)
            return len(finds) > most and are_too_many()

        def are_too_many() -> bool:
            nonlocal most
            most = max(MOST_FINDS, FINDS_OF_A_LINE * data.count(b"\n"))
            return len(finds) > most

        return finds if self._scan(data, note) else None

    def found_in(self, line: bytes) -> list[int]:
        """Return the numbers of the literals in one line."""
        return self._plain.found_in(line)

    def finds_any(self, data: bytes) -> bool:
        """Return whether any literal is in the data."""
        return not self._scan(data, _stop)

    def _scan(self, data: bytes, note: Note) -> bool:
        """Scan, and return whether the scan completed; False if it could not run."""
        try:
            scratch = self._local.scratch
        except AttributeError:  # A scratch serves one scan at a time.
            scratch = self._local.scratch = self._new_scratch(self._database)
        try:
            self._database.scan(data, note, 0, None, scratch)
        except self._error:  # Stopped by `note`, or the scratch is in use by a scan that a signal interrupted.
            return False
        return True

    def forget_scratches(self) -> None:
        """In a forked child, drop a scratch that was in use at the fork."""
        self._local = threading.local()


def _stop(_literal: int, _start: int, _end: int, _flags: int, _context: object) -> bool:
    return True


def literal_finder(literals: Sequence[Literal]) -> LiteralFinder:
    """Return the best finder that is installed."""
    if literals:
        with contextlib.suppress(ImportError):
            return HyperscanFinder(literals)
    return PlainFinder(literals)


_live: weakref.WeakSet[HyperscanFinder] = weakref.WeakSet()


def _after_fork() -> None:
    for finder in list(_live):
        finder.forget_scratches()


os.register_at_fork(after_in_child=_after_fork)
