"""Masters come and go; the output flows."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from alarm_mw.supervisor.carriers.master_pool import TOO_MANY, Connections, pause


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def test_drop(pipe: tuple[int, int]) -> None:
    """A dropped connection is closed."""
    connections = Connections()
    connections.keep("a", pipe[1])
    assert connections.held == {"a": pipe[1]}
    connections.drop("a")
    connections.drop("a")
    assert connections.held == {}
    assert os.read(pipe[0], 1) == b""


def test_same_token(pipe: tuple[int, int]) -> None:
    """A token that comes again stands for the new connection; the old one is closed."""
    connections = Connections()
    connections.keep("a", pipe[1])
    again, other = os.pipe()
    connections.keep("a", other)
    assert os.read(pipe[0], 1) == b""
    assert connections.held == {"a": other}
    connections.drop("a")
    os.close(again)


def test_limit(pipe: tuple[int, int]) -> None:
    """Workers cannot use up the supervisor's descriptors."""
    connections = Connections()
    connections.limit = 0
    connections.keep("a", pipe[1])
    assert connections.held == {}
    assert os.read(pipe[0], 1) == b""


# Writes a batch of numbered lines for each line of its input.
BATCHES = """
import sys
n = 0
for line in sys.stdin:
    sys.stdout.write("".join(f"{i} {'x' * 80}\\n" for i in range(n, n + 3000)))
    sys.stdout.flush()
    n += 3000
"""


def master_of(run: Any) -> int:
    return int(run.heard.until("master").split()[1])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def worker_of(run: Any) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker:
        worker.connect(str(run.socket))
        yield worker


def test_descriptors_for_masters(supervise: Any) -> None:
    """What a plan says masters need reaches each of them under its number, and the server as it would without us."""
    reading, writing = os.pipe()
    handed = f"handed {reading} {os.fstat(reading).st_ino}"
    command = ["sh", "-c", f"readlink /proc/self/fd/{reading}; read line"]
    run = supervise(*command, settings={"master_fds": [reading]}, pass_fds=[reading])
    os.close(reading)
    assert run.output.next() == f"pipe:[{handed.split()[2]}]"
    master = master_of(run)
    assert run.heard.until("handed") == handed
    kill(master)
    assert run.heard.until("handed") == handed
    run.say("\n")
    assert run.end() == 0
    os.close(writing)


def test_descriptors_for_the_server_alone(supervise_python: Any) -> None:
    """What masters do not need is the server's alone: its end is the end of it."""
    reading, writing = os.pipe()
    run = supervise_python(f"import os; os.close({writing}); print('closed'); input()", pass_fds=[writing])
    os.close(writing)
    assert run.output.next() == "closed"
    assert run.heard.until("heard server")
    assert os.read(reading, 1) == b""
    run.say("\n")
    assert run.end() == 0
    os.close(reading)


def test_pauses() -> None:
    """The pause doubles with each failure in a row, up to five seconds."""
    assert [pause(failures) for failures in range(1, TOO_MANY + 2)] == [0.1, 0.2, 0.4, 0.8, 5.0, 5.0]


def test_masters_killed(supervise_python: Any) -> None:
    """Killing one master after the other while output passes loses no line and repeats none."""
    run = supervise_python(BATCHES)
    numbers = []
    for batch in range(5):
        run.say("more\n")
        numbers.append(int(run.output.next().split()[0]))
        kill(master_of(run))
        numbers.extend(int(run.output.next().split()[0]) for _ in range(2999))
        assert numbers[-1] == 3000 * (batch + 1) - 1
    run.process.stdin.close()
    assert run.end() == 0
    assert numbers == list(range(15000))


def test_killing_is_no_failure(supervise: Any) -> None:
    """Masters that are killed right after their start are replaced at once, again and again."""
    run = supervise("sh", "-c", "read line")
    for _ in range(3 * TOO_MANY):
        kill(master_of(run))
    master_of(run)
    run.say("\n")
    assert run.end() == 0


