"""Where the reader of a followed file stands: found again by the file's inode, or by what the file contains."""

from __future__ import annotations

import secrets

import msgspec
from msgspec import structs

#: How many bytes at the beginning of a file, and how many before the position, tell it from others.
HEAD = 256
BEFORE = 64

#: What the names of positions begin with, in the outbox.
FILE = "file:"


class FilePosition(msgspec.Struct, array_like=True, frozen=True):
    """All of a content before `offset` has been judged but for what is `kept`, whatever the file is called now."""

    #: Unique to the content, for the keys of its records.
    id: str
    path: str
    device: int
    inode: int
    offset: int
    #: The first bytes, at most `HEAD`.
    head: bytes
    #: The last bytes before `offset`, at most `BEFORE`.
    before: bytes
    #: When it was moved, in seconds since the epoch.
    time: float
    #: It is within a line that is too long, the first part of which has been judged.
    is_skipping: bool = False
    #: All of it has been judged: it was rotated or deleted, and nothing writes to it any more.
    is_done: bool = False
    #: The records of several lines before `offset` that are not complete (`BlockAssembler.kept`).
    kept: bytes = b""

    @property
    def name(self) -> str:
        """The position's name in the outbox."""
        return FILE + self.id

    def done(self) -> FilePosition:
        """Return the position of a content that has been judged completely."""
        return structs.replace(self, is_done=True, kept=b"")


def new_id() -> str:
    """Return an id for a content that is followed from now on."""
    return secrets.token_hex(6)


encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(FilePosition)


def decode(data: bytes) -> FilePosition:
    """Return the position that `encode` was given. Raises `ValueError` for anything but its result."""
    return _decoder.decode(data)
