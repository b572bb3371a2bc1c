"""A receiver of web hooks that shows what arrives: ``python sink.py [PORT]``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds that a client may keep the server waiting.
TIMEOUT = 30.0


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    method: str
    path: str
    #: The same for every attempt to deliver one alarm.
    key: str
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body.decode(errors='backslashreplace')!r}"


class Sink(ThreadingHTTPServer):
    """Gives every request to `take`, in the thread that handles it. `port` 0 is a free one."""

    daemon_threads = True

    def __init__(self, port: int, take: Callable[[Received], object]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.take = take

    @property
    def url(self) -> str:
        """Where to send web hooks."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.take(Received(self.command, self.path, self.headers.get("Idempotency-Key", ""), body))
        self.send_response(204)
        self.end_headers()

    do_PUT = do_POST  # noqa: N815  # the base class's way to name it; PUT is uWSGI's default method

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Leave it to `take` what is shown."""


@contextmanager
def serving(take: Callable[[Received], object]) -> Iterator[str]:
    """Serve in a thread, on a free port, for as long as the context lasts; give the URL."""
    with Sink(0, take) as sink:
        thread = threading.Thread(target=sink.serve_forever, args=(0.05,), name="sink")
        thread.start()
        try:
            yield sink.url
        finally:
            sink.shutdown()
            thread.join()


def main() -> None:
    """Show what arrives until ^C."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8001
    with Sink(port, lambda received: print(received, flush=True)) as sink:
        print(f"web hooks are received at {sink.url}", flush=True)
        try:
            sink.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
