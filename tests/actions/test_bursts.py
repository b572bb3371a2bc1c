"""A burst of 1,000 firings to each action: all delivered, the books balanced, and no more at once than configured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
import smtp_server
from aiosmtpd.smtp import SMTP, Envelope, Session
from msgspec import structs
from prosody_server import Prosody
from slixmpp import ClientXMPP
from waiting import LIMIT

from alarm_mw import actions
from alarm_mw.config.load import from_keywords
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.tls import client_context
from alarm_mw.model.types import Record

COUNT = 1_000
#: The same of what takes long: a mail, and a program for each message.
FEW = 150


#: The worker and the event loop.
OWN_THREADS = 2

#: Threads that have given their result and are about to end, on a busy machine.
ENDING = 3


class WebServer(Protocol):
    requests: list[bytes]
    connections: int

    @property
    def url(self) -> str: ...


def children() -> int:
    """Return how many child processes there are."""
    count = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            count += len(Path(f"/proc/self/task/{task}/children").read_text().split())
    return count


def connections_to(port: int) -> int:
    """Return how many connections to a port of the loopback interface are open."""
    rows = map(str.split, Path("/proc/self/net/tcp").read_text().splitlines()[1:])
    remote = f"0100007F:{port:04X}"
    # While others come and go, the kernel may list one twice.
    return len({row[1] for row in rows if row[2:4] == [remote, "01"]})


@dataclass
class Watcher:
    """Looks again and again, and remembers the most that there was at once."""

    port: int = 0
    children: int = 0
    threads: int = 0
    connections: int = 0
    looks: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, name="watcher")
        before = threading.active_count(), children(), connections_to(self.port)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(10)
        self.threads -= before[0] + 1
        self.children -= before[1]
        self.connections -= before[2]

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.looks += 1
            self.threads = max(self.threads, threading.active_count())
            self.children = max(self.children, children())
            self.connections = max(self.connections, connections_to(self.port) if self.port else 0)


@dataclass
class Burst:
    """What a burst to one alarm came to."""

    watcher: Watcher
    log: list[bytes]


def burst(alarm: str, port: int = 0, count: int = COUNT) -> Burst:
    """Fire an alarm `count` times at once, and return when all is delivered; the books must balance."""
    log: list[bytes] = []
    watcher = Watcher(port)
    settings = from_keywords(alarms={"a": alarm}, log_alarms=["a ERR"])
    every = tuple(structs.replace(each, limits=Limits(repeat_after=0)) for each in settings.alarms)
    settings = structs.replace(settings, alarms=every)
    with watcher.watching():
        runtime = Runtime(settings, write_log=log.append)
        runtime.start()
        try:
            items = [Item(Record(b"ERR %d\n" % n, "stdout", 1.0, f"k{n}", pid=1)) for n in range(count)]
            runtime.worker.submit(Batch(items))
            _wait_until_delivered(runtime, count)
        finally:
            runtime.stop(1.0)
    assert watcher.looks > 0
    return Burst(watcher, log)


def _wait_until_delivered(runtime: Runtime, count: int) -> None:
    delivered, deadline, pause = 0, time.monotonic() + LIMIT, threading.Event()
    while True:
        with runtime.outbox.still():
            books, waiting = runtime.books()
        row = books["alarms"].get("a")
        if row is not None and row["delivered"] == count:
            break
        if row is not None and row["delivered"] > delivered:  # how long they all take says how busy the machine is
            delivered, deadline = row["delivered"], time.monotonic() + LIMIT
        assert time.monotonic() < deadline, row
        pause.wait(0.01)
    assert imbalances(books, waiting) == []
    assert (row["matched"], row["fired"], row["held_back"]) == (count, count, {})
    assert (row["waiting"], row["dead"], row["dropped"]) == (0, {}, {})


def numbers(messages: list[bytes]) -> list[int]:
    """Return the number behind ``ERR`` in each message."""
    return [int(found[1]) for message in messages if (found := re.search(rb"ERR (\d+)", message)) is not None]


ALL = list(range(COUNT))


def concurrency(name: str) -> int:
    return actions.find(name).concurrency


def test_log() -> None:
    """Every line is written, in order; one thread at a time blocks."""
    done = burst("log:")
    assert numbers(done.log) == ALL
    assert done.watcher.threads <= OWN_THREADS + concurrency("log") + ENDING
    assert done.watcher.children == 0


def test_cmd(tmp_path: Path) -> None:
    """Every command has run once, never more at once than `concurrency`."""
    done = burst(f"cmd:cat >> '{tmp_path}/lines'")
    assert sorted(numbers((tmp_path / "lines").read_bytes().splitlines())) == ALL
    assert 1 <= done.watcher.children <= concurrency("cmd")


def test_curl(web_server: WebServer) -> None:
    """Every message arrives, in order, over one connection that is kept."""
    done = burst(f"curl:{web_server.url}/hook", int(web_server.url.rpartition(":")[2]))
    assert numbers([request.rpartition(b"\r\n\r\n")[2] for request in web_server.requests]) == ALL
    assert web_server.connections == 1
    assert done.watcher.connections <= concurrency("curl")
    assert done.watcher.children == 0


def test_airbrake(web_server: WebServer) -> None:
    """Every notice arrives, in order, over one connection."""
    done = burst(f"airbrake:{web_server.url}/api/v3/;apikey=K", int(web_server.url.rpartition(":")[2]))
    marks = [request.partition(b'"message": "')[2].partition(b'"')[0] for request in web_server.requests]
    assert numbers(marks) == ALL
    assert web_server.connections == 1
    assert done.watcher.connections <= concurrency("airbrake")


class Conversation(SMTP):
    """A client's connection to a mailbox, which is told of its start and its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.event_handler.count(1)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.event_handler.count(-1)


