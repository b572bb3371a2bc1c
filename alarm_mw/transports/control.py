"""Asks a master over its control socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

from alarm_mw.errors import NotRunningError
from alarm_mw.sockets import is_served, reachable
from alarm_mw.transports.places import control_path

#: Seconds to wait for the answer.
TIMEOUT = 10.0


#: Seconds between two questions to a master that starts.
PAUSE = 0.1


def ask_patiently(socket_path: str, url: str, *, method: str = "GET", timeout: float = TIMEOUT) -> dict[str, Any]:
    """Return a master's answer; where the server runs, give its next master the time to start.

    Raises `NotRunningError`. Blocks for at most some `TIMEOUT` seconds, and `timeout` seconds for the answer.
    """
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return ask(socket_path, url, method=method, timeout=timeout)
        except NotRunningError:
            if time.monotonic() > deadline or not is_served(socket_path):
                raise
            time.sleep(PAUSE)


def ask(socket_path: str, url: str, *, method: str = "GET", timeout: float = TIMEOUT) -> dict[str, Any]:
    """Return the answer of the master whose records socket is given; raise `NotRunningError` when there is none.

    Blocks for at most some `timeout` seconds.
    """
    connection = _UnixConnection(control_path(socket_path), timeout)
    try:
        connection.request(method, url)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotRunningError(f"no master answers at {control_path(socket_path)}: {error}") from error
    finally:
        connection.close()
    return answer


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("alarm-mw", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with reachable(self._path) as address:
            self.sock.connect(address)
