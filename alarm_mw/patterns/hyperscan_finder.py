"""Hyperscan (or Vectorscan) as a finder: one pass over the bytes, whatever the number of rules.

Vectorscan 5.4.12 misses matches (https://github.com/VectorCamp/vectorscan/issues/358: a pair of bytes at the edge of a
vector), and the packages `hyperscan` 0.7.23 to 0.9.1 hold it. So a build is tried before it is trusted to compile. What
was saved need not be tried again: no build loads what one of another version has compiled.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from alarm_mw.patterns.expression import Expression
from alarm_mw.patterns.finder import RULE_BITS, Finder, Name, Tell
from alarm_mw.system.forks import held_off

#: A chunk with more finds than these, and than so many for each of its lines, is scanned line by line: to be called for
#: so many costs as much as to scan a line by itself.
MOST_FINDS = 1000
FINDS_OF_A_LINE = 8

#: From a line by itself with more finds than these on, such lines are scanned so that each rule is found once only.
MOST_OF_A_LINE = 64

#: Called with the number of a rule, the start (unused) and end of a match, flags and a context; True stops the scan.
Note = Callable[[int, int, int, int, object], bool]


class HyperscanFinder(Finder):
    """All patterns in one database."""

    name: Name = "hyperscan"
    exact = True

    def __init__(self, patterns: Mapping[int, bytes], refused: frozenset[int], database: _Database) -> None:
        self.refused = refused
        self._patterns = patterns
        self._database = database
        self._scan = database.scan
        #: Reports each rule once a scan. Made when a line first has more finds than are worth their calls.
        self._once: _Database | None = None

    @classmethod
    def compile(cls, expressions: Sequence[Expression]) -> HyperscanFinder:
        """Return a finder; raise `ImportError` where Hyperscan is missing."""
        patterns = _patterns(expressions, frozenset())
        try:
            database = _Database.compile(patterns)
        except ValueError:
            patterns = {rule: patterns[rule] for rule in _accepted(patterns, sorted(patterns))}
            database = _Database.compile(patterns)
        return cls(patterns, frozenset(range(len(expressions))) - frozenset(patterns), database)

    @classmethod
    def loads(cls, saved: bytes, expressions: Sequence[Expression], refused: frozenset[int]) -> HyperscanFinder:
        """Return the finder that `dumps` saved; raise `ImportError` or `ValueError` where that cannot be."""
        patterns = _patterns(expressions, refused)
        if patterns and not saved:
            raise ValueError("the database was not saved")
        return cls(patterns, refused, _Database.loads(saved))

    def dumps(self) -> bytes:
        """Return the compiled database, or nothing where it cannot be had."""
        return self._database.dumps()

    def find(self, data: bytes) -> list[int] | None:
        """Return the finds, or None where they are too many or cannot be told."""
        most = MOST_FINDS
        finds: list[int] = []
        append = finds.append

        def note(rule: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            append(end << RULE_BITS | rule)
            return len(finds) > most and are_too_many()

        def are_too_many() -> bool:
            nonlocal most
            most = max(MOST_FINDS, FINDS_OF_A_LINE * data.count(b"\n"))
            return len(finds) > most

        return finds if self._scan(data, note) else None

    def matches(self, data: bytes) -> set[int] | None:
        """Return the rules that may match somewhere in the data, or None where that cannot be told."""
        rules: list[int] = []

        def note(rule: int, _start: int, _end: int, _flags: int, _context: object) -> bool:
            rules.append(rule)
            return len(rules) > MOST_OF_A_LINE

        is_told = self._once is None and self._scan(data, note)
        return set(rules) if is_told else self._matches_once(data)

    def _matches_once(self, data: bytes) -> set[int] | None:
        """Return the same, by a database that is not made before a line needs it: that may take seconds."""
        rules: set[int] = set()
        add = rules.add

        def note(rule: int, _start: int, _end: int, _flags: int, _context: object) -> bool:
            add(rule)
            return False

        if self._once is None:
            self._once = _Database.compile(self._patterns, once=True)
        return rules if self._once.scan(data, note) else None

    def teller(self) -> Tell:
        """Return what tells whether any rule may match somewhere in a record."""
        return self._database.teller() or (lambda data: not self._scan(data, _stop))


def _stop(_rule: int, _start: int, _end: int, _flags: int, _context: object) -> bool:
    return True


def _patterns(expressions: Sequence[Expression], refused: frozenset[int]) -> dict[int, bytes]:
    return {
        rule: item.pattern.encode() for rule, item in enumerate(expressions) if item.pattern and rule not in refused
    }


def _accepted(patterns: Mapping[int, bytes], rules: Sequence[int]) -> list[int]:
    """Return the rules that Hyperscan takes: all, or those of each half."""
    try:
        _Database.compile({rule: patterns[rule] for rule in rules})
    except ValueError:
        if len(rules) == 1:
            return []
        middle = len(rules) // 2
        return _accepted(patterns, rules[:middle]) + _accepted(patterns, rules[middle:])
    return list(rules)


class _Database:
    """A compiled database and a scratch for each thread that scans with it."""

    def __init__(self, hyperscan: Any, database: Any) -> None:  # noqa: ANN401  # the package has no usable types
        self._hyperscan = hyperscan
        self._database = database
        self._scan = database.scan if database is not None else _scan_nothing
        self._error: type[Exception] = hyperscan.error
        self._local = threading.local()
        _live.add(self)

    @classmethod
    def compile(cls, patterns: Mapping[int, bytes], *, once: bool = False) -> _Database:
        """Return the database of these patterns; raise `ValueError` where one of them is refused."""
        hyperscan = _trusted_module()
        if not patterns:
            return cls(hyperscan, None)
        flags = hyperscan.HS_FLAG_MULTILINE | hyperscan.HS_FLAG_DOTALL | (hyperscan.HS_FLAG_SINGLEMATCH if once else 0)
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        try:
            database.compile(expressions=list(patterns.values()), ids=list(patterns), flags=[flags] * len(patterns))
        except hyperscan.error as error:
            raise ValueError(str(error)) from error
        return cls(hyperscan, database)

    @classmethod
    def loads(cls, saved: bytes) -> _Database:
        hyperscan = _module()
        try:
            return cls(hyperscan, hyperscan.loadb(saved, hyperscan.HS_MODE_BLOCK) if saved else None)
        except hyperscan.error as error:
            raise ValueError(str(error)) from error

    def dumps(self) -> bytes:
        """Return the compiled database, or nothing where it cannot be had."""
        if self._database is None or _are_frees_checked():
            return b""
        return bytes(self._hyperscan.dumpb(self._database))

    def teller(self) -> Tell | None:
        """Return what tells whether anything matches while no other thread runs; None where that cannot be had."""
        if not (saved := self.dumps()):
            return None
        with held_off():
            from alarm_mw.patterns.held_scan import HeldScan  # noqa: PLC0415  # it loads ctypes, which only records need

        try:
            return HeldScan(_extension(self._hyperscan), saved).finds_any
        except (OSError, AttributeError, ValueError):
            return None

    def scan(self, data: bytes, note: Note) -> bool:
        """Scan, and return whether the scan came to its end; where it cannot run, it did not."""
        try:
            scratch = self._local.scratch
        except AttributeError:
            scratch = self._new_scratch()
        try:
            self._scan(data, note, 0, None, scratch)
        except self._error:  # Stopped by `note`; or the scratch is in use, by what a signal interrupted.
            return False
        return True

    def _new_scratch(self) -> object:
        """Return this thread's scratch: it serves one scan at a time."""
        self._local.scratch = None if self._database is None else self._hyperscan.Scratch(self._database)
        return self._local.scratch

    def forget_scratches(self) -> None:
        """Leave alone, in a forked child, a scratch that was in use at the fork."""
        self._local = threading.local()


