"""What can be asked about file descriptors, and done with them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import sys
import termios

#: The lowest descriptor that is not a standard one.
FIRST_FREE = 3


def is_open(descriptor: int) -> bool:
    """Return whether `descriptor` is open in this process."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def beyond_standard(descriptor: int) -> int:
    """Return `descriptor` under another number, beyond the standard ones; as itself it is closed.

    Where a standard descriptor is closed, the next file that is opened takes its number.
    """
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(descriptor)
    return moved


def unread(pipe: int) -> int:
    """Return how many bytes are in `pipe`."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def write_all(descriptor: int, data: bytes) -> int:
    """Write as much of `data` as can be written, and return how much that was. May block, and raises nothing."""
    written = 0
    with contextlib.suppress(OSError):
        while written < len(data):
            written += os.write(descriptor, data[written:])
    return written


def write_at_once(descriptor: int, data: bytes) -> bool:
    """Write all of `data` where that needs no waiting, and return whether it did; else nothing is written.

    This works for few bytes into a pipe with room, also where others write into it; with other files it is not tried.
    """
    try:
        if len(data) > select.PIPE_BUF or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return False
        return _moved(data, descriptor)
    except (OSError, AttributeError):  # no room, nobody reads it, or not Linux
        return False


def _moved(data: bytes, pipe: int) -> bool:
    """Move `data` from a pipe of our own: to make the other one non-blocking is not for us alone."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        return os.splice(reader, pipe, len(data), flags=os.SPLICE_F_NONBLOCK) == len(data)
    finally:
        os.close(reader)
        os.close(writer)


def has_no_writer(pipe: int) -> bool:
    """Return whether nobody can write any more into what `pipe` is the reading end of."""
    hung_up = select.poll()
    hung_up.register(pipe, 0)
    return bool(hung_up.poll(0))


def lead_to_one_place(first: int, second: int) -> bool:
    """Return whether what is written to the one and to the other ends up in one order, as after ``2>&1``."""
    one, other = os.fstat(first), os.fstat(second)
    if not os.path.samestat(one, other):
        return False
    if not stat.S_ISREG(one.st_mode):
        return True
    return bool(_flags(first) & _flags(second) & os.O_APPEND) or _is_one_description(first, second)


def _is_one_description(first: int, second: int) -> bool:
    # kcmp(2) answers this, but containers forbid it. The flags belong to the description, and O_NONBLOCK means
    # nothing to a regular file: does a change through the one show through the other?
    flags, before = _flags(first), _flags(second)
    fcntl.fcntl(first, fcntl.F_SETFL, flags ^ os.O_NONBLOCK)
    try:
        return _flags(second) != before
    finally:
        fcntl.fcntl(first, fcntl.F_SETFL, flags)


def _flags(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_GETFL)
