"""The connection that HTTP actions keep: what servers do to it, and what becomes of the next request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import httpx
import pytest

from alarm_mw.actions.curl.http_transport import UNREAD_LIMIT, KeptTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class WebServer(Protocol):
    requests: list[bytes]
    connections: int
    url: str

    def answer(self, *answers: bytes | None) -> None: ...


async def send(transport: KeptTransport, url: str, body: bytes = b"ERR x") -> tuple[int, bytes]:
    request = httpx.Request("PUT", url, content=body, extensions={"timeout": {"connect": 10}})
    async with asyncio.timeout(20):
        response = await transport.handle_async_request(request)
        async with contextlib.aclosing(response):
            return response.status_code, await response.aread()


@contextlib.asynccontextmanager
async def kept(keep_alive: float = 60.0) -> AsyncIterator[KeptTransport]:
    transport = KeptTransport(None, keep_alive)
    try:
        yield transport
    finally:
        await transport.aclose()


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """Run a server on this loop, and provide its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(5)


def test_a_connection_that_the_server_has_closed_is_not_used_again(web_server: WebServer) -> None:
    """An idle connection that has ended costs the next request nothing."""
    web_server.answer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK)

    async def go() -> None:
        async with kept() as transport:
            assert [await send(transport, web_server.url) for _ in range(3)] == [(200, b"")] * 3

    asyncio.run(go())
    assert web_server.connections == 2


@pytest.mark.parametrize("between", [b"", OK], ids=["it hangs up", "an answer too many"])
def test_what_a_server_does_between_two_requests_answers_none(between: bytes) -> None:
    """A server that hangs up without a word, or says more than it was asked, is connected to anew."""

    async def go() -> None:
        is_answered, is_over = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(OK)
            await is_answered.wait()
            writer.write(between)
            writer.close()
            await writer.wait_closed()
            is_over.set()

        async with serving(serve) as url, kept() as transport:
            await send(transport, url)
            is_answered.set()
            await asyncio.wait_for(is_over.wait(), 10)
            assert await send(transport, url) == (200, b"")

    asyncio.run(go())


def test_an_old_connection_is_not_used_again(web_server: WebServer) -> None:
    """What lies between may have forgotten it."""

    async def go() -> None:
        async with kept(keep_alive=0.0) as transport:
            await send(transport, web_server.url)
            await send(transport, web_server.url)

    asyncio.run(go())
    assert web_server.connections == 2


def test_requests_at_the_same_time_do_not_meet(web_server: WebServer) -> None:
    """Each has a connection of its own, of which one is kept."""

    async def go() -> None:
        async with kept() as transport:
            answers = await asyncio.gather(*(send(transport, web_server.url) for _ in range(3)))
            assert answers == [(200, b"")] * 3
            await send(transport, web_server.url)

    asyncio.run(go())
    assert web_server.connections == 3


def test_an_answer_may_end_with_the_connection() -> None:
    """As HTTP/1.0 has it, and servers that do not know how much will come."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 500 Oops\r\n\r\nall of it")

    async def go() -> None:
        async with serving(serve) as url, kept() as transport:
            assert await send(transport, url) == (500, b"all of it")

    asyncio.run(go())


def test_a_word_before_the_answer_is_none(web_server: WebServer) -> None:
    """100 Continue and 103 Early Hints are passed over."""
    web_server.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)

    async def go() -> None:
        async with kept() as transport:
            assert await send(transport, web_server.url) == (200, b"")

    asyncio.run(go())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", httpx.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", httpx.RemoteProtocolError),
        (None, httpx.ReadError),
    ],
    ids=["nothing", "half an answer", "another protocol", "a reset"],
)
def test_half_an_answer_is_none(answer: bytes | None, error: type[Exception]) -> None:
    """Where a server goes away in the middle, the error is one of httpx."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if answer is None:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            writer.write(answer)

    async def go() -> None:
        async with serving(serve) as url, kept() as transport:
            with pytest.raises(error):
                await send(transport, url)

    asyncio.run(go())


def test_no_more_is_read_than_somebody_looks_at() -> None:
    """A large answer waits in the system's buffers, not in our memory, and comes whole."""
    size = 64 * UNREAD_LIMIT

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await writer.drain()

    async def go() -> None:
        async with serving(serve) as url, kept() as transport:
            request = httpx.Request("PUT", url, content=b"ERR x")
            response = await transport.handle_async_request(request)
            for _ in range(100):  # the loop gets all chances to read
                await asyncio.sleep(0)
            pieces = [len(piece) async for piece in response.aiter_raw()]
            await response.aclose()
            assert sum(pieces) == size
            assert max(pieces) <= 2 * UNREAD_LIMIT

    asyncio.run(go())


ON_UVLOOP = """
import sys, httpx, uvloop
from alarm_mw.actions.curl.http_transport import KeptTransport

async def main(url):
    transport = KeptTransport(None, 60.0)
    response = await transport.handle_async_request(httpx.Request("PUT", url, content=b"ERR x"))
    print(response.status_code, await response.aread())
    await response.aclose()
    await transport.aclose()

uvloop.run(main(sys.argv[1]))
"""


def test_it_runs_on_an_applications_loop_too(web_server: WebServer) -> None:
    """Such as uvloop's, which connects in another way."""
    command = [sys.executable, "-c", ON_UVLOOP, web_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "200 b''\n", done.stderr


def test_nobody_there_is_an_error_of_httpx() -> None:
    """It has the system's as its cause."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    async def go() -> None:
        async with kept() as transport:
            with pytest.raises(httpx.ConnectError) as caught:
                await send(transport, f"http://127.0.0.1:{port}/")
            assert isinstance(caught.value.__cause__, OSError)

    asyncio.run(go())


def test_what_cannot_be_sent_is_an_error_of_httpx(web_server: WebServer) -> None:
    """A header with a line end in it, say."""

    async def go() -> None:
        async with kept() as transport:
            request = httpx.Request("PUT", web_server.url, headers={"X": "a\nb"}, content=b"ERR x")
            with pytest.raises(httpx.LocalProtocolError):
                await transport.handle_async_request(request)

    asyncio.run(go())
    assert not web_server.requests
