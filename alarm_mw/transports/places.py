"""Where the files of a master are, relative to its records socket."""

from __future__ import annotations

import hashlib
import os

#: The environment variable in which the server's processes find the records socket.
SOCKET_VARIABLE = "ALARM_MW_SOCKET"

#: The environment variable with what a process of this run says at the beginning of a connection.
TOKEN_VARIABLE = "ALARM_MW_TOKEN"  # noqa: S105  # its name

#: The name of the records socket in a state directory.
SOCKET_NAME = "alarm.sock"


def control_path(socket_path: str) -> str:
    """Return the path of the control socket."""
    return f"{socket_path}.control"


def published_path(socket_path: str) -> str:
    """Return the path of what the application's processes load: the rules' literals, and what else they need."""
    return f"{socket_path}.published"


def notice_path(socket_path: str) -> str:
    """Return the path of the number that changes with what is published."""
    return f"{socket_path}.notice"


def subscribers_path(socket_path: str) -> str:
    """Return the path of the socket where workers and mules wait for signals and messages."""
    return f"{socket_path}.subscribers"


def nameless_address(path: str) -> str:
    """Return the address without a file of a socket that belongs at `path`, where no file can be made (unix(7))."""
    return f"\0alarm-mw/{os.geteuid()}/{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}"
