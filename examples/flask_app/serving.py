"""Runs a server under ``alarm-mw run`` for as long as a context lasts, and reads what it writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, TypeVar

#: Seconds for whatever is waited for here.
PATIENCE = 20.0

T = TypeVar("T")


class Arrivals(Generic[T]):
    """What has arrived from some sources, in order. Safe to use from any thread."""

    def __init__(self, sources: int = 1) -> None:
        self._items: list[T] = []
        self._sources = sources
        self._changed = threading.Condition()

    def add(self, item: T) -> None:
        """Note an arrival."""
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        """Note that one of the sources has nothing more to come."""
        with self._changed:
            self._sources -= 1
            self._changed.notify_all()

    def all(self) -> list[T]:
        """Return what has arrived so far."""
        with self._changed:
            return list(self._items)

    def wait_more(self, count: int, timeout: float) -> None:
        """Return when more than `count` have arrived, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) > count, timeout)

    def wait_for(self, is_wanted: Callable[[T], object], what: str, timeout: float = PATIENCE) -> T:
        """Return the first arrival that is wanted; raise `TimeoutError`, which names it as `what`."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for item in self._items:
                    if is_wanted(item):
                        return item
                if not self._sources or not self._changed.wait(max(deadline - time.monotonic(), 0.0)):
                    raise TimeoutError(f"{what} did not arrive")


class Server:
    """A running server: its process, its lines and its URL."""

    def __init__(self, process: subprocess.Popen[bytes], lines: Arrivals[str]) -> None:
        self.process = process
        self.lines = lines

    def wait_until_ready(self) -> str:
        """Return the URL that gunicorn or uvicorn says it listens at."""
        ready = re.compile(r"(?:Listening at:|running on) (http://[\d.]+:\d+)")
        try:
            line = self.lines.wait_for(ready.search, "the server's address")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it wrote:\n" + "\n".join(self.lines.all())) from None
        found = ready.search(line)
        assert found is not None
        return found[1]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, in which the commands of this Python's environment are found first."""
    commands = str(Path(sys.executable).parent)
    # Should we run under `alarm-mw run` ourselves: that master is none of ours.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ALARM_MW_")}
    return {**inherited, "PATH": os.pathsep.join([commands, os.environ.get("PATH", os.defpath)]), **extra}


@contextmanager
def running(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Iterator[Server]:
    """Run a command for as long as the context lasts; end it by its process id."""
    lines: Arrivals[str] = Arrivals(sources=2)
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_read, args=(stream, lines), name="output")
        for stream in (process.stdout, process.stderr)
    ]
    for reader in readers:
        reader.start()
    try:
        yield Server(process, lines)
    finally:
        _stop(process)
        for reader in readers:
            reader.join(PATIENCE)


def _read(stream: IO[bytes], lines: Arrivals[str]) -> None:
    with stream:
        for line in stream:
            lines.add(line.decode(errors="backslashreplace").removesuffix("\n"))
    lines.end()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # a process that has ended already does not mind
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
