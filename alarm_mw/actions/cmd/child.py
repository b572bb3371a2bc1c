"""A shell command as a child process of an event loop: its input, its output, its end.

Not `asyncio.create_subprocess_shell`: that gives the child a socket for its standard input on Python 3.11, and learns
of its end by a child watcher, which a user's event loop policy may have replaced by one that needs the main thread.
Here a pidfd notifies the loop directly, in any thread and whatever the process does with SIGCHLD.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import IO

from alarm_mw.model.interfaces import Execution

#: Seconds between SIGTERM and SIGKILL, and the longest wait after that.
KILL_GRACE = 1.0

#: Bytes read from a pipe at once.
_CHUNK = 65_536

#: Seconds between checks of a child where the system has no pidfd.
_POLL = 0.005


class Child:
    """``/bin/sh -c COMMAND`` in its own session. Belongs to the event loop that runs now; `stop` it at the end."""

    def __init__(
        self,
        command: str,
        stdin: bytes,
        environment: Mapping[str, str],
        output: Callable[[str, bytes], None],
        execution: Execution,
    ) -> None:
        """Start the command; `output` gets ``stdout`` or ``stderr`` and the bytes as they come. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        with filled(stdin) as source:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
                **execution.popen_options(),
            )
        streams = {"stdout": self._process.stdout, "stderr": self._process.stderr}
        self._pipes = [
            _Pipe(loop, stream, functools.partial(output, name)) for name, stream in streams.items() if stream
        ]
        self._ended = ended(self._process, loop)

    async def status(self) -> int:
        """Return the exit status when the command has ended; the negative number of the signal that killed it."""
        await asyncio.wait({self._ended})
        return self._process.wait()

    async def drain(self, timeout: float) -> None:
        """Wait for the end of the output, at most `timeout` seconds: the command's own children may hold it open."""
        await asyncio.wait({pipe.ended for pipe in self._pipes}, timeout=timeout)

    async def stop(self) -> None:
        """End the command and its children if it still runs: SIGTERM, after a second SIGKILL. Close the pipes."""
        try:
            if self._process.returncode is None:
                await self._kill()
        finally:
            for pipe in self._pipes:
                pipe.close()

    async def _kill(self) -> None:
        try:
            self._signal_group(signal.SIGTERM)
            await asyncio.wait({self._ended}, timeout=KILL_GRACE)
        finally:
            # Before the child is reaped, so that its group's number cannot belong to others yet.
            self._signal_group(signal.SIGKILL)
            self._ended.add_done_callback(lambda _: self._process.wait())
        await asyncio.wait({self._ended}, timeout=KILL_GRACE)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class _Pipe:
    """The read end of a pipe, read whenever it has data."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: IO[bytes], sink: Callable[[bytes], None]) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self._loop, self._stream, self._sink = loop, stream, sink
        os.set_blocking(stream.fileno(), False)
        loop.add_reader(stream.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._stream.fileno(), _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._sink(data)
        else:
            self.close()

    def close(self) -> None:
        if not self._stream.closed:
            self._loop.remove_reader(self._stream.fileno())
            self._stream.close()
            self.ended.set_result(None)


def filled(data: bytes) -> IO[bytes]:
    """Return a file that holds exactly `data` and then ends, to be a child's standard input.

    A pipe where it takes all of `data` at once, so that nobody has to feed a child that does not read; else an
    unnamed temporary file.
    """
    reader, writer = (os.fdopen(fd, mode, buffering=0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    with writer:
        os.set_blocking(writer.fileno(), False)
        if not data or writer.write(data) == len(data):
            return reader
    reader.close()
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # the caller closes it
    file.write(data)
    file.seek(0)
    return file


def ended(process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """Return a future that is done when `process` has ended; it is left to be reaped where the system has pidfds."""
    future: asyncio.Future[None] = loop.create_future()
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        poll(process, loop, future)
    else:
        loop.add_reader(pidfd, _on_end, pidfd, loop, future)
    return future


def _on_end(pidfd: int, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    loop.remove_reader(pidfd)
    os.close(pidfd)
    future.set_result(None)


def poll(process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Set `future` when `process` has ended, by polling."""
    if process.poll() is None:
        loop.call_later(_POLL, poll, process, loop, future)
    else:
        future.set_result(None)
