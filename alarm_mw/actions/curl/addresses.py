"""Connects to the address of a name that answers first (RFC 8305).

The event loop can do that as well (`happy_eyeballs_delay`), but where it is cancelled just as it has connected, the
connection stays open: in Python 3.11, 3.12 and 3.13; compare https://github.com/aio-libs/aiohappyeyeballs/pull/143.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

#: Seconds after which the next address of a name is tried beside those that have not answered (RFC 8305, section 5).
NEXT_ADDRESS = 0.25

#: What `socket.getaddrinfo` says of an address: family, type, protocol, name, and the address.
Info = tuple[int, int, int, str, tuple[Any, ...]]


async def connect(host: str, port: int) -> socket.socket:
    """Return a connected socket, which does not block. Raises `OSError`."""
    return await connect_to_first(alternating(await _found(host, port)))


async def connect_to_first(infos: Sequence[Info]) -> socket.socket:
    """Return a socket that is connected to the first of these addresses that answers. Raises `OSError` if none does."""
    attempts: list[asyncio.Task[socket.socket]] = []
    winner = None
    try:
        for info in infos:
            attempts.append(asyncio.create_task(_connect(info)))
            winner = await _first(attempts, None if info is infos[-1] else NEXT_ADDRESS)
            if winner is not None:
                return winner.result()
        raise _as_one([attempt.exception() for attempt in attempts])
    finally:
        for attempt in attempts:
            if attempt is not winner:
                attempt.cancel()
                attempt.add_done_callback(_close)


async def _connect(info: Info) -> socket.socket:
    family, kind, protocol, _, address = info
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _first(
    attempts: Sequence[asyncio.Task[socket.socket]], patience: float | None
) -> asyncio.Task[socket.socket] | None:
    """Return an attempt that has succeeded; None when another one can be made, which without `patience` is never."""
    while waiting := [attempt for attempt in attempts if not attempt.done()]:
        done, _ = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            if attempt.exception() is None:
                return attempt
        if patience is not None:
            return None
    return None


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close a connection that is not needed any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _as_one(errors: Sequence[BaseException | None]) -> OSError:
    return OSError(", ".join(dict.fromkeys(map(str, errors))))


async def _found(host: str, port: int) -> Sequence[Info]:
    try:  # an address needs no thread that asks for it
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def alternating(infos: Sequence[Info]) -> list[Info]:
    """Return the addresses of one family between those of another: often all of one cannot be reached."""
    seen: Counter[int] = Counter()
    places = []
    for info in infos:
        places.append(seen[info[0]])
        seen[info[0]] += 1
    return [info for _, info in sorted(zip(places, infos, strict=True), key=lambda found: found[0])]
