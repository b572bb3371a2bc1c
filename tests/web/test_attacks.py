"""What strangers may try at the page's address: the page goes on answering, and so do the alarms."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from ports import free_port
from waiting import LIMIT, wait_until
from web_configuration import ALARMS, DISKS, configuration
from web_server import Server

from alarm_mw.web.live import MAX_STREAMS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, configuration(ALARMS, DISKS, port=free_port()))
    yield server
    server.stop()


def port_of(browser: httpx.Client) -> int:
    assert browser.base_url.port is not None
    return browser.base_url.port


def memory_of(pid: int) -> int:
    """Return the resident memory of a process, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_a_thousand_connections(server: Server) -> None:
    """Half of a request on each of them keeps nobody out, takes little memory, and delays no alarm."""
    with server.log_in() as browser, ExitStack() as stack:
        master = server.master()
        before = memory_of(master)
        for _ in range(1000):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(browser)), LIMIT))
            connection.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\nname=")
        assert browser.get("/").status_code == 200
        server.line("disk /var full")
        wait_until(lambda: [each["key"] for each in server.incidents()] == [{"disk": "/var"}])
        assert browser.get("/").text.count("disk /var full") == 1
        assert server.master() == master
        assert memory_of(master) - before < 40_000


def test_a_large_form_is_not_read(server: Server) -> None:
    """Ten megabytes are refused before they have come, and the connection ends."""
    with server.log_in() as browser, socket.create_connection(("127.0.0.1", port_of(browser)), LIMIT) as connection:
        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
        connection.sendall(head)
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413")


def test_only_so_many_pages_are_live(server: Server) -> None:
    """Further streams of events are refused, and the page itself is not."""
    with server.log_in() as browser, ExitStack() as stack:
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        request = f"GET /live HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
        for _ in range(MAX_STREAMS):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(browser)), LIMIT))
            stream.sendall(request)
            assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        assert browser.get("/live").status_code == 503
        assert browser.get("/").status_code == 200


def test_a_stream_tells_of_changes(server: Server) -> None:
    """A page hears of a new incident, with the number of open ones."""
    with server.log_in() as browser, browser.stream("GET", "/live") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        server.line("disk /var full")
        assert next(line for line in lines if line.startswith("data:")) == 'data: {"open": 1, "delivery": ["", "warn"]}'


def test_what_is_no_request(server: Server) -> None:
    """Garbage, foreign protocols and endless headers end their connection, and nothing else."""
    with server.log_in() as browser:
        for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/9\r\n\r\n", b"A" * 100_000):
            with socket.create_connection(("127.0.0.1", port_of(browser)), LIMIT) as connection:
                connection.sendall(garbage + b"\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                assert not connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert browser.get("/").status_code == 200
