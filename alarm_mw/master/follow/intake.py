"""From blocks of followed files to batches for the worker: which lines are records, and no faster than it can judge."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from msgspec import structs

from alarm_mw.config.settings import StreamRecords
from alarm_mw.master.follow.paths import PATH, PathPrefilters
from alarm_mw.master.follow.position import FILE, FilePosition, encode
from alarm_mw.master.follow.tail import Block, Tail
from alarm_mw.master.worker.batch import Batch, Lines
from alarm_mw.model.types import Reason, Record
from alarm_mw.patterns.prefilter import Hit, Hits, Prefilter

if TYPE_CHECKING:  # many logs have no tracebacks
    from alarm_mw.master.streams.blocks import BlockAssembler

log = logging.getLogger(__name__)

#: The source of the records.
SOURCE = "file"

#: How many batches may wait for the worker. What is not read waits in its file.
UNDER_WAY = 16

#: Seconds between two looks at whether to end, while the worker is busy.
TURN = 0.2

#: Seconds between batches of what may be a flood that is held back: twice the time for which lines gather.
FLOOD = 0.06

_UNJUDGED, _SCREENED = f"skipped:{Reason.UNJUDGED}", "screened_out"


class BatchWorker(Protocol):
    """What judges the lines: the worker."""

    def submit(self, batch: Batch) -> None:
        """Take a batch; returns at once."""
        ...

    def hold_back(self, batch: Batch) -> bool:
        """Evaluate at once a batch of lines that are all held back; return False where they are not. Never waits."""
        ...


class Assembly(NamedTuple):
    """Which lines are one record."""

    #: None: each line is one.
    options: StreamRecords | None = None
    #: Whether some rule wants the lines around its matches.
    keeps_lines: bool = False


class _Found(NamedTuple):
    """What is to be judged of a file."""

    #: The id of the content, and the file's path.
    content: str
    path: str
    hits: Sequence[Hit]
    #: How many lines there are, and how many of them cannot be judged.
    lines: int
    unjudged: int = 0
    #: How long a line is of which a hit is the first part, below zero; by its place.
    sizes: Mapping[int, int] = {}
    #: The lines around hits, by their places, where rules want them.
    around: Mapping[int, tuple[bytes, bytes]] = {}


class EndedError(Exception):
    """The time to end is over: what is not judged is read by the next master."""


class FileIntake:
    """Hands blocks to the worker. Belongs to the follower's thread; `change` is for others."""

    def __init__(self, prefilter: Prefilter, worker: BatchWorker, assembly: Assembly) -> None:
        self._prefilter = prefilter
        self._assembly = assembly
        self._paths = PathPrefilters(prefilter)
        self._worker = worker
        self._places = threading.Semaphore(UNDER_WAY)
        #: How many batches the worker was given, and how many of them it is done with.
        self._given = self._done = 0
        self._counts: dict[str, int] = {}
        #: Positions that are to be written with the next batch, by name; None for a log that is forgotten.
        self.moved: dict[str, bytes | None] = {}
        self._came = 0.0
        #: How many bytes were taken.
        self.read = 0
        #: When to end, once it is to stop, in `time.monotonic`'s seconds.
        self.deadline = math.inf

    def change(self, prefilter: Prefilter, assembly: Assembly, tails: Iterable[Tail]) -> None:
        """Judge by these from now on, also what has begun in `tails`."""
        # Before the prefilter: it finds the beginnings of records only where something takes them.
        self._assembly = assembly
        for tail in tails:
            if tail.blocks is not None:
                tail.blocks.change(assembly.options, keeps_lines=assembly.keeps_lines)
        self._prefilter = prefilter

    def count(self, column: str, n: int) -> None:
        """Count something for the ledger, which is written with the next batch."""
        self._counts[column] = self._counts.get(column, 0) + n

    def take(self, tail: Tail, block: Block) -> None:
        """Judge a block, or have the worker judge it."""
        if time.monotonic() >= self.deadline:
            raise EndedError
        self.read += len(block.data)
        prefilter = self._prefilter_of(tail.path)
        hits, unjudged = self._scan(prefilter, block)
        found = _Found(tail.id, tail.path, hits, block.lines, unjudged)
        if block.is_oversized:
            found = found._replace(sizes={block.offset: -len(block.data)})
        if block.data and (tail.needs_blocks or hits.has_beginnings or self._looks_at_all):
            found = self._assembled(tail, block, hits, found, prefilter)
        self._book(found, encode(tail.position()), prefilter)

    @property
    def _looks_at_all(self) -> bool:
        options, keeps_lines = self._assembly
        return keeps_lines or (options is not None and options.is_given)

    def _prefilter_of(self, path: str) -> Prefilter:
        if self._paths.prefilter is not self._prefilter:
            self._paths = PathPrefilters(self._prefilter)
        return self._paths.of(path)

    # Records of several lines

    def _assembler(self, tail: Tail) -> BlockAssembler:
        """Return what makes records of several lines of a file's; it goes on with those that are kept."""
        if tail.blocks is None:
            tail.blocks = self._resumed(tail.kept)
        return tail.blocks

    def _resumed(self, kept: bytes) -> BlockAssembler:
        from alarm_mw.master.streams.blocks import BlockAssembler  # noqa: PLC0415  # many logs have no tracebacks

        options, keeps_lines = self._assembly
        found = BlockAssembler(options, keeps_lines=keeps_lines)
        found.resume_kept(kept, time.monotonic())
        return found

    def _assembled(self, tail: Tail, block: Block, hits: Hits, found: _Found, prefilter: Prefilter) -> _Found:
        """Return the hits of single lines, and those of records of several lines that are complete."""
        is_first = tail.blocks is None
        blocks = self._assembler(tail)
        if is_first and self._assembly.keeps_lines:
            blocks.keep_before(*tail.lines_before(block.offset))
        if block.is_oversized:
            return found._replace(hits=blocks.single(block.data, block.offset, hits))
        complete = blocks.assemble(block.data, block.offset, hits, prefilter, time.monotonic())
        return found._replace(hits=complete, lines=found.lines + blocks.line_change(), around=blocks.take_around())

    def complete(self, tail: Tail, *, at_end: bool = False) -> None:
        """Judge the records that have waited long enough for another line; at the end, all."""
        if tail.needs_blocks:
            blocks = self._assembler(tail)
            wait = blocks.wait(time.monotonic())
            if at_end or (wait is not None and wait <= 0):
                self._complete_of(blocks, tail.id, tail.path, lambda: encode(tail.position()), at_end=at_end)

    def complete_kept(self, former: FilePosition) -> None:
        """Judge the record that had begun in a file of which nothing is left."""
        if former.kept:
            done = encode(former.done())
            self._complete_of(self._resumed(former.kept), former.id, former.path, lambda: done, at_end=True)

    def _complete_of(
        self, blocks: BlockAssembler, content: str, path: str, position: Callable[[], bytes], *, at_end: bool
    ) -> None:
        prefilter = self._prefilter_of(path)
        hits = blocks.due(prefilter, time.monotonic(), at_end=at_end)
        found = _Found(content, path, hits, blocks.line_change(), around=blocks.take_around())
        self._book(found, position(), prefilter)

    def _book(self, found: _Found, position: bytes, prefilter: Prefilter) -> None:
        """Have the worker judge what was found, and write the position behind it with that."""
        passed = found.lines - len(found.hits)
        counts = {
            "lines": passed,
            _SCREENED: passed - found.unjudged,
            _UNJUDGED: found.unjudged,
            "oversized": len(found.sizes),
        }
        name = FILE + found.content
        if not found.hits:
            for column, n in counts.items():
                self.count(column, n)
            self.moved[name] = position
            return
        self.submit_quiet()
        lines = Lines(SOURCE, found.hits, functools.partial(_record, found, time.time()), prefilter.rule_set)
        self._submit(Batch((), {SOURCE: counts}, lines=lines, positions={name: position}))

    def _scan(self, prefilter: Prefilter, block: Block) -> tuple[Hits, int]:
        """Return the lines that some rule may match, and how many cannot be judged."""
        if not block.data:
            return Hits(), 0
        for _ in range(2):
            try:
                return prefilter.scan(block.data, block.offset), 0
            except Exception:
                log.exception("the prefilter failed on lines of a followed file")
        return Hits(), block.lines

    def _submit(self, batch: Batch) -> None:
        """Give the worker a batch, as soon as few others wait; a flood that is held back is judged here."""
        now = time.monotonic()
        comes_fast, self._came = now - self._came < FLOOD, now
        # Not before a batch that the worker has taken already: that would move the positions back.
        if comes_fast and self._given == self._done and self._worker.hold_back(batch):
            return
        while not self._places.acquire(timeout=TURN):
            if time.monotonic() >= self.deadline:
                raise EndedError
        self._give(structs.replace(batch, done=self._release))

    def _give(self, batch: Batch) -> None:
        self._given += 1
        self._worker.submit(batch)

    def _note_done(self) -> None:
        self._done += 1

    def _release(self) -> None:
        self._done += 1
        self._places.release()

    def submit_quiet(self) -> None:
        """Have the lines counted that no rule matches."""
        if self._counts or self.moved:
            counts, self._counts = self._counts, {}
            moved, self.moved = self.moved, {}
            self._give(Batch((), {SOURCE: counts} if counts else {}, self._note_done, positions=moved))


def _record(found: _Found, now: float, hit: Hit) -> Record:
    """Return a line's record; its place in the content makes the key, the same however often it is read."""
    key = f"{found.content}.{hit.start}.{zlib.crc32(hit.line):08x}"
    size = found.sizes.get(hit.start, 0)
    message = hit.line + b"\n" if size else hit.line
    before, after = found.around.get(hit.start, (b"", b""))
    return Record(message, SOURCE, now, key, fields={PATH: found.path}, size=size, before=before, after=after)
