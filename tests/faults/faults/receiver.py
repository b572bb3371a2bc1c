"""Web hooks: one that keeps what it gets and can be down, and those that misbehave, each in its own way."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from waiting import LIMIT

from faults.ground import wait_until

#: Seconds without another message after which the ledger is asked.
LOOK_EVERY = 2.0

NUMBER = re.compile(rb"TERRIBLE ALARM (\d+)")

#: Says what a misbehaving receiver does with a request that was read; it ends early when the event is set.
Behaviour = Callable[["Handler", threading.Event], None]


class Handler(BaseHTTPRequestHandler):
    """Takes a message, unless the receiver's behaviour is another one."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver = self.server.receiver
        if receiver.behaviour is not None:
            self.close_connection = True
            receiver.asked.set()
            with contextlib.suppress(OSError):
                receiver.behaviour(self, receiver.well)
            return
        receiver.keep(self.headers["Idempotency-Key"], body)
        self.answer(204)

    def answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass  # the test's own output


class _Server(ThreadingHTTPServer):
    receiver: Receiver
    request_queue_size = 128

    def handle_error(self, *args: object) -> None:
        pass  # clients are killed here, and connections cut


class Receiver:
    """A port of the loopback interface; `behaviour` is how it misbehaves, None for a receiver that is well."""

    def __init__(self, behaviour: Behaviour | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        #: Set when it got a request that it did not take.
        self.asked = threading.Event()
        #: Set while it is not misbehaving.
        self.well = threading.Event()
        #: How often each message came, by the ids it came under.
        self.received: dict[int, Counter[str]] = defaultdict(Counter)
        self._tls = tls
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        # Bound, and not listened to: connections are refused, and nobody else gets the port.
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/"

    def up(self) -> None:
        """Listen."""
        self._server = _Server(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        self._server.receiver = self
        self._server.socket.close()
        self._server.socket = self._socket
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._socket, server_side=True)
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def recover(self) -> None:
        """Behave from now on."""
        self.behaviour = None
        self.well.set()

    def close(self) -> None:
        self.well.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._socket.close()

    @contextlib.contextmanager
    def serving(self) -> Iterator[Receiver]:
        self.up()
        try:
            yield self
        finally:
            self.close()

    def keep(self, key: str, body: bytes) -> None:
        found = NUMBER.search(body)
        assert found, body
        with self._lock:
            self.received[int(found[1])][key] += 1

    def wait_for(self, numbers: set[int], what: str, counted: Callable[[], int] = int) -> None:
        """Wait until all of these have come, but for as many as are `counted`; give up when no more of them come."""
        missing, since = self._missing(numbers), time.monotonic()
        while missing:
            try:
                wait_until(partial(self._has_more, numbers, len(missing)), LOOK_EVERY)
            except TimeoutError:
                if len(missing) <= counted():
                    return
                if time.monotonic() < since + LIMIT:
                    continue
                some = ", ".join(map(str, sorted(missing)[:20]))
                raise TimeoutError(f"{what}: {len(missing)} of {len(numbers)} have not come: {some}") from None
            missing, since = self._missing(numbers), time.monotonic()

    def _has_more(self, numbers: set[int], missing: int) -> bool:
        return len(self._missing(numbers)) < missing

    def _missing(self, numbers: set[int]) -> set[int]:
        with self._lock:
            return numbers - self.received.keys()

    def has(self, numbers: set[int]) -> bool:
        with self._lock:
            return numbers <= self.received.keys()


# What is done with a request


def hangs(_: Handler, well: threading.Event) -> None:
    """Say nothing."""
    well.wait(60)


def drips(handler: Handler, well: threading.Event) -> None:
    """Answer a byte a second."""
    for byte in b"HTTP/1.1 204 No Content\r\n":
        handler.wfile.write(bytes([byte]))
        if well.wait(1):
            return


def floods(handler: Handler, well: threading.Event) -> None:
    """Answer with a gigabyte."""
    handler.answer(503, Content_Length=str(2**30))
    for _ in range(2**10):
        handler.wfile.write(bytes(2**20))


def closes(handler: Handler, well: threading.Event) -> None:
    """Close the connection without an answer."""


def redirects(handler: Handler, well: threading.Event) -> None:
    """Send the client to where it is."""
    handler.answer(302, Location="/", Content_Length="0")
