"""Where a server's state is, and which servers run."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from alarm_mw.transports.places import SOCKET_NAME
from alarm_mw.transports.unix import reachable


def state_home(environ: Mapping[str, str]) -> Path:
    """Return the directory that holds a state directory for each server (XDG base directory specification)."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.local/state").expanduser()) / "alarm-mw"


def own_state_dir(command: Sequence[str], environ: Mapping[str, str]) -> Path:
    """Return this server's state directory: the same whenever the same command starts in the same directory.

    Where such a server runs already, the second one gets a directory of its own.
    """
    identity = "\0".join([os.getcwd(), *command]).encode("utf-8", "surrogateescape")
    name = f"{os.path.basename(command[0])}-{hashlib.sha256(identity).hexdigest()[:8]}"
    names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
    home = state_home(environ)
    return next(home / name for name in names if not is_served(home / name / SOCKET_NAME))


def running(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the records sockets of the servers that run, of those with a default state directory."""
    for path in sorted(state_home(environ).glob(f"*/{SOCKET_NAME}")):
        if is_served(path):
            yield path


def is_served(path: Path) -> bool:
    """Return whether somebody listens at this records socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            with reachable(str(path)) as address:
                probe.connect(address)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
