"""Sockets at a path, for this user's processes unless said otherwise."""

from __future__ import annotations

import socket
from pathlib import Path

from alarm_mw.system.sockets import bind


def listen(path: Path, backlog: int, mode: int = 0o600) -> socket.socket:
    """Return a stream socket that listens at `path`, in the place of what a master that was killed has left there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    bind(listener, str(path), mode)
    listener.listen(backlog)
    return listener
