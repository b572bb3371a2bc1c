"""Compressed files: known by their first bytes, whatever they are called, and read as what they contain."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What a damaged file raises while it is read, beside `OSError`, `ValueError` among them.
DAMAGED = (EOFError, OSError, ValueError, lzma.LZMAError)

#: Bytes of a zstd file that are decompressed at a time.
_PIECE = 64 * 1024


class Compression(NamedTuple):
    """A kind of compression."""

    name: str
    #: What files begin with.
    magic: bytes
    #: Returns the content of a file; None where this program cannot. Raises `ValueError` where a package is missing.
    opened: Callable[[IO[bytes]], IO[bytes]] | None = None


class _Zstd(io.RawIOBase):
    """The content of a zstd file, of one frame or several; a frame that is not complete raises `EOFError`."""

    def __init__(self, stream: IO[bytes]) -> None:
        try:
            import zstandard  # noqa: PLC0415  # an extra
        except ModuleNotFoundError:
            raise ValueError("compressed by zstd: pip install zstandard") from None
        self._stream = stream
        self._begin = zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._frame = self._begin()
        self._is_within_frame = False
        self._rest = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer; 0 at the end."""
        while not self._rest:
            data = self._stream.read(_PIECE)
            if not data and self._is_within_frame:
                raise EOFError("compressed file ended before the end-of-stream marker was reached")
            if not data:
                return 0
            self._rest = self._decompressed(data)
        view = memoryview(buffer).cast("B")
        n = min(len(view), len(self._rest))
        view[:n], self._rest = self._rest[:n], self._rest[n:]
        return n

    def _decompressed(self, data: bytes) -> bytes:
        parts = []
        while data:
            if self._frame.eof:
                self._frame = self._begin()
            try:
                parts.append(self._frame.decompress(data))
            except self._error as error:
                raise OSError(str(error)) from error
            data = self._frame.unused_data
            self._is_within_frame = not self._frame.eof
        return b"".join(parts)


def _gzip(stream: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Zstd(stream))


COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b", _gzip),
    Compression("xz", b"\xfd7zXZ\x00", lzma.LZMAFile),
    Compression("bzip2", b"BZh", bz2.BZ2File),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    Compression("compress", b"\x1f\x9d"),
    Compression("lz4", b"\x04\x22\x4d\x18"),
    Compression("zip", b"PK\x03\x04"),
    Compression("7-Zip", b"7z\xbc\xaf\x27\x1c"),
)

#: So many of a file's first bytes are enough for `compression_of`.
HEAD = max(len(each.magic) for each in COMPRESSIONS)


def compression_of(head: bytes) -> Compression | None:
    """Return how a file is compressed that begins so; None where it is not."""
    return next((each for each in COMPRESSIONS if head.startswith(each.magic)), None)


def decompressed(stream: IO[bytes]) -> IO[bytes]:
    """Return a file's content, decompressed if its first bytes say so.

    Raises `ValueError` for a kind of compression that cannot be read here; reading it, one of `DAMAGED`.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    found = compression_of(buffered.peek(HEAD))
    if found is None:
        return buffered
    if found.opened is None:
        text = 'which is not supported: decompress it, and give "-" to read the standard input'
        raise ValueError(f"compressed by {found.name}, {text}")
    return found.opened(buffered)
