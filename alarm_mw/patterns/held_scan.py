"""A scan by Hyperscan during which no other thread of Python runs.

The package `hyperscan` lets other threads run during each scan. That is right for a chunk of a stream. A scan for one
log record takes a third of a microsecond, and a thread that has let others run waits for them afterwards: in a server
with a pool of threads that took many times as long. So this calls the functions of Hyperscan that the package's
extension holds, and keeps the interpreter meanwhile (`ctypes.PyDLL`).

It also makes the scan simple: as no other thread, no signal handler and no fork can come between, all threads share one
scratch, and a forked child goes on with it.
"""

from __future__ import annotations

import ctypes
import sys
import weakref

_Handle = ctypes.c_void_p


class HeldScan:
    """One database, to be told whether anything in it matches."""

    def __init__(self, extension: str, saved: bytes) -> None:
        """Load a database that the extension at this path has serialized.

        Raises `OSError` or `AttributeError` where the extension does not give its functions, `ValueError` where it does
        not take the database or other threads run all the time.
        """
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise ValueError("without the lock of the interpreter, threads would share a scratch")
        library = ctypes.PyDLL(extension)
        scan, database, scratch = library.hs_scan, _Handle(), _Handle()

        # Called for nearly every record: it has nothing to look up.
        def finds_any(data: bytes) -> bool:
            """Return whether any pattern matches somewhere in the data, or the scan could not be done."""
            return bool(scan(patterns, data, len(data), 0, room, stop, None))

        self.finds_any = finds_any
        _check(library.hs_deserialize_database(saved, ctypes.c_size_t(len(saved)), ctypes.byref(database)))
        weakref.finalize(finds_any, library.hs_free_database, database).atexit = False
        _check(library.hs_alloc_scratch(database, ctypes.byref(scratch)))
        weakref.finalize(finds_any, library.hs_free_scratch, scratch).atexit = False
        # Arguments that are converted already: a fifth of the call.
        patterns, room = _Handle.from_param(database.value), _Handle.from_param(scratch.value)
        stop = _Handle.from_param(ctypes.cast(_STOP, _Handle).value)


#: What is called for a match: a function of C that takes no notice of its arguments and returns something else than 0,
#: by which the scan ends.
_STOP = ctypes.CDLL(None).getpid


def _check(status: int) -> None:
    if status:
        raise ValueError(f"Hyperscan has answered {status}")
