"""Blocking calls from coroutines."""

from __future__ import annotations

from collections.abc import Callable


async def in_thread(function: Callable[[bytes], object], data: bytes) -> None:
    """Call a function that may block in a thread, and return when it has returned: not before, even when cancelled.

    So who limits the time of the caller knows that something goes on. Raises what the function does.
    """
    import asyncio  # noqa: PLC0415  # the start of a server does not wait for it

    call = asyncio.create_task(asyncio.to_thread(function, data))
    try:
        await asyncio.shield(call)
    finally:
        await asyncio.wait({call})
