"""The socket where workers hand in their records: bound once, held open while masters come and go."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# Paths as text: pathlib would cost the supervisor a megabyte.
# ruff: noqa: PTH108, PTH116

BACKLOG = 1024

_LONGEST = 107  # bytes of sun_path in struct sockaddr_un, without the zero at the end
_ONLY_OWNER = 0o177


@dataclass(frozen=True, slots=True)
class RecordsSocket:
    """A listening SOCK_SEQPACKET socket and the file that it made."""

    path: str
    listening: socket.socket
    #: Device and inode of the file.
    file: tuple[int, int]

    @classmethod
    def bind(cls, path: str) -> RecordsSocket:
        """Listen at `path`, in the place of a socket that nobody listens to any more.

        Raises OSError, EADDRINUSE where somebody does.
        """
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mask = os.umask(_ONLY_OWNER)
        try:
            with _address(path) as address:
                listening.bind(address)
        finally:
            os.umask(mask)
        listening.listen(BACKLOG)
        return cls(path, listening, _identity(path))

    def close(self) -> None:
        """Stop listening and remove the file, unless another has taken its place."""
        self.listening.close()
        with suppress(FileNotFoundError):
            if _identity(self.path) == self.file:
                os.unlink(self.path)


def _remove_stale(path: str) -> None:
    try:
        is_in_use = not stat.S_ISSOCK(os.stat(path).st_mode) or _is_answered(path)
    except FileNotFoundError:
        return
    if is_in_use:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    os.unlink(path)


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller, _address(path) as address:
        caller.setblocking(False)
        try:
            caller.connect(address)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # its queue is full, so it has one
            return True
    return True


@contextmanager
def _address(path: str) -> Iterator[str]:
    """Yield a name of `path` that fits into a socket's address, however long the path is."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def _identity(path: str) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino
