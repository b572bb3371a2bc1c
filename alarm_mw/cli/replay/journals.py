"""The entries that systemd's journal has of some units, as journalctl prints them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Generator

from alarm_mw.config.tables.follow import follow_of
from alarm_mw.master.follow.entries import Entry, command, ending, entry_of


def entries(name: str, since: float | None = None, until: float | None = None) -> Generator[Entry, None, None]:
    """Yield the entries of ``journal:UNIT[,UNIT]`` in order; times are in seconds since the epoch.

    Raises `ValueError` for a name that is none, and `OSError` where journalctl cannot be run or fails.
    """
    wanted = command("journalctl", follow_of(name, "beginning").units)
    wanted += [] if since is None else [f"--since=@{since:.6f}"]
    wanted += [] if until is None else [f"--until=@{until:.6f}"]
    with tempfile.TemporaryFile() as said, _started(wanted, said.fileno()) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                entry = entry_of(line)
                if entry is not None and (until is None or entry.seconds < until):
                    yield entry
        except GeneratorExit:  # no more are wanted
            process.kill()
            raise
        if status := process.wait():
            said.seek(0)
            raise OSError(ending(status, said.read()))


def _started(wanted: list[str], errors: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(wanted, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)


def first_time(name: str) -> float:
    """Return when the first entry was written, in seconds since the epoch; 0 where there is none. As `entries`."""
    found = entries(name)
    try:
        return next((entry.seconds for entry in found), 0.0)
    finally:
        found.close()
