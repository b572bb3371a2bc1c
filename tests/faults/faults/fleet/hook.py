"""The webhook of a fleet: it keeps who sent what and when, and can hold answers back or refuse them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The body that alarms send, in the configuration's words.
BODY = ", ".join(
    f'{name} = "{{{name}}}"'
    for name in ("id", "status", "incident", "rule", "matches", "count", "held_back", "message", "text")
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message that the receiver has got, whether it has taken it or not."""

    #: Seconds of the monotonic clock.
    at: float
    #: Who sent it, and by which alarm.
    machine: str
    alarm: str
    id: str
    status: str
    incident: str
    rule: str
    #: The line.
    message: str
    #: All that it says.
    text: str
    #: Whether the answer was that it has arrived; what was held is not.
    is_taken: bool


#: Says what to do with a message: take it, refuse it for now, or hold the answer until the hook is released.
Behavior = Callable[[Message], str]

TAKE, REFUSE, HOLD = "take", "refuse", "hold"


class Hook:
    """A port of the loopback interface that takes all messages, or does what `behavior` says."""

    def __init__(self) -> None:
        self.behavior: Behavior = lambda _: TAKE
        self._released = threading.Event()
        self._messages: list[Message] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hook = self

    def url(self, machine: str, alarm: str) -> str:
        """Return where an alarm of a machine sends its messages."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{machine}/{alarm}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Hook]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="hook")
        thread.start()
        try:
            yield self
        finally:
            self._released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def release(self) -> None:
        """Answer what is held, and take everything from now on."""
        self.behavior = lambda _: TAKE
        self._released.set()

    def messages(self, begin: int = 0) -> list[Message]:
        """Return all messages from one on."""
        with self._lock:
            return self._messages[begin:]

    def take(self, machine: str, alarm: str, body: bytes) -> bool:
        """Keep a message; return whether to say that it has arrived."""
        facts = json.loads(body)
        names = ("id", "status", "incident", "rule", "message", "text")
        found = {name: str(facts[name]) for name in names}
        at = time.monotonic()
        message = Message(at=at, machine=machine, alarm=alarm, is_taken=False, **found)
        verdict = self.behavior(message)
        taken = Message(at=at, machine=machine, alarm=alarm, is_taken=verdict == TAKE, **found)
        with self._lock:
            self._messages.append(taken)
        if verdict == HOLD:
            self._released.wait(600)
        return verdict != REFUSE


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, machine, alarm = self.path.split("/")
        with contextlib.suppress(OSError):  # whoever sent it was killed meanwhile
            self.send_response(204 if self.server.hook.take(machine, alarm, body) else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *args: object) -> None:
        pass  # the test's own output


class _Server(ThreadingHTTPServer):
    hook: Hook
    request_queue_size = 256

    def handle_error(self, *args: object) -> None:
        pass  # clients are killed here, and connections cut
