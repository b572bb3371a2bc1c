"""A webhook's receiver: answers every POST at once, and writes down what it was and when.

A line for each on standard output: the number that the body ends in, or 0, and the moment by the monotonic clock, both
in nanoseconds. The first line is its port. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
#: Where a body ends that says its length piece by piece, as uWSGI's does.
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
LAST_CHUNK = b"\r\n0\r\n\r\n"
NUMBER = re.compile(rb"(\d+)\s*$")


class Receiver(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete."""
        seen = time.monotonic_ns()
        self._data += data
        while (end := self._data.find(b"\r\n\r\n") + 4) > 3:
            body, stop = self._body(end)
            if len(self._data) < stop:
                return
            self._transport.write(ANSWER)
            number = NUMBER.search(self._data, end, body)
            sys.stdout.write(f"{int(number[1]) if number else 0} {seen}\n")
            sys.stdout.flush()
            self._data = self._data[stop:]

    def _body(self, begin: int) -> tuple[int, int]:
        """Return where the body ends, and where the next request begins."""
        if CHUNKED.search(self._data, 0, begin):
            end = self._data.find(LAST_CHUNK, begin)
            return end, end + len(LAST_CHUNK) if end >= 0 else sys.maxsize
        length = LENGTH.search(self._data, 0, begin)
        end = begin + (int(length[1]) if length else 0)
        return end, end


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
