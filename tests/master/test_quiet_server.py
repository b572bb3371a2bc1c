"""The server of the control API, while nobody asks."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from alarm_mw.master import quiet_server
from alarm_mw.master.quiet_server import QuietServer


def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


def quiet(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(app, log_config=None, lifespan="off")


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return said


def test_it_answers_and_ends_at_once_though_it_hardly_ever_wakes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a request nor the end waits for the next look at the clock; answers have a date."""
    monkeypatch.setattr(quiet_server, "TICK", 3600.0)

    async def scene() -> None:
        server = QuietServer(quiet(Starlette(routes=[Route("/", answer)])))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            said = await ask(listener.getsockname()[1])
            server.end()
            await asyncio.wait_for(serving, 10)
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.endswith(b"here")
        assert b"\r\ndate: " in said.lower()

    asyncio.run(scene())


def test_the_date_is_that_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again and again while the server runs."""
    monkeypatch.setattr(quiet_server, "TICK", 0.0)
    ticks: list[int] = []

    class Counted(QuietServer):
        async def on_tick(self, counter: int) -> bool:
            ticks.append(counter)
            if len(ticks) == 3:
                self.end()
            return await super().on_tick(counter)

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await asyncio.wait_for(Counted(quiet(Starlette())).serve(sockets=[listener]), 10)

    asyncio.run(scene())
    assert len(ticks) == 3
