"""The capture of standard output and error: all of it comes out, and all of it is read."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from waiting import LIMIT

from alarm_mw.app.capture.stdio import StdioCapture

ROOT = Path(__file__).parents[3]


class Collector(threading.Thread):
    """Reads a descriptor to its end."""

    def __init__(self, descriptor: int, on_end: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True)
        self.descriptor, self.on_end = descriptor, on_end
        self.data = bytearray()
        self.came = threading.Condition()
        self.start()

    def run(self) -> None:
        while part := os.read(self.descriptor, 65_536):
            with self.came:
                self.data += part
                self.came.notify_all()
        self.on_end()

    def first(self, size: int) -> bytes:
        """Wait for `size` bytes and return all that has come."""
        with self.came:
            self.came.wait_for(lambda: len(self.data) >= size, LIMIT)
            return bytes(self.data)

    def shows(self, data: bytes) -> bool:
        """Return whether `data` and nothing else comes."""
        return self.first(len(data)) == data


class Place:
    """Where output goes: a pipe that is read all the time."""

    def __init__(self) -> None:
        read, self.writer = os.pipe()
        self.output = Collector(read)

    def close(self) -> None:
        os.close(self.writer)
        self.output.join(LIMIT)
        os.close(self.output.descriptor)


class Captured:
    """A capture in this process, whose standard descriptors lead to `writers`, with a reader for each copy."""

    def __init__(self, writers: dict[int, int], *, read: bool = True) -> None:
        self.writers, self.read_at_once = writers, read
        self.capture = StdioCapture()
        self.readers: dict[str, Collector] = {}

    # Not in fixtures: between them and the test pytest moves the descriptors itself.
    def __enter__(self) -> Self:
        self.saved = {number: os.dup(number) for number in self.writers}
        for number, writer in self.writers.items():
            os.dup2(writer, number)
        self.capture.start()
        if self.read_at_once:
            self.read()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.capture.close()
        for number, saved in self.saved.items():
            os.dup2(saved, number)
            os.close(saved)

    @property
    def relay(self) -> int:
        assert self.capture.relay is not None
        return self.capture.relay

    def read(self) -> None:
        for name, copy in self.capture.copies.items():
            self.readers[name] = Collector(copy, partial(self.capture.copy_ended, name))

    def stop(self) -> bool:
        """Stop the capture and wait for its readers."""
        done = self.capture.stop(LIMIT)
        for reader in self.readers.values():
            reader.join(LIMIT)
        return done

    def copy(self, name: str = "stdout") -> bytes:
        return bytes(self.readers[name].data)


@pytest.fixture
def out() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


@pytest.fixture
def err() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


def test_all_that_is_printed_comes_out_and_is_read(out: Place, err: Place) -> None:
    """Python, C, child processes and forked children: each byte comes out, in order, and each is read."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        os.write(1, b"from python\n\xff\0")
        os.write(2, b"to standard error\n")
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        subprocess.run(["/bin/echo", "from a child"], check=True)
        pid = os.fork()
        if not pid:
            os.write(1, b"from a fork\n")
            os._exit(0)
        os.waitpid(pid, 0)
        assert captured.stop()
        expected = b"from python\n\xff\0from C\nfrom a child\nfrom a fork\n"
        assert out.output.shows(expected)
        assert captured.copy() == expected
        assert err.output.shows(b"to standard error\n")
        assert captured.copy("stderr") == b"to standard error\n"
        assert captured.capture.dropped == 0


