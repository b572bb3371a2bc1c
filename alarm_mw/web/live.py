"""Server-sent events: open pages hear that something has changed, and fetch what they show.

The outbox is looked at only while a page is open: two calls of stat(2) four times a second, and a query when its file
has changed. Nothing that writes the outbox knows of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Hashable, Iterable
from typing import NamedTuple, Protocol, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from alarm_mw.delivery.outbox.limits import State as FiringState
from alarm_mw.engine.incidents.incident import State
from alarm_mw.web.master import Master

#: How many pages may be open, and how many events may wait for one of them; then it has to load again.
MAX_STREAMS = 32
MAX_EVENTS = 64

#: Seconds between two looks, and between two events where nothing but counts has changed.
LOOK_EVERY = 0.25
COUNTS_EVERY = 2.0

#: Seconds after which a page hears something in any case, and that it may take to read what is sent.
KEEP_ALIVE = 15.0
SEND_TIMEOUT = 30.0

#: Milliseconds after which a browser connects again.
_RETRY = b"retry: 1000\n\n"


class Seen(NamedTuple):
    """What a look has found."""

    #: How many incidents are open.
    open: int
    #: The badge of Delivery, and its tone.
    delivery: tuple[str, str]
    #: What differs after anything else has happened that pages show at once.
    state: Hashable


class Source(Protocol):
    """What is looked at."""

    def files(self) -> Hashable:
        """Return what differs after a change. Called often, on the event loop."""
        ...

    def is_complete(self) -> bool:
        """Return whether `files` shows each change; else it is read at each look."""
        ...

    def read(self) -> Seen:
        """Return what is there now. May block."""
        ...


class MasterSource:
    """The outbox of a master."""

    def __init__(self, master: Master) -> None:
        self._master = master

    def files(self) -> tuple[tuple[int, int], ...]:
        """Return the times and sizes of the outbox's files."""
        return stamps((self._master.outbox_path, f"{self._master.outbox_path}-wal"))

    def is_complete(self) -> bool:
        """Return whether the outbox is in its file."""
        return self._master.is_durable()

    def read(self) -> Seen:
        """Look at incidents and firings."""
        query = (
            "SELECT (SELECT COUNT(*) FROM incidents WHERE state = ?),"
            " (SELECT COUNT(*) FROM firings WHERE state = ?),"
            " (SELECT MAX(seq) FROM events), (SELECT MAX(seq) FROM firings)"
        )
        with self._master.reading() as reader:
            (row,) = reader.query(query, (str(State.FIRING), str(FiringState.DEAD)))
        count, dead, *last = row
        return Seen(cast("int", count), delivery_badge(cast("int", dead), len(self._master.failing())), tuple(last))


def delivery_badge(dead: int, failing: int) -> tuple[str, str]:
    """Return the text and the tone of Delivery's badge: an alarm that fails now is worse than letters that are dead."""
    return f"! {dead:,}" if failing and dead else "!" if failing else f"{dead or ''}", "bad" if failing else "warn"


def stamps(paths: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Return the time and the size of each file; zeros for one that is missing."""
    found = []
    for path in paths:
        try:
            facts = os.stat(path)  # noqa: PTH116  # a third of the time
            found.append((facts.st_mtime_ns, facts.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


class Live:
    """The streams of one listener. Lives on its event loop."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._looking: asyncio.Task[None] | None = None

    def response(self) -> Response:
        """Return a stream, or a refusal where there are too many."""
        if len(self._queues) >= MAX_STREAMS:
            return Response("too many pages are open\n", 503, {"Retry-After": "10"}, "text/plain")
        return _EventStream(self)

    def subscribe(self) -> asyncio.Queue[bytes]:
        """Return a queue of events from now on; it ends with an empty one."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(MAX_EVENTS)
        self._queues.add(queue)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="alarm-mw-live")
        return queue

    def unsubscribe(self, queue: asyncio.Queue[bytes]) -> None:
        """Take a queue away, and look no longer if it was the last."""
        self._queues.discard(queue)
        if not self._queues and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def close(self) -> None:
        """End all streams."""
        for queue in list(self._queues):
            _end(queue)

    async def _look(self) -> None:
        files, seen, told = self._source.files(), await asyncio.to_thread(self._source.read), time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            found = self._source.files()
            if found == files and self._source.is_complete():
                continue
            fresh = await asyncio.to_thread(self._source.read)
            if fresh == seen and time.monotonic() - told < COUNTS_EVERY:
                continue  # only counts: `files` stays as it was, and they are sent later
            files, seen, told = found, fresh, time.monotonic()
            self._tell(fresh)

    def _tell(self, seen: Seen) -> None:
        event = f"event: changed\ndata: {json.dumps({'open': seen.open, 'delivery': seen.delivery})}\n\n".encode()
        for queue in list(self._queues):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                _end(queue)


def _end(queue: asyncio.Queue[bytes]) -> None:
    """Drop what waits, and have the page load again."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(b"event: reload\ndata:\n\n")
    queue.put_nowait(b"")


class _EventStream(Response):
    """Sends what comes into a queue, until the page is closed or does not read."""

    def __init__(self, live: Live) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        headers = [each for each in self.raw_headers if each[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        queue = self._live.subscribe()
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await self._send_all(queue, gone, send)
        except TimeoutError:  # it does not read
            pass
        finally:
            gone.cancel()
            self._live.unsubscribe(queue)

    async def _send_all(self, queue: asyncio.Queue[bytes], gone: asyncio.Task[None], send: Send) -> None:
        event = _RETRY
        while event and not gone.done():
            async with asyncio.timeout(SEND_TIMEOUT):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            next_event = asyncio.create_task(queue.get())
            done, _ = await asyncio.wait({next_event, gone}, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if next_event in done:
                event = next_event.result()
            else:
                next_event.cancel()
                event = b": still here\n\n"
        await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
