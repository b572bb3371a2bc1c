"""One followed file: what has been added to it, in whole lines, and whether it still is what was read before."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from alarm_mw.master.follow.position import BEFORE, FILE, HEAD, FilePosition
from alarm_mw.master.streams.lines import count_lines
from alarm_mw.system.compression import DAMAGED, compression_of

if TYPE_CHECKING:  # logs without tracebacks do not need it
    from alarm_mw.master.streams.blocks import BlockAssembler

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


#: How many bytes before the first line that is read may be shown around it.
AROUND = 16_384


class RewrittenError(Exception):
    """A file no longer contains what was read from it: it was truncated, or written again."""


class Content(Protocol):
    """The bytes of a file."""

    def read(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes. Raises `OSError`."""
        ...

    def size(self) -> int:
        """Return the present number of bytes; where that is not known, at least one more than was read."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Plain:
    """A file as it is."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, _FLAGS)
        facts = os.fstat(self.fd)
        self.device, self.inode = facts.st_dev, facts.st_ino
        self._seen = -1

    def read(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes."""
        return os.pread(self.fd, size, offset)

    def size(self) -> int:
        """Return the present number of bytes."""
        return os.fstat(self.fd).st_size

    def time(self) -> float:
        """Return when the file was written to last, in seconds since the epoch."""
        return os.fstat(self.fd).st_mtime

    def look(self) -> tuple[int, bool]:
        """Return the present number of bytes, and whether the file was written to since this was asked."""
        facts = os.fstat(self.fd)
        seen, self._seen = self._seen, facts.st_mtime_ns
        return facts.st_size, seen != facts.st_mtime_ns

    def next_data(self, offset: int) -> int:
        """Return where something other than a hole begins, from `offset` on."""
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError:  # nothing is behind the hole
            return self.size()

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class Compressed:
    """A rotated log that has been compressed since; read from its beginning to its end, once."""

    def __init__(self, path: str, opened: Callable[[IO[bytes]], IO[bytes]]) -> None:
        facts = os.stat(path)  # noqa: PTH116  # as `Plain`
        self.device, self.inode = facts.st_dev, facts.st_ino
        self._opened = opened
        self._raw = open(path, "rb")  # noqa: SIM115, PTH123  # closed by `close`
        try:
            self._file = opened(self._raw)
        except ValueError as error:  # a package is missing
            self._raw.close()
            raise OSError(str(error)) from error
        self._at = 0
        self._is_at_end = False

    def read(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes; going back starts again. A damaged file ends where it is damaged."""
        try:
            if offset < self._at:
                self._raw.seek(0)
                self._file, self._at = self._opened(self._raw), 0
            while self._at < offset:
                skipped = self._file.read(min(offset - self._at, 1024 * 1024))
                if not skipped:
                    return b""
                self._at += len(skipped)
            data = self._file.read(size)
        except DAMAGED as error:
            raise OSError(f"it is damaged: {error}") from error
        self._at += len(data)
        self._is_at_end = len(data) < size
        return data

    def size(self) -> int:
        """Return what was read, and one more until the end is known."""
        return self._at + (not self._is_at_end)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


def is_compressed(head: bytes) -> bool:
    """Return whether a file that begins so is compressed."""
    return compression_of(head) is not None


def open_content(path: str) -> Plain | Compressed | None:
    """Open a file that a log was rotated into; None where it cannot be read. Raises `OSError`."""
    plain = Plain(path)
    found = compression_of(plain.read(0, HEAD))
    if found is None:
        return plain
    plain.close()
    return None if found.opened is None else Compressed(path, found.opened)


class Block(NamedTuple):
    """What the rules are to see next of a file."""

    #: Where `data` begins: whole lines, or the first part of a line that is too long.
    offset: int
    data: bytes
    #: How many lines end in the block, the end of one that was too long included.
    lines: int
    #: Whether `data` is only the first part of a line.
    is_oversized: bool = False


class Tail:
    """A content from a position on. Belongs to the follower's thread, apart from the numbers for `status`."""

    def __init__(
        self, position: FilePosition, content: Plain | Compressed, *, is_rest: bool = False, is_copy: bool = False
    ) -> None:
        self.content = content
        self.id = position.id
        #: How people call it: where it was found first.
        self.path = position.path
        self.offset = position.offset
        #: The first bytes that were read.
        self.head = position.head
        self._before = position.before
        self._is_skipping = position.is_skipping
        #: Makes records of several lines; None as long as there are none, or only what is `kept`.
        self.blocks: BlockAssembler | None = None
        self._kept = position.kept
        #: What a log was rotated into: nobody follows it by its name.
        self.is_rest = is_rest
        #: Nobody writes to it: it is read once it is complete.
        self.is_copy = is_copy
        #: It has no data yet, so it is not known whether it is the copy of another file.
        self.is_undecided = False
        #: Followed under another name already; read once it has something else.
        self.copied: Tail | None = None
        #: Since when no followed name leads to it, in `time.monotonic`'s seconds.
        self.lost_at: float | None = None
        #: When something was last read from it.
        self.read_at = time.monotonic()
        self.size = 0
        #: The size at which the last line had no newline yet.
        self._unfinished = -1

    @classmethod
    def at(cls, path: str, content: Plain, position_id: str, offset: int) -> Tail:
        """Return a content that is followed for the first time, from `offset` on."""
        head = content.read(0, min(HEAD, offset)) if offset else b""
        before = content.read(max(offset - BEFORE, 0), min(BEFORE, offset)) if offset else b""
        facts = (content.device, content.inode)
        return cls(FilePosition(position_id, path, *facts, offset, head, before, time.time()), content)

    @property
    def name(self) -> str:
        """Its name in the outbox."""
        return FILE + self.id

    def position(self, *, is_done: bool = False) -> FilePosition:
        """Return where it stands."""
        facts = (self.content.device, self.content.inode)
        return FilePosition(
            self.id,
            self.path,
            *facts,
            self.offset,
            self.head,
            self._before,
            time.time(),
            self._is_skipping,
            is_done,
            b"" if is_done else self.kept,
        )

    @property
    def needs_blocks(self) -> bool:
        """Whether some records of several lines are not complete."""
        return bool(self._kept) if self.blocks is None else self.blocks.is_open

    @property
    def kept(self) -> bytes:
        """The records of several lines that are not complete."""
        return self._kept if self.blocks is None else self.blocks.kept()

    @property
    def behind(self) -> int:
        """How many bytes have not been read."""
        return max(self.size - self.offset, 0)

    def has_news(self) -> bool:
        """Return whether there is something to read, or to find out. Raises `OSError`."""
        if isinstance(self.content, Compressed):
            self.size = self.content.size()
            return self.size > self.offset and self.size != self._unfinished
        before = self.size
        self.size, has_changed = self.content.look()
        return has_changed or self.size != before or self.size not in (self.offset, self._unfinished)

    def lines_before(self, offset: int) -> tuple[bytes, int]:
        """Return whole lines that end at an offset, at most `AROUND` bytes, and where they begin. Raises `OSError`."""
        if isinstance(self.content, Compressed):  # it is read in one direction
            return b"", offset
        begin = max(offset - AROUND, 0)
        data = self.content.read(begin, offset - begin)
        cut = data.find(b"\n") + 1 if begin else 0
        return data[cut:], begin + cut

    def read(self, longest: int, *, at_end: bool = False) -> Block | None:
        """Return the next whole lines, at most `longest` bytes; None where there are none.

        A longer line is cut there. With `at_end`, the last line needs no newline. Raises `RewrittenError` where the
        content is another one, and `OSError`.
        """
        data = self._read(longest)
        if not data:
            self._unfinished = self.size
            return None
        self.read_at = time.monotonic()
        if not self._is_skipping and data[0] == 0:
            self._skip_zeros(data)
            return Block(self.offset, b"", 0)
        begin = self.offset
        if self._is_skipping:
            return self._skip(data)
        end = data.rfind(b"\n") + 1
        is_oversized = not end and len(data) >= longest
        if is_oversized or (not end and at_end):
            end = len(data)
        if not end:
            self._unfinished = self.size
            return None
        data = data[:end]
        self._is_skipping = is_oversized
        self._move(data)
        lines = 0 if is_oversized else count_lines(data) + (not data.endswith(b"\n"))
        return Block(begin, data, lines, is_oversized)

    def _read(self, size: int) -> bytes:
        if isinstance(self.content, Compressed):
            return self.content.read(self.offset, size)
        n = len(self._before)
        data = self.content.read(self.offset - n, size + n)
        if data[:n] != self._before:
            raise RewrittenError
        return data[n:]

    def _skip(self, data: bytes) -> Block:
        """Pass over the rest of a line that is too long."""
        begin, end = self.offset, data.find(b"\n") + 1
        self._is_skipping = not end
        self._move(data[:end] if end else data)
        return Block(begin, b"", int(bool(end)))

    def _skip_zeros(self, data: bytes) -> None:
        """Pass over zeros: what a writer leaves that goes on at its old place in a file that was truncated."""
        n = len(data) - len(data.lstrip(b"\0"))
        self._move(data[:n])
        if n == len(data) and isinstance(self.content, Plain):
            place = self.content.next_data(self.offset)
            if place > self.offset:
                self.offset, self._before = place, self.content.read(place - BEFORE, BEFORE)

    def _move(self, data: bytes) -> None:
        if self.offset < HEAD:
            self.head = (self.head[: self.offset] + data)[:HEAD]
        self._before = data[-BEFORE:] if len(data) >= BEFORE else (self._before + data)[-BEFORE:]
        self.offset += len(data)

    def begin_anew(self, position_id: str) -> None:
        """Follow what is in the file now, from its beginning, as another content."""
        self.id, self.offset, self.head, self._before = position_id, 0, b"", b""
        self.blocks, self._kept = None, b""
        self._is_skipping = self.is_undecided = False
        self.copied, self._unfinished = None, -1

    def go_on(self, position: FilePosition) -> None:
        """Go on where another file with the same content stood."""
        self.id, self.offset = position.id, position.offset
        self.head, self._before = position.head, position.before
        self.blocks, self._kept = None, position.kept
        self._is_skipping, self.is_undecided = position.is_skipping, False
        self.copied, self._unfinished = None, -1

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self.content.close()