def test_what_python_and_c_have_buffered_comes_out_before_the_end(out: Place, err: Place) -> None:
    """What was printed before `stop` is read, though it was in a buffer."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        ctypes.CDLL(None).printf(b"from C, no newline")
        assert captured.stop()
        assert out.output.shows(b"from C, no newline")
        assert captured.copy() == b"from C, no newline"


def test_c_code_that_holds_the_gil_does_not_wait_for_itself(tmp_path: Path) -> None:
    """An extension may print more than any pipe holds while no other thread of the process can run."""
    text = b"a line of some length\n" * 100_000
    keeps_the_gil = ctypes.PyDLL(None)
    # A file, since a reader in this process could not run either.
    with (tmp_path / "out").open("wb") as file, Captured({1: file.fileno()}) as captured:
        keeps_the_gil.printf(b"%s", text)
        keeps_the_gil.fflush(None)
        assert captured.stop()
        assert captured.copy() == text
    assert (tmp_path / "out").read_bytes() == text


def test_streams_to_one_place_keep_their_order(out: Place) -> None:
    """After ``2>&1`` lines of standard output and error come out in the order in which they were printed."""
    with Captured({1: out.writer, 2: out.writer}) as captured:
        assert list(captured.readers) == ["stdout"]
        lines = [b"line %d\n" % number for number in range(2_000)]
        for number, line in enumerate(lines):
            os.write(1 + number % 2, line)
        assert captured.stop()
        assert out.output.shows(b"".join(lines))
        assert captured.copy() == b"".join(lines)


def test_the_log_of_alarms_is_not_read(out: Place, err: Place) -> None:
    """What is written to the saved standard error comes out, and never comes back as a line to be judged."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        os.write(captured.capture.saved_stderr, b"an alarm was logged\n")
        assert captured.stop()
        assert err.output.shows(b"an alarm was logged\n")
        assert captured.copy("stderr") == b""


def test_stop_gives_everything_back(out: Place, err: Place) -> None:
    """After `stop` the descriptors lead where they led before, and the relay is gone."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        relay = captured.relay
        assert not os.path.samestat(os.fstat(1), os.fstat(out.writer))
        assert captured.stop()
        assert os.path.samestat(os.fstat(1), os.fstat(out.writer))
        assert os.path.samestat(os.fstat(2), os.fstat(err.writer))
        with pytest.raises(ProcessLookupError):
            os.kill(relay, 0)
        assert captured.capture.stop(0)


def test_a_stopped_capture_can_be_started_again(out: Place, err: Place) -> None:
    """A program may capture for a while, stop, and capture again."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        os.write(1, b"first\n")
        assert captured.stop()
        captured.capture.close()
        os.write(1, b"second\n")
        captured.capture.start()
        captured.read()
        os.write(1, b"third\n")
        assert captured.stop()
        assert out.output.shows(b"first\nsecond\nthird\n")
        assert captured.copy() == b"third\n"


def test_what_the_application_put_there_itself_stays(out: Place, err: Place, tmp_path: Path) -> None:
    """A program that has redirected its output since the start keeps that redirection."""
    with Captured({1: out.writer, 2: err.writer}) as captured, (tmp_path / "log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        assert captured.stop()
        assert os.path.samestat(os.fstat(1), os.fstat(log.fileno()))


def test_signals_to_the_group_do_not_end_the_relay(out: Place, err: Place) -> None:
    """A ^C at the terminal reaches the relay too, and the last words still come out."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        relay = captured.relay
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(relay, number)
        os.write(1, b"last words\n")
        assert captured.stop()
        assert out.output.shows(b"last words\n")
        assert captured.copy() == b"last words\n"


def test_a_killed_relay_is_done_without(out: Place, err: Place) -> None:
    """When the relay is killed no print fails or waits, and what is printed comes out at the original."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        os.write(1, b"before\n")
        assert out.output.shows(b"before\n")
        os.kill(captured.relay, signal.SIGKILL)
        # What it had in hand at that moment would be lost.
        os.waitid(os.P_PID, captured.relay, os.WEXITED | os.WNOWAIT)
        # More than a pipe holds: somebody has to take it.
        lines = [b"after %d\n" % number for number in range(10_000)]
        for line in lines:
            os.write(1, line)
        captured.readers["stdout"].join(LIMIT)
        assert sorted(out.output.first(7 + sum(map(len, lines))).splitlines(keepends=True)) == sorted(
            [b"before\n", *lines]
        )
        assert os.path.samestat(os.fstat(1), os.fstat(out.writer))


def test_children_of_a_killed_relay_are_not_held(out: Place, err: Place) -> None:
    """A child that still prints into the capture's pipe goes on, and its output comes out."""
    script = "read line; i=0; while [ $i -lt 9000 ]; do echo theirs $i; i=$((i+1)); done"
    with Captured({1: out.writer, 2: err.writer}) as captured:
        with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE) as child:
            os.kill(captured.relay, signal.SIGKILL)
            child.communicate(b"go\n", timeout=LIMIT)
        assert out.output.shows(b"".join(b"theirs %d\n" % number for number in range(9_000)))


