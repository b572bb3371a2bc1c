"""The kernel's answers about listening sockets: sock_diag(7) over netlink(7), as bytes. Pure.

Layouts are those of ``linux/netlink.h``, ``linux/inet_diag.h`` and ``linux/unix_diag.h``. For a listening socket the
kernel gives the number of connections that wait for `accept` as its receive queue, and the limit as its send queue.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

_BUFFER = 256 * 1024

#: Seconds to wait for the kernel, which answers at once.
_PATIENCE = 2.0

#: Errors of a kernel that was built without IPv6 or unix_diag.
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
        return [found for request in requests for found in self.dump(request)]

    def dump(self, request: bytes) -> Iterator[Listener]:
        """Yield the listening sockets that the kernel names in its answer to one request; raises `OSError`."""
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


#: ``NETLINK_SOCK_DIAG``, the protocol of the netlink socket.
NETLINK_SOCK_DIAG = 4

#: Types of messages.
NLMSG_ERROR = 2
NLMSG_DONE = 3
SOCK_DIAG_BY_FAMILY = 20

_NLM_F_REQUEST_DUMP = 0x301
_TCP_LISTEN = 10
_LISTENING = 1 << _TCP_LISTEN
_UDIAG_SHOW = 0x01 | 0x02 | 0x10  # name, file, queue
_UNIX_DIAG_NAME, _UNIX_DIAG_VFS, _UNIX_DIAG_RQLEN = 0, 1, 4

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_INET_REQUEST = struct.Struct("=BBBxI48x")  # inet_diag_req_v2: family, protocol, extensions, states, the rest any
_INET_MESSAGE = struct.Struct("=BBxx2s2x16s28xIIII")  # … source port and address … expires, rqueue, wqueue, uid
_INODE = struct.Struct("=I")
_UNIX_REQUEST = struct.Struct("=BBxxIII8x")  # unix_diag_req: family, protocol, states, inode, show, cookie
_UNIX_MESSAGE = struct.Struct("=BBBxI8x")  # unix_diag_msg: family, type, state, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")
_PAIR = struct.Struct("=II")
_ERROR = struct.Struct("=i")

_MINOR_BITS = 20


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket."""

    #: The socket's own, as in ``/proc/PID/fd``.
    inode: int
    #: ``127.0.0.1:8000``, ``[::1]:8000``, ``/run/app.sock``, ``@abstract``; empty for a unix socket without a name.
    address: str
    #: Connections that wait to be accepted.
    queued: int
    #: How many may wait; the kernel lets one more in.
    limit: int
    #: Device and inode of a unix socket's file.
    file: tuple[int, int] | None = None


def inet_request(family: int) -> bytes:
    """Return the request for all listening TCP sockets of ``AF_INET`` or ``AF_INET6``."""
    return _request(_INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, _LISTENING))


def unix_request() -> bytes:
    """Return the request for all listening unix sockets."""
    return _request(_UNIX_REQUEST.pack(socket.AF_UNIX, 0, _LISTENING, 0, _UDIAG_SHOW))


def _request(payload: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(payload), SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 0, 0) + payload


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each netlink message in what was received."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += _aligned(max(length, _HEADER.size))


def error_number(payload: bytes) -> int:
    """Return the errno in an ``NLMSG_ERROR``; 0 is none."""
    (number,) = _ERROR.unpack_from(payload)
    return -int(number)


def listener(payload: bytes) -> Listener:
    """Parse a ``SOCK_DIAG_BY_FAMILY`` message."""
    return _unix_listener(payload) if payload[0] == socket.AF_UNIX else _inet_listener(payload)


def _inet_listener(payload: bytes) -> Listener:
    family, _state, port, source, _expires, queued, limit, _uid = _INET_MESSAGE.unpack_from(payload)
    (inode,) = _INODE.unpack_from(payload, _INET_MESSAGE.size)
    host = ipaddress.ip_address(source if family == socket.AF_INET6 else source[:4])
    return Listener(inode, join(str(host), int.from_bytes(port, "big")), queued, limit)


def join(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around the address of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unix_listener(payload: bytes) -> Listener:
    _family, _type, _state, inode = _UNIX_MESSAGE.unpack_from(payload)
    found = dict(_attributes(payload[_UNIX_MESSAGE.size :]))
    queued, limit = _PAIR.unpack(found[_UNIX_DIAG_RQLEN])
    return Listener(inode, _name(found.get(_UNIX_DIAG_NAME, b"")), queued, limit, _file(found.get(_UNIX_DIAG_VFS)))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(max(length, _ATTRIBUTE.size))


def _name(path: bytes) -> str:
    """Return a path, or an abstract name as ``@name``, the way ``ss`` shows it."""
    text = os.fsdecode(path.rstrip(b"\0"))
    return "@" + text[1:] if text.startswith("\0") else text


def _file(data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    inode, device = _PAIR.unpack(data)
    return os.makedev(device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1)), inode


def _aligned(length: int) -> int:
    return (length + 3) & ~3