def test_the_next_master_knows_how_the_last_one_ended(supervise: Any) -> None:
    """Each master is told how many there were before it, and what became of the last."""
    run = supervise("sh", "-c", "read line", settings={"habit": "knows"})
    for number in range(2):
        pid = master_of(run)
        said = run.heard.until("replaced")
        assert said.split()[:2] == ["replaced", str(number)]
        kill(pid)
    master_of(run)
    assert run.heard.until("replaced").strip() == f"replaced 2 process {pid} was ended by SIGKILL"
    run.say("\n")
    assert run.end() == 0


def test_next_master_hears_the_news(supervise: Any) -> None:
    """A new master is told of the server, and of the streams only those that have not ended."""
    run = supervise("sh", "-c", "exec >&-; echo up >&2; read line")
    errors = run.errors()
    errors.until("up")
    first = master_of(run)
    server = run.heard.until("heard server")
    assert run.process.stdout.read() == b""
    kill(first)
    assert run.heard.until("master").split()[2:] == ["stderr"]
    assert run.heard.next() == server
    run.say("\n")
    assert run.heard.until("heard exited") == "heard exited 0"
    assert run.end() == 0


def test_connections_outlive_a_master(supervise: Any) -> None:
    """Records that wait in a worker's connection reach the next master, and the connection stays the same."""
    run = supervise("sh", "-c", "read line")
    first = master_of(run)
    with worker_of(run) as worker:
        worker.send(b"one")
        run.heard.until("record one")
        for record in (b"die", b"two", b"three"):
            worker.send(record)
        assert master_of(run) != first
        assert run.heard.next().startswith("inherited")
        run.heard.until("record two")
        run.heard.until("record three")
    os.kill(run.process.pid, 0)
    run.say("\n")
    assert run.end() == 0


def test_ended_connections_are_forgotten(supervise: Any) -> None:
    """A connection that a worker has closed is not handed to the next master."""
    run = supervise("sh", "-c", "read line")
    first = master_of(run)
    with worker_of(run) as worker:
        worker.send(b"one")
        run.heard.until("record one")
    with worker_of(run) as worker:
        worker.send(b"two")  # the first one's end was seen before this
        run.heard.until("record two")
        kill(first)
        master_of(run)
        assert run.heard.next().startswith("inherited")
        assert run.heard.next().startswith("heard server")
    run.say("\n")
    assert run.end() == 0


def test_relay(supervise_python: Any) -> None:
    """When masters keep dying, output passes without them; a master that works again takes over."""
    run = supervise_python(BATCHES, settings={"is_dying": True})
    errors = run.errors()
    assert "alarm-mw: WARNING: the alarm master keeps dying" in errors.next()
    run.say("more\n")
    for number in range(3000):
        assert run.output.next().split()[0] == str(number)
    run.dies_while.unlink()
    first = master_of(run)
    run.heard.until("heard unjudged stdout 3000")
    kill(first)  # before it has written that down
    second = master_of(run)
    run.heard.until("heard unjudged stdout 3000")
    with worker_of(run) as worker:
        worker.send(b"tell counted stdout 3000")
        run.heard.until("record tell")
        kill(second)
        master_of(run)
    run.say("more\n")
    for number in range(3000, 6000):
        assert run.output.next().split()[0] == str(number)
    run.process.stdin.close()
    while not (heard := run.heard.next()).startswith("heard exited"):
        assert "unjudged" not in heard
    assert run.end() == 0
    assert run.process.stderr.read() == b"", "the complaint came more than once"


def test_no_room_for_masters_nor_a_relay(supervise_python: Any) -> None:
    """While neither can be started the server lives on, and its output flows as soon as there is room again."""
    run = supervise_python(BATCHES)
    master = master_of(run)
    limits = resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    kill(master)
    assert "alarm-mw: WARNING: the alarm master keeps dying" in run.errors().next()
    run.say("more\n")
    resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, limits)
    for number in range(3000):
        assert run.output.next().split()[0] == str(number)
    run.process.stdin.close()
    assert run.end() == 0


def test_relay_until_the_end(supervise: Any) -> None:
    """A server that ends while there is no master ends as it would with one."""
    run = supervise("sh", "-c", "read line; yes | head -c 300000; exit 3", settings={"is_dying": True})
    run.errors().next()
    run.say("\n")
    assert run.process.stdout.read() == b"y\n" * 150000
    assert run.end() == 3