def _extension(hyperscan: Any) -> str:  # noqa: ANN401  # the package has no usable types
    """Return the path of the package's extension, which has Hyperscan in it."""
    return str(sys.modules[hyperscan.dumpb.__module__].__file__)


def _are_frees_checked() -> bool:
    """Return whether Python's allocators are the debugging ones: `dumpb` frees by them what they did not allocate."""
    return sys.flags.dev_mode or "debug" in os.environ.get("PYTHONMALLOC", "")


@cache
def _trusted_module() -> Any:  # noqa: ANN401  # the package has no usable types
    """Return the module; raise `ImportError` where it is missing, or finds too little."""
    hyperscan = _module()
    _try(hyperscan)
    return hyperscan


def _module() -> Any:  # noqa: ANN401  # the package has no usable types
    with held_off():
        return importlib.import_module("hyperscan")


def _try(hyperscan: Any) -> None:  # noqa: ANN401  # the package has no usable types
    """Raise `ImportError` where the module finds too little."""
    for pattern, found in _TRIALS:
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(expressions=[pattern], ids=[0], flags=[hyperscan.HS_FLAG_MULTILINE])
        for length in range(_TRIAL_LENGTHS):
            finds: list[int] = []
            database.scan(b"-" * length + found, lambda *find: finds.append(find[2]), 0, None)  # noqa: B023  # called at once
            if not finds:
                raise ImportError(f"this Hyperscan misses matches ({database.info().decode()})")


#: Patterns, each with what it finds after any number of dashes.
_TRIALS = ((b"^b*a", b"\na"), (b"x[ab]*{", b"x{"), (b"^a|b[ab]x", b"\na"))
_TRIAL_LENGTHS = 100


def _scan_nothing(*_arguments: object) -> None:
    """Scan for no pattern."""


_live: weakref.WeakSet[_Database] = weakref.WeakSet()


def _after_fork() -> None:
    for database in list(_live):
        database.forget_scratches()


os.register_at_fork(after_in_child=_after_fork)
