"""Asks the kernel which sockets listen, and how many connections wait at each."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Self

from alarm_mw.monitors.backlog.sock_diag import (
    NETLINK_SOCK_DIAG,
    NLMSG_DONE,
    NLMSG_ERROR,
    Listener,
    error_number,
    inet_request,
    listener,
    messages,
    unix_request,
)

_BUFFER = 256 * 1024

#: Seconds to wait for the kernel, which answers at once.
_PATIENCE = 2.0

#: What a kernel says that was built without IPv6, or without unix_diag.
_NOT_KNOWN = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


class SocketDiagnosis:
    """A netlink socket to ask over; a context manager. Sees the sockets of its own network namespace."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG)
        self._netlink.settimeout(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._netlink.close()

    def listeners(self) -> list[Listener]:
        """Return all listening TCP and unix sockets; raise `OSError`. Takes some microseconds for each of them."""
        requests = (inet_request(socket.AF_INET), inet_request(socket.AF_INET6), unix_request())
        return [found for request in requests for found in self._dump(request)]

    def _dump(self, request: bytes) -> Iterator[Listener]:
        self._netlink.sendto(request, (0, 0))
        while True:
            for kind, payload in messages(self._netlink.recv(_BUFFER)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    _check(error_number(payload))
                    return
                yield listener(payload)


def _check(number: int) -> None:
    if number not in _NOT_KNOWN:
        raise OSError(number, os.strerror(number))