class Mailbox:
    """What an SMTP server got."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[bytes] = []
        #: The most connections that there were at once.
        self.most = 0
        self._open = 0

    def count(self, step: int) -> None:
        self._open += step
        self.most = max(self.most, self._open)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert envelope.original_content is not None
        self.mails.append(envelope.original_content)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    with smtp_server.serving(lambda: Conversation(box, hostname="mx")) as box.port:
        yield box


def test_smtp(mailbox: Mailbox) -> None:
    """Every mail arrives, in order, over one connection at a time."""
    burst(f"curl:smtp://127.0.0.1:{mailbox.port};mail_to=a@example.org", count=FEW)
    assert numbers(mailbox.mails) == ALL[:FEW]
    assert mailbox.most == 1


class Reader(threading.Thread):
    """Somebody who is online and reads."""

    def __init__(self, server: Prosody) -> None:
        super().__init__(name="reader")
        self.messages: list[bytes] = []
        self.ready = threading.Event()
        self.has_all = threading.Event()
        self._server = server

    def run(self) -> None:
        asyncio.run(self._read())

    async def _read(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        tls = client_context(ca_file=self._server.ca_file)
        client = ClientXMPP(self._server.jid("me"), "hunter2", ssl_context=tls, loop=self._loop)
        client.enable_direct_tls = False
        client.add_event_handler("message", lambda message: self._take(message["body"].encode()))
        client.connect("127.0.0.1", self._server.port)
        await client.wait_until("session_start", 30)
        client.send_presence()
        self.ready.set()
        await self._over.wait()
        await client.disconnect(1)

    def _take(self, body: bytes) -> None:
        self.messages.append(body)
        if len(self.messages) == COUNT:
            self.has_all.set()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)


@pytest.fixture
def reader(prosody: Prosody) -> Iterator[Reader]:
    somebody = Reader(prosody)
    somebody.start()
    assert somebody.ready.wait(30)
    yield somebody
    somebody.stop()


def test_xmpp(prosody: Prosody, reader: Reader) -> None:
    """Every message arrives, in order, over one connection."""
    args = f"{prosody.jid('app')};hunter2;{prosody.jid('me')};host=127.0.0.1;port={prosody.port}"
    done = burst(f"xmpp:{args};ca_file={prosody.ca_file}", prosody.port)
    assert reader.has_all.wait(30)
    assert numbers(reader.messages) == ALL
    assert done.watcher.connections <= concurrency("xmpp")


@pytest.fixture
def voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[bytes]]:
    """Put a script in the place of espeak-ng; return a function that tells what it was to say."""
    program = tmp_path / "espeak-ng"
    program.write_text(f"#!/bin/sh\nread -r text; echo \"$text\" >> '{tmp_path}/said'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return lambda: (tmp_path / "said").read_bytes().splitlines()


def test_speech(voice: Callable[[], list[bytes]]) -> None:
    """Every message is said, in order, one at a time."""
    done = burst("speech:", count=FEW)
    assert numbers(voice()) == ALL[:FEW]
    assert 1 <= done.watcher.children <= concurrency("speech")
    assert done.watcher.threads <= OWN_THREADS + concurrency("speech") + ENDING
