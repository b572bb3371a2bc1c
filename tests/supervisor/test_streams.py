"""Output through the supervisor: byte for byte, in order, to where it went before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.supervisor import streams
from alarm_mw.supervisor.streams import Stream

ALTERNATE = "import os\nfor n in range(2000): os.write(1 + n % 2, b'%d\\n' % n)"
ALTERNATED = b"".join(b"%d\n" % n for n in range(2000))

OUTPUTS = {
    "random bytes": os.urandom(1_000_000),
    "zeros": b"a\0b\0\0\n\0",
    "no newline at the end": b"first\nlast",
    "one long line": b"x" * 10_000_000,
    "nothing": b"",
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_bytes(supervise: Any, tmp_path: Path, output: bytes) -> None:
    """Whatever the server writes comes out the same."""
    file = tmp_path / "output"
    file.write_bytes(output)
    assert supervise("cat", str(file)).results() == (output, b"")


def test_separate_streams(supervise: Any) -> None:
    """Standard output and standard error stay apart."""
    assert supervise("sh", "-c", "echo out; echo err >&2").results() == (b"out\n", b"err\n")


def test_order_of_a_pipe(supervise_python: Any) -> None:
    """What goes to one pipe by 2>&1 keeps its order over both streams."""
    assert supervise_python(ALTERNATE, stderr=subprocess.STDOUT).results()[0] == ALTERNATED


@pytest.mark.parametrize("redirection", ['>"$LOG" 2>&1', '>>"$LOG" 2>>"$LOG"', '>>"$LOG" 2>&1'])
def test_order_of_a_file(supervise_python: Any, tmp_path: Path, redirection: str) -> None:
    """What goes to one file keeps its order over both streams."""
    log = tmp_path / "log"
    prefix = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    assert supervise_python(ALTERNATE, prefix=prefix, env={"LOG": str(log)}).end() == 0
    assert log.read_bytes() == ALTERNATED


@pytest.mark.parametrize("closed", [1, 2])
def test_closed_stream(supervise_python: Any, closed: int) -> None:
    """A stream that is closed on entry is closed in the server; the other one works."""
    program = f"import os\ntry: os.fstat({closed})\nexcept OSError: os.write({3 - closed}, b'closed')"
    run = supervise_python(program, prefix=["sh", "-c", f'exec "$@" {closed}>&-', "sh"])
    assert sorted(run.results()) == [b"", b"closed"]
    assert run.end() == 0


def test_broken_pipe(supervise: Any) -> None:
    """When the reader of the output leaves, the server meets the broken pipe, as it would without us."""
    reading, writing = os.pipe()
    run = supervise("yes", stdout=writing)
    os.close(writing)
    assert os.read(reading, 2) == b"y\n"
    os.close(reading)
    assert run.end() == -signal.SIGPIPE


def test_end_of_output_is_passed_on(supervise_python: Any) -> None:
    """A reader sees the end of the output when the server closes it, not only when the server ends."""
    run = supervise_python("import os\nos.write(1, b'last')\nos.close(1)\ninput()")
    assert run.process.stdout.read() == b"last"
    run.say("\n")
    assert run.end() == 0


def test_input_is_the_servers(supervise: Any) -> None:
    """The server reads our standard input, and its writer sees when the server has left."""
    run = supervise("head", "-n", "1")
    run.say("first\n")
    assert run.output.next() == "first"
    assert run.end() == 0


def test_input_closed_by_server(supervise_python: Any) -> None:
    """A writer to our standard input meets a broken pipe as soon as the server has closed it."""
    run = supervise_python("import os, signal\nos.close(0)\nprint('closed')\nsignal.pause()")
    run.output.until("closed")
    run.heard.until("heard server")
    with pytest.raises(BrokenPipeError):
        os.write(run.process.stdin.fileno(), b"anybody?")
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


def seen_by(command: list[str], **how: Any) -> bytes:
    return bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE, **how).stdout)


def test_descriptors(supervise_python: Any, tmp_path: Path) -> None:
    """The server has the descriptors that it would have without us; the supervisor and the master let go of them."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    program = "import os\nprint(sorted(os.listdir('/proc/self/fd')))\ninput()"
    run = supervise_python(program, pass_fds=[lock])
    alone = seen_by([sys.executable, "-u", "-c", program], input=b"\n", pass_fds=[lock])
    assert run.output.next().encode() + b"\n" == alone
    run.heard.until("heard server")
    holders = [pid for pid in run.members() if Path(f"/proc/{pid}/fd/{lock}").exists()]
    assert [os.readlink(f"/proc/{pid}/fd/{lock}") for pid in holders].count(str(tmp_path / "lock")) == 1
    os.close(lock)
    run.say("\n")
    assert run.end() == 0


def test_way_into_a_file(tmp_path: Path) -> None:
    """Into a file leads one more pipe, whose content is unread output; not into one that is set to append."""
    with (tmp_path / "log").open("ab") as log:
        assert streams.transit_to(log.fileno()) is None
    with (tmp_path / "log").open("wb") as log:
        transit = streams.transit_to(log.fileno())
    assert transit is not None
    source, end = os.pipe()
    stream = Stream("stdout", source, -1, -1, terminal=False, transit=transit)
    assert not stream.is_unread()
    os.write(transit[1], b"x")
    assert stream.is_unread()
    for fd in (*transit, source, end):
        os.close(fd)
