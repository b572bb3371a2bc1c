"""A web hook that takes everything, and how a server of the standard library runs beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """Keeps its connections, and prints nothing among the test's own output."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int) -> None:
        """Answer without a body."""
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class TakingHandler(QuietHandler):
    """Answers that a message has arrived."""

    server: Webhook

    def do_PUT(self) -> None:
        self.server.take(self.path, self.body())
        self.answer(204)

    def do_POST(self) -> None:
        self.do_PUT()


class Webhook(ThreadingHTTPServer):
    """A port of the loopback interface; `take` is called with path and body of each message."""

    def __init__(self, take: Callable[[str, bytes], object], handler: type[TakingHandler] = TakingHandler) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.take = take
        self.url = f"http://127.0.0.1:{self.server_port}/"


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    """Serve in a thread meanwhile, and close the port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="web")
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
