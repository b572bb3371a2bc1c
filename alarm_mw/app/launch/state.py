"""Where a server's state is, which servers run, and where firings wait for one that was started differently since."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from alarm_mw.system.descriptors import beyond_standard
from alarm_mw.system.directories import LOCK_NAME, make_directory, open_lock
from alarm_mw.system.permissions import is_shared
from alarm_mw.system.sockets import is_served
from alarm_mw.transports.places import SOCKET_NAME

#: The outbox of a state directory, and what says where its alarms come from.
OUTBOX_NAME = "outbox.db"
ORIGIN_NAME = "origin.json"


class StateDir(msgspec.Struct, frozen=True):
    """A state directory that belongs to this server alone, as long as a process has `lock` open."""

    path: Path
    #: The descriptor that holds the lock. A process that inherits it shares the lock.
    lock: int

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Create the directory if it is missing and lock it; return None if another server has locked it.

        Raises OSError if it cannot be used, or if others could change its content. The kernel releases the lock with
        the last process that has it, even if that process is killed.
        """
        make_directory(path)
        lock = beyond_standard(open_lock(path))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return cls(path, lock)


def state_home(environ: Mapping[str, str]) -> Path:
    """Return the directory that holds a state directory for each server (XDG base directory specification; FHS)."""
    base = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "alarm-mw"
    # The users that root's servers run as cannot read root's home.
    return (Path("/var/lib") if is_shared() else Path("~/.local/state").expanduser()) / "alarm-mw"


def named_state_dir(name: str, environ: Mapping[str, str]) -> StateDir | None:
    """Claim the state directory of this name; None if a server of that name is running. Raises OSError."""
    return StateDir.claim(state_home(environ) / name)


def own_state_dir(command: Sequence[str], environ: Mapping[str, str]) -> StateDir:
    """Claim this server's state directory: the same whenever the same command starts in the same directory.

    If such a server is running already, the second one gets its own directory. Raises OSError if the directory cannot
    be used.
    """
    identity = "\0".join([os.getcwd(), *command]).encode("utf-8", "surrogateescape")
    name = f"{_server_name(command)}-{hashlib.sha256(identity).hexdigest()[:8]}"
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    home = state_home(environ)
    return next(claimed for name in names if (claimed := StateDir.claim(home / name)))


def _server_name(command: Sequence[str]) -> str:
    """Return the server's usual name: ``gunicorn``, also for ``python -m gunicorn``."""
    program, *arguments = map(os.path.basename, command)
    if program.startswith("python"):
        named = itertools.dropwhile(lambda word: word.startswith("-") and word != "-c", arguments)
        word = next(named, "-c")
        return program if word == "-c" else word
    return program


def state_dirs(environ: Mapping[str, str]) -> list[Path]:
    """Return the default state directories that hold an outbox, of running and of stopped servers."""
    return sorted(path.parent for path in state_home(environ).glob(f"*/{OUTBOX_NAME}"))


def running(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the records sockets of the running servers that have a default state directory."""
    for path in sorted(state_home(environ).glob(f"*/{SOCKET_NAME}")):
        if is_served(str(path)):
            yield path


#: Maximum number of directories that are searched, the most recently used first.
MOST = 100


def stopped_dirs(environ: Mapping[str, str], own: Path | None = None) -> Iterator[Path]:
    """Yield the default state directories of stopped servers, the most recently used first; none of them is `own`."""
    home = state_home(environ)
    found = {path.parent for name in (OUTBOX_NAME, ORIGIN_NAME) for path in home.glob(f"*/{name}")}
    for path in sorted(found - {own}, key=_last_used, reverse=True)[:MOST]:
        if not _is_locked(path / LOCK_NAME):
            yield path


def _last_used(path: Path) -> float:
    with contextlib.suppress(OSError):
        return (path / OUTBOX_NAME).stat().st_mtime
    return 0.0


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never used by a server that holds a lock
        return False
    return False


def count_waiting(state_dir: Path) -> int:
    """Return how many firings wait in a state directory; 0 where that cannot be read."""
    import sqlite3  # noqa: PLC0415  # most starts find no such directory, and need not load it

    with contextlib.suppress(sqlite3.Error):
        database = sqlite3.connect(f"{(state_dir / OUTBOX_NAME).absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            ((count,),) = database.execute("SELECT COUNT(*) FROM firings WHERE state = 'waiting'")
            return int(count)
    return 0
