"""Asks a master over its control socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from alarm_mw.model.errors import NotRunningError
from alarm_mw.system.peers import is_owners
from alarm_mw.system.sockets import is_served, reachable
from alarm_mw.transports.places import control_path, nameless_address

T = TypeVar("T")

#: Seconds to wait for the answer.
TIMEOUT = 10.0

#: Seconds between two questions to a master that starts.
PAUSE = 0.1


class _FailedError(NotRunningError):
    """A master has answered, and it is of no use to ask it again."""


def ask_patiently(
    socket_path: str, url: str, *, method: str = "GET", body: bytes = b"", timeout: float = TIMEOUT
) -> dict[str, Any]:
    """Return a master's answer; where the server runs, give its next master the time to start.

    Raises `NotRunningError`. Blocks for at most some `TIMEOUT` seconds, and `timeout` seconds for the answer.
    """
    return _patiently(socket_path, lambda: ask(socket_path, url, method=method, body=body, timeout=timeout))


def read_patiently(socket_path: str, url: str) -> bytes:
    """Do the same for an answer that is no JSON."""
    return _patiently(socket_path, lambda: _read(socket_path, url, "GET", b"", TIMEOUT))


def ask(
    socket_path: str, url: str, *, method: str = "GET", body: bytes = b"", timeout: float = TIMEOUT
) -> dict[str, Any]:
    """Return the answer of the master whose records socket is given; raise `NotRunningError` when there is none.

    Blocks for at most some `timeout` seconds.
    """
    try:
        answer: dict[str, Any] = json.loads(_read(socket_path, url, method, body, timeout))
    except ValueError as error:
        raise _not_running(socket_path, error) from error
    return answer


def fetch(
    socket_path: str, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> tuple[int, bytes]:
    """Return the status and the body of a master's answer, whatever it is; raise `NotRunningError` as `ask`."""
    return _answer(socket_path, url, "GET", b"", timeout, headers or {})


def _patiently(socket_path: str, attempt: Callable[[], T]) -> T:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return attempt()
        except _FailedError:
            raise
        except NotRunningError:
            if time.monotonic() > deadline or not is_served(socket_path):
                raise
            time.sleep(PAUSE)


def _read(socket_path: str, url: str, method: str, body: bytes, timeout: float) -> bytes:
    status, answer = _answer(socket_path, url, method, body, timeout, {})
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        where = control_path(socket_path)
        raise _FailedError(f"the master at {where} has failed: HTTP {status}; its log says why")
    return answer


def _answer(  # noqa: PLR0917  # a request
    socket_path: str, url: str, method: str, body: bytes, timeout: float, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    connection = _UnixConnection(control_path(socket_path), timeout)
    try:
        connection.request(method, url, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _not_running(socket_path, error) from error
    finally:
        connection.close()


def _not_running(socket_path: str, error: Exception) -> NotRunningError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    hint = "; is the server running?" if isinstance(error, (FileNotFoundError, ConnectionRefusedError)) else ""
    return NotRunningError(f"no master answers at {control_path(socket_path)}: {why}{hint}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("alarm-mw", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            with reachable(self._path) as address:
                self.sock.connect(address)
        except OSError as error:
            if not self._connected_without_file(self.sock):
                raise error from None

    def _connected_without_file(self, connection: socket.socket) -> bool:
        """Return whether a master of this user or root answers that could not make the file."""
        try:
            connection.connect(nameless_address(self._path))
        except OSError:
            return False
        return is_owners(connection)
