"""What the tests of actions share: firings, a context that keeps the log, a server that keeps raw requests."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, cast

import pytest
import trustme
from msgspec import structs

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Record


@pytest.fixture
def make_firing() -> Callable[..., Firing]:
    """Provide a function that makes a firing of the alarm ``test`` with the message given."""
    numbers = itertools.count(1)

    def make(message: bytes = b"ERR x\n", **facts: object) -> Firing:
        number = next(numbers)
        record = Record(message=message, source="stdout", time=1.5, key=f"key-{number}", pid=42)
        firing = Firing(id=f"firing-{number}", alarm="test", message=message, record=record, time=2.5, rule="ERR")
        return structs.replace(firing, **facts)

    return make


@dataclass
class Log:
    """The log that actions write to."""

    entries: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        return b"".join(self.entries)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def context(log: Log) -> ActionContext:
    return ActionContext(alarm="test", write_log=log.entries.append)


@dataclass
class WebServer:
    """An HTTP/1.1 server that keeps the raw bytes of every request and answers with what it is told to."""

    scheme: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    #: The next answers; the last one is repeated. An empty one closes the connection, None never comes.
    answers: list[bytes | None] = field(default_factory=lambda: [ok()])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def answer(self, *answers: bytes | None) -> None:
        self.answers[:] = answers

    def next_answer(self) -> bytes | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def ok(status: str = "200 OK", headers: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@pytest.fixture
def reply() -> Callable[..., bytes]:
    """Provide a function that makes the bytes of an HTTP response."""
    return ok


class _Listener:
    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self._open: set[socket.socket] = set()
        self.server = WebServer("https" if context else "http", self._socket.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, name="web-server")]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.server.connections += 1
            self._open.add(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), name="web-server-connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer:
            stream = self._context.wrap_socket(peer, server_side=True) if self._context else peer
            self._open.add(stream)
            with stream, stream.makefile("rb") as reader:
                while request := _read_request(cast("BinaryIO", reader)):
                    self.server.requests.append(request)
                    if not self._reply(stream):
                        return

    def _reply(self, stream: socket.socket) -> bool:
        answer = self.server.next_answer()
        if answer is None:
            return bool(stream.recv(1))
        stream.sendall(answer)
        return bool(answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for peer in list(self._open):
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


def _read_request(reader: BinaryIO) -> bytes:
    head = b""
    length = 0
    while line := reader.readline():
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if line == b"\r\n":
            return head + reader.read(length)
    return b""


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    listener = _Listener(None)
    yield listener.server
    listener.close()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = _Listener(context)
    yield listener.server
    listener.close()


@pytest.fixture
def deliver(context: ActionContext) -> Callable[..., None]:
    """Provide a function that delivers firings one after the other, with options in uWSGI's syntax or as such."""

    async def attempt(options: CurlOptions, firings: tuple[Firing, ...]) -> None:
        async with CurlAction(options, context) as action:
            for firing in firings:
                await asyncio.wait_for(action.deliver(firing), 30)

    def run(options: str | CurlOptions, *firings: Firing) -> None:
        asyncio.run(attempt(CurlAction.from_uwsgi(options) if isinstance(options, str) else options, firings))

    return run
