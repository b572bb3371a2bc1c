"""Sockets at a path, for this user's processes unless said otherwise."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from alarm_mw.system.sockets import bind
from alarm_mw.transports.places import nameless_address

log = logging.getLogger(__name__)


def listen(path: Path, backlog: int, mode: int = 0o600) -> socket.socket:
    """Return a stream socket that listens at `path`, in the place of what a master that was killed has left there.

    Where no file can be made there, it has a name without one (`nameless_address`), and the log says so.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    try:
        path.unlink(missing_ok=True)
        bind(listener, str(path), mode)
    except OSError as error:
        log.error("no socket can be made at %s: %s", path, error)
        listener.bind(nameless_address(str(path)))
    listener.listen(backlog)
    return listener
