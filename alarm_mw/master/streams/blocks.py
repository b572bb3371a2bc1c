"""Makes one hit of the lines of a stream that are one record: a traceback, or what ``[records]`` says.

Stands behind the prefilter. A chunk without a hit, while nothing is open, costs one comparison: the prefilter looks for
the beginnings of tracebacks together with the rules' literals, and reports them as hits of the rule `BEGINNING`.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from alarm_mw.config.settings import StreamRecords
from alarm_mw.engine.tracebacks import Block, Line, Tracebacks
from alarm_mw.master.streams.lines import LinePrefilter
from alarm_mw.master.streams.surroundings import PATIENCE, Around, Surroundings, Waiting
from alarm_mw.patterns.prefilter import BEGINNING, Hit, Hits
from alarm_mw.patterns.request_pattern import QuickPattern

#: The size of the memory that outlives the master, and of each of its two slots, in bytes.
MEMORY_SIZE = 2 * 1024 * 1024
_SLOT = MEMORY_SIZE // 2 - 16
_MAGIC = b"amb2"
_INDEX = 4
_LENGTH = struct.Struct("<I")

#: How many bytes the open blocks of a stream may have; with more, the oldest ones are closed.
MOST_BYTES = 256 * 1024

#: Only LF ends a line, and the last of a stream may lack it.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

#: What is kept of a block: whether it is mixed, how many lines are counted with it, and its lines.
_Saved = tuple[bool, int, list[tuple[int, bytes, int]]]
_decode = msgspec.msgpack.Decoder(tuple[list[_Saved], list[Waiting]]).decode


class BlockMemory:
    """Open blocks, and hits that wait for lines after them, in memory that outlives the master.

    A kill while they are saved leaves what was saved before.
    """

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory
        if memory[: len(_MAGIC)] != _MAGIC:
            memory[:_INDEX] = _MAGIC
            memory[_INDEX] = 0
            _LENGTH.pack_into(memory, self._slot(0), 0)

    @classmethod
    def from_fd(cls, descriptor: int) -> BlockMemory:
        """Return what is in a memory file of `MEMORY_SIZE` bytes, which may be closed afterwards."""
        return cls(mmap.mmap(descriptor, MEMORY_SIZE))

    def load(self) -> tuple[list[Block], list[Waiting]]:
        """Return what was saved last."""
        at = self._slot(self._memory[_INDEX])
        (length,) = _LENGTH.unpack_from(self._memory, at)
        return _decoded(self._memory[at + _LENGTH.size : at + _LENGTH.size + length])

    def save(self, blocks: Sequence[Block], waiting: Sequence[Waiting] = ()) -> None:
        """Replace what is saved; what does not fit is left out."""
        data = _encoded(blocks, waiting)
        if len(data) > _SLOT - _LENGTH.size:
            return
        index = 1 - self._memory[_INDEX]
        at = self._slot(index)
        self._memory[at + _LENGTH.size : at + _LENGTH.size + len(data)] = data
        _LENGTH.pack_into(self._memory, at, len(data))
        self._memory[_INDEX] = index

    @staticmethod
    def _slot(index: int) -> int:
        return 16 + index * _SLOT


def _encoded(blocks: Sequence[Block], waiting: Sequence[Waiting]) -> bytes:
    """Return open blocks and waiting hits as bytes; none for none."""
    saved = [(block.is_mixed, block.held, block.lines) for block in blocks]
    return msgspec.msgpack.encode((saved, waiting)) if saved or waiting else b""


def _decoded(data: bytes | bytearray) -> tuple[list[Block], list[Waiting]]:
    if not data:
        return [], []
    saved, waiting = _decode(data)
    return [Block(map(Line._make, lines), is_mixed=is_mixed, held=held) for is_mixed, held, lines in saved], waiting


class ContinuedLines:
    """The record of a stream that is not complete yet, where the configuration says how records begin and go on."""

    def __init__(self, options: StreamRecords) -> None:
        self._start = QuickPattern(options.start) if options.start else None
        self._continue = QuickPattern(options.continues) if options.continues else None
        self._max_lines, self._max_wait = options.max_lines, options.max_wait
        self.open: list[Block] = []
        self._complete: list[Block] = []

    def take(self, line: Line, now: float, *, is_wanted: bool = False) -> bool:  # noqa: ARG002  # as `Tracebacks`
        """Keep a line: each belongs to a record."""
        block = self.open[0] if self.open else None
        if block is None or len(block.lines) >= self._max_lines or not self._goes_on(line.text.rstrip(b"\r\n")):
            self._complete += self.open
            block = Block()
            self.open = [block]
        block.lines.append(line)
        block.changed = now
        return True

    def _goes_on(self, line: bytes) -> bool:
        """Return whether a line goes on with the record before it."""
        text = line.decode("utf-8", "surrogateescape")
        if self._continue is not None:
            return self._continue.matches_start(text)
        return self._start is not None and not self._start.matches_start(text)

    def resume(self, block: Block) -> None:
        """Go on with a record that another process has begun."""
        self._complete += self.open
        self.open = [block]

    def due(self, now: float) -> list[Block]:
        """Return the records that are complete, or have waited long enough for another line."""
        if self.open and now - self.open[0].changed >= self._max_wait:
            return self.rest()
        found, self._complete = self._complete, []
        return found

    def rest(self) -> list[Block]:
        """Return all records: the stream has ended."""
        found, self._complete, self.open = [*self._complete, *self.open], [], []
        return found

    @property
    def held(self) -> int:
        """How many lines are counted with records that are not complete."""
        return len(self.open) + len(self._complete)

    def close_oldest(self) -> None:
        """Let the open record be complete."""
        self._complete += self.open
        self.open = []

    def next_due(self) -> float | None:
        """Return when `due` has something to return; None where nothing is open."""
        if self._complete:
            return 0.0
        return self.open[0].changed + self._max_wait if self.open else None


class BlockAssembler:
    """The blocks of one stream, and the lines around its hits, for its reader's thread.

    `memory` is what the reader before it has left. `keeps_lines`: some rule wants the lines around its hits.
    """

    def __init__(
        self, options: StreamRecords | None, memory: BlockMemory | None = None, *, keeps_lines: bool = False
    ) -> None:
        self._options = options
        self._lines = _assembles(options)
        self._looks_at_all = options is not None and options.is_given
        self._around = Surroundings() if keeps_lines else None
        #: From another thread: what is to be in force with the next line.
        self._next = (options, keeps_lines)
        self._is_changed = False
        self._memory = memory
        #: How many of the stream's lines wait to be counted, each for its block.
        self._held = 0
        self._is_saved = memory is not None
        #: Whether it has to see lines without a hit.
        self.is_open = self._looks_at_all or keeps_lines

    def resume(self, position: int, now: float) -> None:
        """Go on with what another master has left; what begins at `position` or behind it comes again."""
        blocks, waiting = ([], []) if self._memory is None else self._memory.load()
        self._resume(blocks, waiting, position, now)

    def resume_kept(self, kept: bytes, now: float) -> None:
        """Go on with what another assembler has returned from `kept`, where nothing of it comes again."""
        blocks, waiting = _decoded(kept)
        self._resume(blocks, waiting, sys.maxsize, now)

    def kept(self) -> bytes:
        """Return the blocks that are open, and the hits that wait for lines after them; empty where there are none."""
        return _encoded(self._lines.open, () if self._around is None else self._around.waiting)

    def keep_before(self, data: bytes, base: int) -> None:
        """Remember lines before those that are assembled next, where some rule wants lines around its hits."""
        if self._around is not None:
            self._around.keep(data, base)

    def _resume(self, blocks: Sequence[Block], waiting: Sequence[Waiting], position: int, now: float) -> None:
        for block in blocks:
            self._held += block.held
            lines = [line for line in block.lines if line.start < position]
            if lines:
                self._lines.resume(Block(lines, now, is_mixed=block.is_mixed, held=block.held))
                self.is_open = True
        self._held += len(waiting)
        kept = [each._replace(until=now + PATIENCE) for each in waiting if each.start < position]
        if kept:
            self._around = self._around or Surroundings()
            self._around.waiting += kept
            self.is_open = True

    def assemble(self, data: bytes, base: int, hits: Hits, prefilter: LinePrefilter, now: float) -> Sequence[Hit]:
        """Return the hits of whole lines that begin at `base`, and those of the blocks that are complete."""
        blocks = self._changed() if self._is_changed else []
        if self._around is not None:
            self._around.extend(data)
            self._around.keep(data, base)
        if not (blocks or self.is_open or hits.has_beginnings):
            return hits
        left = {hit.start: hit for hit in hits}
        if self._looks_at_all or self._lines.open or hits.has_beginnings:
            self._take(data, base, left, now)
        return self._ready([*blocks, *self._lines.due(now)], map(without_beginning, left.values()), prefilter, now)

    def _take(self, data: bytes, base: int, left: dict[int, Hit], now: float) -> None:
        """Take lines into blocks, and the hits in these out of those that are left."""
        for line in _lines(data, base):
            hit = left.get(line.start)
            is_wanted = hit is not None and any(rule != BEGINNING for rule in hit.rules)
            if self._lines.take(line, now, is_wanted=is_wanted) and hit is not None and hit.rules:
                del left[line.start]
        while sum(len(line.text) for block in self._lines.open for line in block.lines) > MOST_BYTES:
            self._lines.close_oldest()

    def single(self, data: bytes, base: int, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits of the rules in a line that is no part of a block."""
        if self._around is not None:
            self._around.keep(data, base)
        return [hit for hit in map(without_beginning, hits) if hit is not None]

    def due(self, prefilter: LinePrefilter, now: float, *, at_end: bool = False) -> list[Hit]:
        """Return the hits that have waited long enough for another line; at the end, all."""
        blocks = self._lines.rest() if at_end else self._lines.due(now)
        return self._ready(blocks, (), prefilter, now, at_end=at_end)

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due, at most 0 when that is now; None when nothing is open."""
        if not self.is_open:  # as nearly always, and asked at every look of the reader
            return None
        dues = [self._lines.next_due(), None if self._around is None else self._around.next_due()]
        return min((due - now for due in dues if due is not None), default=None)

    def change(self, options: StreamRecords | None, *, keeps_lines: bool = False) -> None:
        """Let other options be in force soon: open blocks are complete then. From any thread."""
        self._next = (options, keeps_lines)
        self._is_changed = True
        self.is_open = True

    def _changed(self) -> list[Block]:
        """Put the next options in force, and return the blocks of the old ones."""
        self._is_changed = False
        self._options, keeps_lines = self._next
        blocks = self._lines.rest()
        self._lines = _assembles(self._options)
        self._looks_at_all = self._options is not None and self._options.is_given
        if keeps_lines:
            self._around = self._around or Surroundings()
        return blocks

    def line_change(self) -> int:
        """Return how many lines are to be counted that were not before; below zero: so many are to wait."""
        held = self._lines.held + (0 if self._around is None else len(self._around.waiting))
        change, self._held = self._held - held, held
        return change

    def take_around(self) -> Around:
        """Return the lines around the hits that were returned since the last call."""
        return {} if self._around is None else self._around.take_around()

    def _ready(
        self,
        blocks: Sequence[Block],
        hits: Iterable[Hit | None],
        prefilter: LinePrefilter,
        now: float,
        *,
        at_end: bool = False,
    ) -> list[Hit]:
        """Return hits of lines, and those of blocks in which some rule may match, in order."""
        found = [hit for hit in hits if hit is not None]
        for block in blocks:
            text = block.text
            if rules := prefilter.candidates(text):
                found.append(Hit(block.start, text, rules))
        waited: list[Waiting] = []
        if self._around is not None:
            ends = {block.start: block.lines[-1].end for block in blocks}
            found = self._around.hold(found, ends, prefilter.contexts, now)
            waited = self._around.due(now, at_end=at_end)
            found += [
                Hit(each.start, each.line, rules) for each in waited if (rules := prefilter.candidates(each.line))
            ]
        self._save(blocks, waited)
        self.is_open = self._looks_at_all or bool(self._lines.open) or self._is_changed or self._around is not None
        return sorted(found)

    def _save(self, blocks: Sequence[Block], waited: Sequence[Waiting]) -> None:
        """Keep what is open, and what is handed over now, for the next master."""
        open_ones = [*blocks, *self._lines.open]
        waiting = [*waited, *(() if self._around is None else self._around.waiting)]
        if self._memory is not None and (self._is_saved or open_ones or waiting):
            self._memory.save(open_ones, waiting)
            self._is_saved = bool(open_ones or waiting)


def _assembles(options: StreamRecords | None) -> ContinuedLines | Tracebacks:
    """Return what makes blocks; without options, a prefilter finds no beginnings, and so there are none."""
    options = options or StreamRecords()
    return ContinuedLines(options) if options.is_given else Tracebacks(options.max_lines, options.max_wait)


def without_beginning(hit: Hit) -> Hit | None:
    """Return the hit of the rules alone, None where there is none of them; a hit of no rule is as it was."""
    if BEGINNING not in hit.rules:
        return hit
    rules, certain = (tuple(rule for rule in found if rule != BEGINNING) for found in (hit.rules, hit.certain))
    return Hit(hit.start, hit.line, rules, certain) if rules else None


def _lines(data: bytes, base: int) -> Iterator[Line]:
    for text in _LINE.findall(data):
        yield Line.printed(base, text)
        base += len(text)
