"""State directories in which firings wait for a server that was started otherwise since."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path

from alarm_mw.app.launch.state import OUTBOX_NAME, state_dirs
from alarm_mw.system.directories import LOCK_NAME

#: How many directories are looked at, the last ones used first.
MOST = 20


def abandoned(own: Path, environ: Mapping[str, str]) -> Iterator[tuple[Path, int]]:
    """Yield the directories of servers of the same name that do not run, and how many firings wait in each.

    `own` is the directory of the server that starts. What cannot be read is left out.
    """
    name = own.name.partition("-")[0]
    others = [path for path in state_dirs(environ) if path != own and path.name.partition("-")[0] == name]
    for path in sorted(others, key=_last_used, reverse=True)[:MOST]:
        waiting = 0 if _is_locked(path / LOCK_NAME) else _count_waiting(path / OUTBOX_NAME)
        if waiting:
            yield path, waiting


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


def _count_waiting(path: Path) -> int:
    import sqlite3  # noqa: PLC0415  # few starts find such a directory, and the others do not wait for it

    with contextlib.suppress(sqlite3.Error):
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            ((count,),) = database.execute("SELECT COUNT(*) FROM firings WHERE state = 'waiting'")
            return int(count)
    return 0


def told(path: Path, waiting: int) -> str:
    """Return a sentence for whoever starts a server."""
    wait, them = ("firing waits", "it") if waiting == 1 else ("firings wait", "them")
    return (
        f"{waiting} {wait} in {path}, for a server that was started by another command or elsewhere: "
        f"`alarm-mw run --state-dir {path} …` delivers {them}, "
        f"`alarm-mw dead drop --all --waiting --state-dir {path}` drops {them}"
    )
