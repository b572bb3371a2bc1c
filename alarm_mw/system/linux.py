"""The parts of Linux that Python's standard library leaves out: prctl, signalfd, ptsname and malloc_trim."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36

#: What the kernel answers where there are no descriptors or no memory left: it says nothing of what was asked for.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_SFD_CLOEXEC = os.O_CLOEXEC
_SFD_NONBLOCK = os.O_NONBLOCK
_SIGSET = ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong))
_SIGINFO = struct.Struct("=Iii116x")  # ssi_signo, ssi_errno, ssi_code of struct signalfd_siginfo
_BATCH = 32

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptsname.restype = ctypes.c_char_p


class Arrived(NamedTuple):
    """A signal that was sent to this process."""

    number: int
    #: ``si_code``: 0 or below when a process sent it, above when the kernel did.
    code: int


def prctl(option: int, value: int) -> None:
    """Set one of this process's attributes, by its number in `linux/prctl.h`."""
    _checked(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def signal_fd() -> int:
    """Return a descriptor that becomes readable when a blocked signal is pending, whichever it is."""
    every = _SIGSET()
    _checked(_libc.sigfillset(every))
    return _checked(_libc.signalfd(-1, every, _SFD_CLOEXEC | _SFD_NONBLOCK))


def read_signals(fd: int) -> list[Arrived]:
    """Return the pending signals, taken from a descriptor of `signal_fd`; never blocks."""
    try:
        data = os.read(fd, _SIGINFO.size * _BATCH)
    except BlockingIOError:
        return []
    return [Arrived(number, code) for number, _errno, code in _SIGINFO.iter_unpack(data)]


def terminal_of(fd: int) -> str:
    """Return the path of the other side of a pseudo-terminal's master; empty where it has none. From one thread."""
    path: bytes | None = _libc.ptsname(fd)
    return "" if path is None else os.fsdecode(path)


def trim_heap() -> None:
    """Give freed memory back to the system (malloc_trim(3)); does nothing where the C library has no such call."""
    with contextlib.suppress(AttributeError):
        _libc.malloc_trim(ctypes.c_size_t(0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


#: What happens to files in a directory (inotify(7)): one is written to; one comes, goes or gets another name.
IN_MODIFY = 0x2
IN_NAMES = 0x40 | 0x80 | 0x100 | 0x200


def inotify_fd() -> int:
    """Return a descriptor that becomes readable when something happens in a watched directory. Raises `OSError`."""
    return _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))


def inotify_watch(fd: int, directory: str, events: int) -> None:
    """Watch a directory for events. Raises `OSError`, such as where there are too many watches."""
    _checked(_libc.inotify_add_watch(fd, os.fsencode(directory), ctypes.c_uint32(events)))
