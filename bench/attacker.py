"""Attacks a page: ``python bench/attacker.py PORT CONNECTIONS REQUESTS``, until it is ended.

So many connections stay open with the half of a request and send a byte now and then (slow loris); one that is closed
is opened again. Beside them, so many requests a second are forged: wrong tokens, cookies and login URLs, foreign hosts,
forms of other sites; 0 is as many as eight connections can. Four times a second a form of 10 MB is sent. It prints a
line when all connections have been asked for once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

#: Seconds between two bytes of a slow request, and between two large forms.
SLOWLY = 2.0
LARGE_EVERY = 0.25

#: Connections that forge requests, and how many connections are opened each second.
FORGERS = 8
OPENED = 400

LARGE = 10_000_000

HALF = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Slow: "

FORGED = (
    b"GET /api/1/incidents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: alarm_mw_00000000=AAAAAAAAAAAAAAAAAAAAAAAA\r\n\r\n",
    b"GET /login/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /login/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"POST /i/0123456789/ack HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
    b"GET /ack/0123456789/1/9999999999/AAAA HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


async def hold(port: int, begun: asyncio.Semaphore, turn: asyncio.Lock) -> None:
    """Keep one connection open, again and again."""
    is_first = True
    while True:
        async with turn:
            await asyncio.sleep(1 / OPENED)
        if is_first:
            is_first = False
            begun.release()
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(HALF)
                while not reader.at_eof():
                    writer.write(b"a")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1000), SLOWLY)
            finally:
                writer.close()


async def forge(port: int, pause: float) -> None:
    """Send one forged request after the other."""
    requests = itertools.cycle(FORGED)
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for request in requests:
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                    await reader.readexactly(int(length.partition(b":")[2]))
                    await asyncio.sleep(pause)
            finally:
                writer.close()
        await asyncio.sleep(0.01)


async def send_large(port: int) -> None:
    """Send large forms, as far as they are read."""
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % LARGE
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(head)
                for _ in range(LARGE // 65_536):
                    writer.write(b"a" * 65_536)
                    await writer.drain()
            finally:
                writer.close()
        await asyncio.sleep(LARGE_EVERY)


async def attack(port: int, connections: int, requests: int) -> None:
    """Do all of it at once."""
    begun, turn = asyncio.Semaphore(0), asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(hold(port, begun, turn))
        for _ in range(FORGERS):
            group.create_task(forge(port, FORGERS / requests if requests else 0.0))
        group.create_task(send_large(port))
        for _ in range(connections):
            await begun.acquire()
        print("under way", flush=True)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(attack(*map(int, sys.argv[1:4])))