def test_relay_and_broken_pipe(supervise: Any) -> None:
    """Without a master, too, the server meets the broken pipe when the reader of the output leaves."""
    reading, writing = os.pipe()
    run = supervise("yes", settings={"is_dying": True}, stdout=writing)
    os.close(writing)
    run.errors().next()
    assert os.read(reading, 2) == b"y\n"
    os.close(reading)
    assert run.end() == -signal.SIGPIPE


def test_relay_outlives_supervisor(supervise_python: Any) -> None:
    """A relay whose supervisor was killed passes the server's last words on and ends."""
    run = supervise_python(
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {15})\n"
        "input()\n"
        "print('carried')\n"
        "signal.sigwait({15}) and sys.exit(print('last words'))",
        settings={"is_dying": True},
    )
    run.errors().next()
    run.say("\n")
    run.output.until("carried")
    run.send(signal.SIGKILL)
    assert run.results()[0] == b"last words\n"
    run.wait_until_all_are_gone()


@pytest.mark.parametrize("command", ["exec true", "exec >&- 2>&-; read line; exit 0"])
def test_silent_master(supervise: Any, command: str) -> None:
    """A master that does not end when it is told to is killed after its time."""
    run = supervise("sh", "-c", command, settings={"habit": "silent", "shutdown_timeout": 0.0})
    run.process.stdin.close()
    run.heard.until("heard stop")
    assert run.end() == 0


def test_silent_master_and_an_heir(supervise_python: Any) -> None:
    """A master that does not end is killed after its time, too, when the server has left a process behind."""
    run = supervise_python(
        "import os\nif os.fork(): os._exit(3)\nos.close(1); os.close(2)\nos.read(0, 1)",
        settings={"habit": "silent", "shutdown_timeout": 0.0},
    )
    run.heard.until("heard stop")
    assert run.end() == 3
    run.process.stdin.close()


def test_master_is_started_for_the_end(supervise: Any) -> None:
    """A master that died just before the end is replaced, so that what it left is delivered."""
    run = supervise("sh", "-c", "exec >&- 2>&-; read line; exit 0")
    first = master_of(run)
    assert run.process.stdout.read() == b""
    kill(first)
    run.process.stdin.close()
    run.heard.until("heard exited 0")
    run.heard.until("heard stop")
    assert run.end() == 0


def test_last_master_killed(supervise: Any) -> None:
    """A master that is killed while it delivers at the end is replaced, too."""
    run = supervise("true", settings={"habit": "silent", "shutdown_timeout": 3.0})
    first = master_of(run)
    run.heard.until("heard stop")
    kill(first)
    second = master_of(run)
    run.heard.until("heard stop")
    kill(second)
    for _ in range(3):
        another = master_of(run)
        run.heard.until("heard stop")
        kill(another)
    assert run.end() == 0


def test_output_outlives_a_master_that_hangs(supervise: Any) -> None:
    """When the master hangs at the end, another one passes on what is left of the output."""
    server = "trap '' TERM; echo first; read line; echo last words"
    run = supervise("sh", "-c", server, settings={"shutdown_timeout": 0.0})
    run.output.until("first")
    hanging = master_of(run)
    os.kill(hanging, signal.SIGSTOP)
    run.say("\n")
    run.send(signal.SIGTERM)  # else the end would wait for a reader of the output
    run.output.until("last words")
    run.end()


def test_a_reload_without_a_master_is_done_by_the_next(supervise_python: Any) -> None:
    """SIGHUP while output passes without alarms is not lost: the next master is told when it is ready."""
    run = supervise_python(
        f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{BATCHES}", settings={"is_dying": True}
    )
    assert "alarm-mw: WARNING: the alarm master keeps dying" in run.errors().next()
    run.say("more\n")
    assert run.output.next()
    run.process.send_signal(signal.SIGHUP)
    run.say("more\n")
    for _ in range(5999):
        assert run.output.next()
    run.dies_while.unlink()
    master_of(run)
    assert run.heard.until("heard reload")
    run.process.stdin.close()
    assert run.end() == 0
