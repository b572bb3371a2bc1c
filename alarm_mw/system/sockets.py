"""Unix sockets by their paths: a name that fits into an address, and whether anybody listens."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

# Standard library only: the supervisor loads this.

#: The longest path of a unix socket, in bytes (``sun_path`` less its NUL).
MAX_PATH = 107

#: What a connection attempt meets where somebody listens; the second, where the queue of connections is full.
_SERVED = frozenset({0, errno.EAGAIN})
#: What it meets where nobody does any more.
_ABANDONED = frozenset({errno.ECONNREFUSED, errno.ENOENT})


@contextmanager
def reachable(path: str) -> Iterator[str]:
    """Give a name for `path` that fits into a socket address, for as long as the context lasts (Linux)."""
    if len(os.fsencode(path)) <= MAX_PATH:
        yield path
        return
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def bind(listener: socket.socket, path: str, mode: int) -> None:
    """Bind a socket to `path`, whose file gets this mode from its beginning. Raises `OSError`. Changes the umask."""
    before = os.umask(0o777 & ~mode)
    try:
        with reachable(path) as address:
            listener.bind(address)
    finally:
        os.umask(before)


def is_served(path: str) -> bool:
    """Return whether somebody listens at the records socket `path`. Does not block."""
    return _attempt(path) in _SERVED


def is_abandoned(path: str) -> bool:
    """Return whether nobody listens at the records socket `path` any more. Does not block.

    Neither this nor `is_served` holds for a socket of another kind, or of somebody who lets nobody in.
    """
    return _attempt(path) in _ABANDONED


def _attempt(path: str) -> int:
    """Return the errno of an attempt to connect; 0 when it succeeded."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as caller:
        try:
            with reachable(path) as address:
                return caller.connect_ex(address)
        except OSError as error:  # there is no such directory, or the name alone is too long
            return error.errno or errno.ENAMETOOLONG
