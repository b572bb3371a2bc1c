"""The server of the control API, while nobody asks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import time
from email.utils import parsedate_to_datetime

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from alarm_mw.master.control import http_server
from alarm_mw.master.control.http_server import PublicProtocol, server_of


def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return said


def test_it_answers_and_ends_at_once_though_it_never_looks_at_the_clock() -> None:
    """Neither a request nor the end waits for anything; each answer has the date of its request."""
    came: list[bytes] = []

    async def scene() -> None:
        server = server_of(Starlette(routes=[Route("/", answer)]), backlog=8)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            came.append(await ask(listener.getsockname()[1]))
            server.server_state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
            came.append(await ask(listener.getsockname()[1]))
            server.end()
            await asyncio.wait_for(serving, 10)

    began = time.time()
    asyncio.run(scene())
    for said in came:
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.endswith(b"here")
        date = re.search(b"(?im)^date: (.*)\r$", said)
        assert date
        assert int(began) <= parsedate_to_datetime(date[1].decode()).timestamp() <= time.time()


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"]
)
def test_who_never_asks_is_hung_up_on(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the page's address a caller has a limited time for a whole request; one that is answered may take longer."""
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT", 0.05)
    done = asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        await done.wait()
        return PlainTextResponse("here")

    async def scene() -> bytes:
        app = Starlette(routes=[Route("/", slow, methods=["GET", "POST"])])
        server = server_of(app, 8, PublicProtocol)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            asking = asyncio.create_task(ask(listener.getsockname()[1]))
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            writer.write(said)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            done.set()
            answered = await asking
            server.end()
            await asyncio.wait_for(serving, 10)
        return answered

    assert asyncio.run(scene()).endswith(b"here")


def test_connections_are_taken_in_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond as many as it may hold, callers of the page wait in the listener; the end waits for none of them."""
    monkeypatch.setattr(http_server, "MAX_PUBLIC", 2)
    monkeypatch.setattr(http_server, "ACCEPTED_PER_SECOND", 1e-6)

    async def scene() -> list[bytes]:
        server = server_of(Starlette(routes=[Route("/", answer)]), 8, PublicProtocol)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            port = listener.getsockname()[1]
            answers = [await ask(port) for _ in range(3)]
            waiting = asyncio.create_task(ask(port))
            done, _ = await asyncio.wait([waiting], timeout=0.2)
            assert not done
            server.end()
            await asyncio.wait_for(serving, 10)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(waiting, 10)
        return answers

    assert all(each.endswith(b"here") for each in asyncio.run(scene()))


def test_a_listener_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no connection can be taken in, as without descriptors, the log says so, and the next one is answered."""
    monkeypatch.setattr(http_server, "ACCEPT_PAUSE", 0.0)
    failures = [ConnectionAbortedError(), OSError(errno.EMFILE, "Too many open files")]

    async def scene() -> bytes:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept

        async def failing(listener: socket.socket) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop(0)
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", failing)
        server = server_of(Starlette(routes=[Route("/", answer)]), 8, PublicProtocol)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            said = await ask(listener.getsockname()[1])
            server.end()
            await asyncio.wait_for(serving, 10)
        return said

    assert asyncio.run(scene()).endswith(b"here")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "the page cannot take a connection in: [Errno 24] Too many open files"
    ]
