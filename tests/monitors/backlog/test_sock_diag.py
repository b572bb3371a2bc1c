"""Bytes of sock_diag, as the kernel writes them."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.monitors.backlog.sock_diag import (
    NLMSG_DONE,
    SOCK_DIAG_BY_FAMILY,
    Listener,
    error_number,
    inet_request,
    join,
    listener,
    messages,
    unix_request,
)


def inet_message(family: int, host: str, port: int, queue: tuple[int, int], inode: int) -> bytes:
    """Return a `struct inet_diag_msg`."""
    ends = struct.pack("!HH", port, 0) + socket.inet_pton(family, host).ljust(16, b"\0") + bytes(16) + bytes(12)
    return struct.pack("=BBBB", family, 10, 0, 0) + ends + struct.pack("=IIIII", 0, *queue, 0, inode)


def attribute(kind: int, data: bytes) -> bytes:
    whole = struct.pack("=HH", 4 + len(data), kind) + data
    return whole + bytes(-len(whole) % 4)


def unix_message(inode: int, *attributes: bytes) -> bytes:
    """Return a `struct unix_diag_msg` with its attributes."""
    return struct.pack("=BBBBIII", socket.AF_UNIX, 1, 10, 0, inode, 0, 0) + b"".join(attributes)


QUEUE = attribute(4, struct.pack("=II", 3, 8))


def test_requests_have_the_length_that_they_say() -> None:
    """A request is a netlink header and the kernel's structure: 56 bytes for TCP, 24 for unix sockets."""
    for request, size in [(inet_request(socket.AF_INET), 56), (unix_request(), 24)]:
        assert len(request) == struct.unpack_from("=I", request)[0] == 16 + size


@pytest.mark.parametrize(
    ("family", "host", "address"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1:8000"),
        (socket.AF_INET, "0.0.0.0", "0.0.0.0:8000"),
        (socket.AF_INET6, "::1", "[::1]:8000"),
        (socket.AF_INET6, "2001:db8::1", "[2001:db8::1]:8000"),
    ],
)
def test_a_tcp_socket(family: int, host: str, address: str) -> None:
    """Address, queue and inode of a TCP socket are read."""
    message = inet_message(family, host, 8000, (4, 3), 12345)
    assert listener(message) == Listener(12345, address, 4, 3)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (b"/run/app.sock\0", "/run/app.sock"),
        (b"/run/app.sock", "/run/app.sock"),
        (b"\0app", "@app"),
        (b"/run/\xff", "/run/\udcff"),
        (None, ""),
    ],
)
def test_a_unix_socket(name: bytes | None, address: str) -> None:
    """A path, an abstract name, bytes that are no text, and no name at all."""
    names = [] if name is None else [attribute(0, name)]
    assert listener(unix_message(7, *names, QUEUE)) == Listener(7, address, 3, 8)


def test_the_file_of_a_unix_socket() -> None:
    """Inode and device of the path are those that stat(2) gives."""
    file = attribute(1, struct.pack("=II", 99, (254 << 20) | 3))
    assert listener(unix_message(7, file, QUEUE)).file == (os.makedev(254, 3), 99)


def test_messages_are_cut_out() -> None:
    """Several messages in one packet are told apart, whatever their lengths."""
    packet = b"".join(
        struct.pack("=IHHII", 16 + len(data), kind, 0, 0, 0) + data + bytes(-len(data) % 4)
        for kind, data in [(SOCK_DIAG_BY_FAMILY, b"abcde"), (SOCK_DIAG_BY_FAMILY, b""), (NLMSG_DONE, b"\0\0\0\0")]
    )
    assert list(messages(packet)) == [(20, b"abcde"), (20, b""), (3, b"\0\0\0\0")]


@given(st.binary(max_size=200))
def test_any_bytes_come_to_an_end(data: bytes) -> None:
    """Lengths that cannot be do not keep the reader for ever."""
    assert len(list(messages(data))) <= len(data) / 16 + 1


def test_an_error_has_its_number() -> None:
    """The kernel tells errors below zero."""
    assert error_number(struct.pack("=i", -2) + bytes(16)) == 2


@given(st.integers(0, 65535), st.ip_addresses())
def test_addresses_are_told_apart_from_ports(port: int, host: object) -> None:
    """Behind the last colon stands the port, whatever the address."""
    assert join(str(host), port).rpartition(":")[2] == str(port)
