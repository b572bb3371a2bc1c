"""Runs a writer with what is measured behind it, and reads what comes out: how fast, for how much processor time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

ALARM_MW = str(Path(sys.executable).with_name("alarm-mw"))
WRITER = [sys.executable, str(Path(__file__).with_name("writer.py"))]
#: Seconds for anything to start, to come out or to stop.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Writing:
    """What is written: a file, so many times, in portions of so many bytes, 0 is line by line; by so many processes."""

    file: Path
    times: int
    portion: int = 0
    workers: int = 1

    @property
    def lines(self) -> int:
        """How many lines that makes."""
        return self.file.read_bytes().count(b"\n") * self.times

    @property
    def size(self) -> int:
        """How many bytes that makes."""
        return self.file.stat().st_size * self.times


@dataclass(frozen=True, slots=True)
class Flow:
    """What came out: how many seconds it took, and the processor's seconds of what stood in between."""

    seconds: float
    processor: float

    def per_line(self, writing: Writing) -> dict[str, float | None]:
        """Return thousand lines a second, and the processor's nanoseconds of a line."""
        return {"lines": writing.lines / self.seconds / 1e3, "processor": self.processor / writing.lines * 1e9}


def in_place_of_cat(words: Sequence[str], writing: Writing, folder: Path) -> Flow:
    """Measure ``writer | WORDS | reader``."""
    with ExitStack() as stack:
        control = control_socket(stack, folder)
        source, writer_end = os.pipe()
        output, filter_end = os.pipe()
        start(stack, WRITER, stdout=writer_end, env=_environ(writing, folder))
        middle = start(stack, words, stdin=source, stdout=filter_end)
        for each in (source, writer_end, filter_end):
            os.close(each)
        stack.callback(os.close, output)
        return _flow(control, middle, writing, _Drain(output))


def below_us(config: Path, writing: Writing, folder: Path, passed: Callable[[int], None] = lambda _: None) -> Flow:
    """Measure ``alarm-mw run -- writer | reader``; `passed` hears how many of the measured bytes have come so far."""
    with ExitStack() as stack:
        control = control_socket(stack, folder)
        output, run_end = os.pipe()
        run = start(stack, _run(config, folder), stdout=run_end, env=_environ(writing, folder))
        os.close(run_end)
        stack.callback(os.close, output)
        return _flow(control, run, writing, _Drain(output, passed), folder / "state")


def into_a_file(words: Sequence[str] | Path, writing: Writing, folder: Path) -> Flow:
    """Measure until the whole output of uWSGI, or of ours where a configuration is given, is in a file."""
    command, state = (_run(words, folder), folder / "state") if isinstance(words, Path) else (words, None)
    with ExitStack() as stack:
        control = control_socket(stack, folder)
        log = folder / "output.log"
        with log.open("wb") as file:
            process = start(stack, command, stdout=file, env=_environ(writing, folder))
        return _flow(control, process, writing, _Growth(log), state)


def until(arrived: Callable[[int], None], config: Path, writing: Writing, folder: Path) -> Flow:
    """Measure ``alarm-mw run -- writer`` until what follows from so many bytes has `arrived`."""
    with ExitStack() as stack:
        control = control_socket(stack, folder)
        run = start(stack, _run(config, folder), stdout=subprocess.DEVNULL, env=_environ(writing, folder))
        return _flow(control, run, writing, arrived, folder / "state")


def _run(config: Path, folder: Path) -> list[str]:
    shutil.rmtree(folder / "state", ignore_errors=True)
    return [ALARM_MW, "run", "--config", str(config), "--state-dir", str(folder / "state"), "--", *WRITER]


def _environ(writing: Writing, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "BENCH_CONTROL": str(folder / "control"),
        "BENCH_LINES": str(writing.file),
        "BENCH_TIMES": str(writing.times),
        "BENCH_WRITE": str(writing.portion),
        "BENCH_WORKERS": str(writing.workers),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def control_socket(stack: ExitStack, folder: Path) -> socket.socket:
    """Return the socket at which a writer reports."""
    control = stack.enter_context(socket.socket(socket.AF_UNIX))
    (folder / "control").unlink(missing_ok=True)
    control.bind(str(folder / "control"))
    control.listen()
    control.settimeout(PATIENCE)
    return control


def start(stack: ExitStack, words: Sequence[str], **keywords: Any) -> subprocess.Popen[bytes]:
    """Start a process, which is stopped with the stack."""
    process: subprocess.Popen[bytes] = subprocess.Popen(words, **{"stderr": subprocess.DEVNULL, **keywords})
    stack.callback(stop, process)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process: in peace, if it goes soon."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _flow(
    control: socket.socket,
    middle: subprocess.Popen[bytes],
    writing: Writing,
    reader: Callable[[int], None],
    state: Path | None = None,
) -> Flow:
    """Let the writer write the file once, so that everything has started, and then as often as is measured."""
    writer, _ = control.accept()
    with writer:
        writer.settimeout(PATIENCE)
        pid = int(writer.recv(100))
        if state:
            ask_patiently(str(state / SOCKET_NAME), "/status")
        writer.sendall(b"!")
        reader(writing.file.stat().st_size)
        before, began = processor_time(middle.pid, pid), time.perf_counter()
        writer.sendall(b"!")
        reader(writing.size)
        took = time.perf_counter() - began
        return Flow(took, processor_time(middle.pid, pid) - before)


class _Drain:
    """Reads so many bytes from a pipe; `passed` hears how many of them have come so far."""

    def __init__(self, output: int, passed: Callable[[int], None] = lambda _: None) -> None:
        self._output, self._passed = output, passed
        self._view = memoryview(bytearray(65_536))

    def __call__(self, size: int) -> None:
        seen = 0
        while seen < size:
            came = os.readv(self._output, [self._view])
            if not came:
                raise RuntimeError(f"the output ended {size - seen} bytes too early")
            seen += came
            self._passed(seen)


class _Growth:
    """Waits until a file has so many bytes more than before; what a server says at its start are a few more."""

    def __init__(self, file: Path) -> None:
        self._file, self._end = file, 0

    def __call__(self, size: int) -> None:
        self._end += size
        deadline = time.monotonic() + PATIENCE
        while self._file.stat().st_size < self._end:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the output did not come to its end in {self._file}")
            time.sleep(0.001)


def processor_time(pid: int, without: int = 0) -> float:
    """Return the processor's seconds of a process and all its descendants, those of `without` left out."""
    return sum(_seconds(each) for each in family(pid, without))


def family(pid: int, without: int = 0) -> Iterator[int]:
    """Yield a process and all its descendants, those of `without` left out."""
    if pid == without:
        return
    yield pid
    for task in _tasks(pid):
        with suppress(OSError):
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from family(int(child), without)


def _seconds(pid: int) -> float:
    total = 0
    for task in _tasks(pid):
        with suppress(OSError):
            total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
