"""Makes one hit of the lines of a stream that are one record: a traceback, or what ``[records]`` says.

Stands behind the prefilter. A chunk without a hit, while nothing is open, costs one comparison: the prefilter looks for
the beginnings of tracebacks together with the rules' literals, and reports them as hits of the rule `BEGINNING`.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from alarm_mw.config.settings import StreamRecords
from alarm_mw.engine.tracebacks import Block, Line, Tracebacks
from alarm_mw.master.streams.lines import LinePrefilter
from alarm_mw.patterns.prefilter import BEGINNING, Hit
from alarm_mw.patterns.request_pattern import QuickPattern

#: The size of the memory that outlives the master, and of each of its two slots, in bytes.
MEMORY_SIZE = 2 * 1024 * 1024
_SLOT = MEMORY_SIZE // 2 - 16
_MAGIC = b"amb1"
_INDEX = 4
_LENGTH = struct.Struct("<I")

#: How many bytes the open blocks of a stream may have; with more, the oldest ones are closed.
MOST_BYTES = 256 * 1024

#: Only LF ends a line, and the last of a stream may lack it.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

#: What is kept of a block: whether it is mixed, how many lines are counted with it, and its lines.
_Saved = tuple[bool, int, list[tuple[int, bytes, int]]]
_decode = msgspec.msgpack.Decoder(list[_Saved]).decode


class BlockMemory:
    """Open blocks in memory that outlives the master. A kill while they are saved leaves what was saved before."""

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

    def load(self) -> list[Block]:
        """Return the blocks that were saved last."""
        at = self._slot(self._memory[_INDEX])
        (length,) = _LENGTH.unpack_from(self._memory, at)
        if not length:
            return []
        saved = _decode(self._memory[at + _LENGTH.size : at + _LENGTH.size + length])
        return [Block(map(Line._make, lines), is_mixed=is_mixed, held=held) for is_mixed, held, lines in saved]

    def save(self, blocks: Sequence[Block]) -> None:
        """Replace what is saved; blocks that do not fit are left out."""
        data = (
            msgspec.msgpack.encode([(block.is_mixed, block.held, block.lines) for block in blocks]) if blocks else b""
        )
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
    """The blocks of one stream, for its reader's thread. `memory` is what the reader before it has left."""

    def __init__(self, options: StreamRecords, memory: BlockMemory | None = None) -> None:
        self._looks_at_all = options.is_given
        self._lines = _assembles(options)
        self._options = options
        #: From another thread: what is to be in force with the next line.
        self._next = options
        self._memory = memory
        #: How many of the stream's lines wait to be counted, each for its block.
        self._held = 0
        self._is_saved = memory is not None
        #: Whether it has to see lines without a hit.
        self.is_open = self._looks_at_all

    def resume(self, position: int, now: float) -> None:
        """Go on with the blocks that another master has left; what begins at `position` or behind it comes again."""
        for block in [] if self._memory is None else self._memory.load():
            self._held += block.held
            lines = [line for line in block.lines if line.start < position]
            if lines:
                self._lines.resume(Block(lines, now, is_mixed=block.is_mixed, held=block.held))
                self.is_open = True

    def assemble(
        self, data: bytes, base: int, hits: Sequence[Hit], prefilter: LinePrefilter, now: float
    ) -> Sequence[Hit]:
        """Return the hits of whole lines that begin at `base`, and those of the blocks that are complete."""
        blocks = self._changed() if self._next is not self._options else []
        if not (blocks or self.is_open or any(BEGINNING in hit.rules for hit in hits)):
            return hits
        left = {hit.start: hit for hit in hits}
        for line in _lines(data, base):
            hit = left.get(line.start)
            is_wanted = hit is not None and any(rule != BEGINNING for rule in hit.rules)
            if self._lines.take(line, now, is_wanted=is_wanted) and hit is not None and hit.rules:
                del left[line.start]
        while sum(len(line.text) for block in self._lines.open for line in block.lines) > MOST_BYTES:
            self._lines.close_oldest()
        blocks += self._lines.due(now)
        return self._with(blocks, map(without_beginning, left.values()), prefilter)

    def single(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits of the rules in lines that are no part of a block."""
        return [hit for hit in map(without_beginning, hits) if hit is not None]

    def due(self, prefilter: LinePrefilter, now: float, *, at_end: bool = False) -> list[Hit]:
        """Return the hits of the blocks that have waited long enough for another line; at the end, of all."""
        return self._with(self._lines.rest() if at_end else self._lines.due(now), (), prefilter)

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due, at most 0 when that is now; None when nothing is open."""
        due = self._lines.next_due()
        return None if due is None else due - now

    def change(self, options: StreamRecords | None) -> None:
        """Let other options be in force soon: open blocks are complete then. From any thread."""
        self._next = options or StreamRecords()
        self.is_open = True

    def _changed(self) -> list[Block]:
        """Put the next options in force, and return the blocks of the old ones."""
        self._options = self._next
        blocks = self._lines.rest()
        self._lines, self._looks_at_all = _assembles(self._options), self._options.is_given
        return blocks

    def line_change(self) -> int:
        """Return how many lines are to be counted that were not before; below zero: so many are to wait."""
        held = self._lines.held
        change, self._held = self._held - held, held
        return change

    def _with(self, blocks: Sequence[Block], hits: Iterable[Hit | None], prefilter: LinePrefilter) -> list[Hit]:
        """Return hits of lines, and those of blocks in which some rule may match, in order."""
        found = [hit for hit in hits if hit is not None]
        for block in blocks:
            text = block.text
            if rules := prefilter.candidates(text):
                found.append(Hit(block.start, text, rules))
        self._save(blocks)
        self.is_open = self._looks_at_all or bool(self._lines.open) or self._next is not self._options
        return sorted(found)

    def _save(self, handed_over: Sequence[Block]) -> None:
        if self._memory is not None and (self._is_saved or self._lines.open or handed_over):
            self._memory.save([*handed_over, *self._lines.open])
            self._is_saved = bool(handed_over or self._lines.open)


def _assembles(options: StreamRecords) -> ContinuedLines | Tracebacks:
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
