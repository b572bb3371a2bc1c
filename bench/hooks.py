"""Starts `receiver.py`, and waits for what it receives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Hook:
    """A running receiver of webhooks."""

    def __init__(self, lines: IO[str]) -> None:
        self._lines = lines
        self.port = int(lines.readline())
        self.url = f"http://127.0.0.1:{self.port}/hook"

    def next(self) -> tuple[int, int]:
        """Wait for the next request; return its number and when it came, by the monotonic clock in nanoseconds."""
        number, seen = self._lines.readline().split()
        return int(number), int(seen)

    def expect(self, requests: int) -> None:
        """Wait for so many requests."""
        for _ in range(requests):
            self.next()


@contextmanager
def receiving() -> Iterator[Hook]:
    """Give a receiver, and stop it at the end."""
    words = [sys.executable, str(Path(__file__).with_name("receiver.py"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield Hook(process.stdout)
        finally:
            process.stdin.close()