def test_output_that_nobody_reads_fails_as_without_us() -> None:
    """When the original's reader is gone, printing fails as it would without a capture; it never hangs."""
    read, write = os.pipe()
    with Captured({1: write}) as captured:
        os.close(read)
        os.write(1, b"x\n")
        captured.readers["stdout"].join(LIMIT)
        with pytest.raises(BrokenPipeError):
            os.write(1, b"y\n")
    os.close(write)


def test_a_reader_that_does_not_come_holds_nobody(out: Place, err: Place) -> None:
    """Without a reader the output comes out all the same; whole lines are missing in the copy, and are counted."""
    text = b"".join(b"%099d\n" % number for number in range(200_000))
    with Captured({1: out.writer, 2: err.writer}, read=False) as captured:
        with open(1, "wb", closefd=False) as file:
            file.write(text)
        assert out.output.shows(text)
        captured.read()
        assert captured.stop()
        lines = captured.copy().splitlines(keepends=True)
        dropped = captured.capture.dropped
    assert dropped > 0
    assert set(lines) < set(text.splitlines(keepends=True))
    assert lines == sorted(set(lines))
    assert len(lines) + dropped == 200_000


def test_a_child_that_outlives_us_keeps_its_output(out: Place, err: Place) -> None:
    """`stop` does not wait for a child that goes on printing, and what it prints later comes out."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        with subprocess.Popen(["/bin/sh", "-c", "read line; echo $line"], stdin=subprocess.PIPE) as child:
            os.write(1, b"ours\n")
            assert captured.capture.stop(LIMIT)
            assert out.output.shows(b"ours\n")
            assert child.poll() is None
            child.communicate(b"theirs\n")
        assert out.output.shows(b"ours\ntheirs\n")
        assert captured.stop()


def test_a_forked_child_leaves_the_capture_alone(out: Place, err: Place) -> None:
    """A forked child that stops what it has inherited takes nothing from its parent, and may capture itself."""
    with Captured({1: out.writer, 2: err.writer}) as captured:
        pid = os.fork()
        if not pid:
            try:
                captured.capture.stop(LIMIT)
                captured.capture.close()
                capture = StdioCapture()
                capture.start()
                os.write(1, b"from the child\n")
                read = os.read(capture.copies["stdout"], 100)
                capture.stop(LIMIT)
                os._exit(0 if read == b"from the child\n" else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.write(1, b"from the parent\n")
        assert captured.stop()
        assert out.output.shows(b"from the child\nfrom the parent\n")
        assert captured.copy() == b"from the child\nfrom the parent\n"


CLOSED = """
import os, sys
from alarm_mw.app.capture.stdio import StdioCapture
tell = int(sys.argv[1])
capture = StdioCapture()
try:
    capture.start()
except OSError as error:
    os.write(tell, str(error).encode())
else:
    (name, copy), = capture.copies.items()
    os.write({"stdout": 1, "stderr": 2}[name], b"printed")
    capture.stop(0)
    os.write(tell, name.encode() + b": " + os.read(copy, 100))
    capture.close()
"""


@pytest.mark.parametrize(
    ("closed", "told"),
    [
        ("1>&-", b"stderr: printed"),
        ("2>&-", b"stdout: printed"),
        ("1>&- 2>&-", b"[Errno 9] standard output and standard error are closed: nothing can be captured"),
    ],
)
def test_a_closed_stream_is_left_out(out: Place, closed: str, told: bytes) -> None:
    """A daemon without standard output or error captures what there is, and is told where there is nothing."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$@" {closed}', sys.executable, CLOSED, str(out.writer)],
        pass_fds=[out.writer],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=LIMIT,
        check=True,
    )
    assert out.output.shows(told)
    assert done.stdout + done.stderr == (b"printed" if b"printed" in told else b"")


AT_EXIT = """
import atexit, os
from alarm_mw.app.capture.stdio import StdioCapture
capture = StdioCapture()
capture.start()
atexit.register(capture.stop, 0.05)
print("the last line, in a buffer")
"""


def test_the_last_words_of_an_interpreter_come_out() -> None:
    """What is printed at the very end comes out, even when nobody has read the copy."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=LIMIT,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"the last line, in a buffer\n", b"")
