"""The master's reader of one output stream: looks at every line, then passes the bytes on as they came.

The way of a chunk: a copy of what the source holds, the prefilter's look at its complete lines, the hits handed over,
and only then the same bytes on to the sink. Whenever the process is killed, what was not passed on is still in the
source, and what was passed on had been looked at; the stream's state shows the next reader which is which.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from alarm_mw.master.streams.lines import MAX_LINE, Chunk, LineCutter, LinePrefilter, Piece, Tally, count_lines
from alarm_mw.master.streams.pipes import CHUNK, Passage
from alarm_mw.master.streams.state import StreamState, settle
from alarm_mw.patterns.prefilter import Hit, Hits
from alarm_mw.system.linux import EXHAUSTED

if TYPE_CHECKING:
    from alarm_mw.master.streams.blocks import BlockAssembler
    from alarm_mw.master.streams.last_lines import LastLines

logger = logging.getLogger(__name__)

#: How long a stopped reader waits for its sink where the source does not keep what was read from it, in seconds.
LAST_WAIT = 1.0

#: A stream is busy when so many chunks in a row came within `NAP` seconds.
BUSY = 8

#: How long to let the lines of a busy stream gather before the next look, in seconds: one look at many lines instead of
#: many looks, and a writer that need not wake us. It is too short for a pipe that was made wider to fill.
NAP = 0.0003

#: So many bytes of a line under way are less work to move than it would be to bring more memory into the cache.
SHORT = 4096

#: Seconds without more output after which a part of a line is evaluated as a line.
QUIET = 1.0

#: How often, in seconds, to look at what has come while a full sink takes nothing.
LOOK_EVERY = 0.1

#: What is raised when nobody reads the sink any more.
_BROKEN = (BrokenPipeError, ConnectionResetError)


class StreamReader:
    """Reads the stream `name` from `source`, hands over what matters of it, and passes it on to `sink`.

    `sink` None: `source` is a copy, somebody else passes the stream on. `state` is what the former reader of this
    stream left, and `transit` a pipe that outlives us as well (`Passage`). `hand_over` is called before the chunk's
    bytes go out; while it blocks, so does the stream; what it raises ends `run`, before
    anything is passed on. After a kill it may see a hit again, under the same offset.
    `on_end(name)` is called at the end of the stream, `on_broken(name, error)` when nobody reads the sink any more, and
    `on_exit()` last. All four are called in the thread of `run`. Of a longer line, the first `longest` bytes are
    evaluated, for which the state's mapping must have room (`state_size`).

    `blocks` makes one hit of the lines of a record. It and `prefilter` may be replaced at any time, from any thread.
    The descriptors stay the caller's.
    """

    def __init__(
        self,
        name: str,
        source: int,
        sink: int | None,
        *,
        prefilter: LinePrefilter,
        hand_over: Callable[[Chunk], None],
        state: StreamState | None = None,
        transit: tuple[int, int] | None = None,
        longest: int = MAX_LINE,
        blocks: BlockAssembler | None = None,
        on_end: Callable[[str], None] = lambda _: None,
        on_broken: Callable[[str, OSError], None] = lambda _, __: None,
        on_exit: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.prefilter = prefilter
        self.blocks = blocks
        #: Keeps the last lines; None where nobody asks for them. May be replaced at any time, from any thread.
        self.last_lines: LastLines | None = None
        #: Called when `is_within_line` is known and nothing of what it is about has gone out; may wait a moment.
        self.before_output: Callable[[], None] | None = None
        self._source, self._sink, self._transit = source, sink, transit
        self._longest = longest
        self._hand_over, self._on_end, self._on_broken = hand_over, on_end, on_broken
        self._on_exit = on_exit
        self._state = state if state is not None else StreamState()
        self._buffer = self._state.buffer
        self._stopping = self._losing = False
        self._waker: int | None = None
        self._waker_lock = threading.Lock()
        self._line_start = self._sent_end = self._scanned_end = 0
        self._oversized = False
        self._cutter = LineCutter()
        self._tally = Tally(name)

    def run(self) -> None:
        """Read until the end of the stream, until the sink is broken or until `stop`. Blocks; call it once."""
        woken, self._waker = os.pipe()
        self._arrival = _poll({self._source: select.POLLIN, woken: select.POLLIN})
        self._room = _poll({self._sink: select.POLLOUT, woken: select.POLLIN})
        self._passage = Passage(self._source, self._sink, self._transit)
        try:
            self._go_on()
            self._read()
        except _BROKEN as error:
            self._scan_blocks(at_end=True)
            self._report()
            self._on_broken(self.name, error)
        finally:
            self._passage.close()
            with self._waker_lock:
                os.close(woken)
                os.close(self._waker)
                self._waker = None
        self._on_exit()

    @property
    def is_within_line(self) -> bool:
        """Whether what has gone out, or is going out now, ends within a line. For any thread."""
        # Of what has gone out it is known later: the thread has to come to its turn after the system call.
        return (
            self._line_start < self._sent_end
            or self._cutter.line < self._scanned_end
            or self._oversized
            or self._cutter.oversized
        )

    def stop(self) -> None:
        """Let `run` return soon; the rest of the stream stays in the source. For any thread; does not block."""
        with self._waker_lock:
            self._stopping = True
            if self._waker is not None:
                os.write(self._waker, b"\0")

    def _go_on(self) -> None:
        """Stand where the former reader stood."""
        self._tally.lost += self._passage.resume()
        position = self._state.load()
        if position.out < position.end:
            position = settle(position, self._buffer, self._look_ahead(), self._longest)
        self._passed, self._tally.lines = position.passed, position.lines
        self._line_start, self._oversized = position.line, position.oversized
        self._sent_end = self._scanned_end = position.out
        self._cutter = LineCutter(self._line_start, oversized=self._oversized, longest=self._longest)
        if self.blocks is not None:
            self.blocks.resume(self._passed - (self._sent_end - self._line_start), time.monotonic())
        self._save()

    def _save(self) -> None:
        self._state.save(
            self._passed,
            self._line_start,
            self._sent_end,
            self._scanned_end,
            self._tally.lines,
            oversized=self._oversized,
        )

    def _look_ahead(self) -> bytes:
        if not self._passage.keeps:
            return b""
        view = memoryview(bytearray(CHUNK))
        try:
            return bytes(view[: self._passage.copy(view)])
        except BlockingIOError:
            return b""

    def _read(self) -> None:
        in_a_row = 0
        while not self._stopping:
            self._make_room()
            try:
                size = self._passage.copy(self._buffer[self._sent_end : self._sent_end + CHUNK])
            except BlockingIOError:
                in_a_row = in_a_row if self._comes_soon() else 0
                continue
            if not size:
                self._finish()
                return
            self._forward(size)
            in_a_row += 1
            if in_a_row == BUSY:
                self._passage.widen()
            if in_a_row > BUSY and size < CHUNK // 4:
                with contextlib.suppress(OSError):  # where a clock is faked; it only saves work
                    time.sleep(NAP)
        self._scan_blocks(at_end=True)
        self._report()
        self._save()

    def _make_room(self) -> None:
        """Let the next chunk fit behind the line under way."""
        if self._line_start == self._sent_end:
            # Nothing in the buffer is needed, not even by who reads the position that was saved last.
            self._line_start = self._sent_end = self._scanned_end = self._cutter.line = 0
        elif self._sent_end >= CHUNK and (
            self._sent_end - self._line_start <= SHORT or self._sent_end + CHUNK > len(self._buffer)
        ):
            # The line's new place does not touch the old one, so that the saved position is good until it is replaced.
            # What little there is of the buffer that is used stays in the processor's cache.
            under_way = bytes(self._buffer[self._line_start : self._sent_end])
            self._buffer[: len(under_way)] = under_way
            self._line_start = self._cutter.line = 0
            self._sent_end = self._scanned_end = len(under_way)
            self._save()

    def _forward(self, size: int) -> None:
        """Take the next `size` bytes in the buffer on their way."""
        begin, self._scanned_end = self._scanned_end, self._sent_end + size
        if self.last_lines is not None:
            self.last_lines.add(self._buffer[begin : self._scanned_end])
        self._scan(self._cutter.cut(self._buffer, begin, self._scanned_end))
        if self.before_output is not None:
            self.before_output()
        while self._sent_end < self._scanned_end:
            # From here on, who reads the position finds out how much has gone out.
            self._save()
            moved = self._move(self._buffer[self._sent_end : self._scanned_end])
            if not moved:
                return
            self._sent_end += moved
            self._passed += moved
        self._line_start, self._oversized = self._cutter.line, self._cutter.oversized
        self._save()

    def _scan(self, pieces: list[Piece]) -> None:
        """Prefilter pieces of the buffer, and hand over what is found."""
        offset = self._passed - self._sent_end
        prefilter = self.prefilter
        self._tally.rule_set = prefilter.rule_set
        for start, stop, size in pieces:
            data = bytes(self._buffer[start:stop])
            lines = count_lines(data)
            self._tally.lines += lines
            if size:
                self._tally.sizes[offset + start] = size
            try:
                hits = prefilter.scan(data, offset + start)
            except Exception:
                logger.exception("%s: the prefilter failed", self.name)
                hits = self._scan_again(prefilter, data, offset + start)
            if self.blocks is not None and (hits or self.blocks.is_open):
                self._tally.hits += self._assemble(
                    self.blocks, data, offset + start, hits, prefilter, is_cut=bool(size)
                )
            else:
                self._tally.hits += hits
        self._tally.lines += self._cutter.oversized_ends
        self._tally.oversized += self._cutter.oversized_lines
        self._cutter.oversized_ends = self._cutter.oversized_lines = 0
        if (chunk := self._tally.take_due()) is not None:
            self._hand_over(chunk)

    def _assemble(
        self,
        blocks: BlockAssembler,
        data: bytes,
        offset: int,
        hits: Hits,
        prefilter: LinePrefilter,
        *,
        is_cut: bool,
    ) -> Sequence[Hit]:
        """Return the hits of single lines, and those of the records of several lines that are complete."""
        if is_cut:
            return blocks.single(data, offset, hits)
        found = blocks.assemble(data, offset, hits, prefilter, time.monotonic())
        self._book(blocks)
        return found

    def _book(self, blocks: BlockAssembler) -> None:
        self._tally.lines += blocks.line_change()
        self._tally.around.update(blocks.take_around())

    def _scan_blocks(self, *, at_end: bool = False) -> None:
        """Take in the records of several lines that have waited long enough for another line; at the end, all."""
        if self.blocks is not None:
            self._tally.rule_set = self.prefilter.rule_set
            self._tally.hits += self.blocks.due(self.prefilter, time.monotonic(), at_end=at_end)
            self._book(self.blocks)

    def _report(self) -> None:
        if (chunk := self._tally.take()) is not None:
            self._hand_over(chunk)

    def _scan_again(self, prefilter: LinePrefilter, data: bytes, offset: int) -> Hits:
        """Prefilter lines a second time; where that fails as well, count them: the output passes all the same."""
        try:
            return prefilter.scan(data, offset)
        except Exception:
            logger.exception("%s: the prefilter failed", self.name)
            logger.error("%s: lines pass unjudged", self.name)
            self._tally.unjudged += max(count_lines(data), 1)
            return Hits()

    def _comes_soon(self) -> bool:
        """Wait for more, and return whether it came within `NAP` seconds.

        Meanwhile counts are reported, and a line that its writer has left unterminated is judged.
        """
        began = time.monotonic()
        while not self._arrival.poll(self._patience(began)):
            if self._is_unterminated() and time.monotonic() - began >= QUIET:
                self._scan_rest()
            self._scan_blocks()
            self._report()
            self._save()
        return time.monotonic() - began < NAP

    def _patience(self, began: float) -> float | None:
        """Return the milliseconds until something is to be done though nothing comes; None where nothing is."""
        report = self._tally.wait()
        quiet = began + QUIET - time.monotonic() if self._is_unterminated() else None
        block = None if self.blocks is None else self.blocks.wait(time.monotonic())
        waits = [max(wait, 0.0) for wait in (report, quiet, block) if wait is not None]
        return math.ceil(min(waits) * 1000) if waits else None

    def _is_unterminated(self) -> bool:
        """Return whether a line has begun that is not judged yet."""
        return self._line_start < self._sent_end and not self._oversized

    def _scan_rest(self) -> None:
        """Judge the line that lacks its newline, which ends here: what comes next is another one."""
        self._tally.lines += 1
        self._scan(self._cutter.cut_rest(self._sent_end))
        self._line_start, self._oversized = self._sent_end, False

    def _move(self, data: memoryview) -> int:
        """Move a first part of `data` and return its length; 0 when we were stopped before."""
        while True:
            try:
                # Nothing is moved only when somebody else has emptied the source.
                return self._passage.move(data) or len(data)
            except BlockingIOError as error:
                if not self._wait_for_room():
                    return 0 if self._passage.keeps else self._lose(data, error)
            except _BROKEN:
                raise
            except OSError as error:
                if error.errno in EXHAUSTED:  # that is no answer of the sink
                    raise
                return self._lose(data, error)

    def _wait_for_room(self) -> bool:
        """Wait until the sink takes more; return False when we were stopped before."""
        while not self._stopping and not self._room.poll(LOOK_EVERY * 1000):
            self._look_further()
        if not self._stopping:
            return True
        return not self._passage.keeps and bool(_poll({self._sink: select.POLLOUT}).poll(LAST_WAIT * 1000))

    def _look_further(self) -> None:
        """Evaluate what has come behind what waits for the sink: a slow reader of the output delays no alarm."""
        if not self._passage.keeps:
            return
        with contextlib.suppress(BlockingIOError):
            size = self._passage.copy(self._buffer[self._sent_end : self._sent_end + CHUNK])
            # There is less than before only when somebody else has emptied the source.
            if size >= self._scanned_end - self._sent_end:
                begin, self._scanned_end = self._scanned_end, self._sent_end + size
                if self.last_lines is not None:
                    self.last_lines.add(self._buffer[begin : self._scanned_end])
                self._scan(self._cutter.cut(self._buffer, begin, self._scanned_end))
                self._save()

    def _lose(self, data: memoryview, error: OSError) -> int:
        # The application goes on as it would if nobody looked at its output: the disk may have room again later.
        self._passage.drop(len(data))
        if not self._losing:
            logger.error("%s: output is lost: %s", self.name, error)
        self._losing = True
        self._tally.lost += len(data)
        return len(data)

    def _finish(self) -> None:
        """Judge the line that lacks its newline and say that the stream has ended."""
        if self._oversized or self._line_start < self._sent_end:
            self._scan_rest()
        self._scan_blocks(at_end=True)
        self._report()
        self._save()
        self._on_end(self.name)


def _poll(events: Mapping[int | None, int]) -> select.poll:
    poll = select.poll()
    for descriptor, event in events.items():
        if descriptor is not None:
            poll.register(descriptor, event)
    return poll
