"""`alarm_mw.metrics`, in a program of its own, as users write it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alarm_mw.transports.remote import MAX_UNSENT, RemoteClient
from alarm_mw.transports.wire import MAX_PACKET, MetricChange, decode


def run(directory: Path, program: str) -> list[str]:
    """Run a program in which there is a configuration with the alarm `a`; return its lines."""
    begin = "import alarm_mw\nfrom alarm_mw import metrics\nalarm_mw.init('alarms.toml')\n"
    (directory / "alarms.toml").write_text(
        'alarms.a = "cmd:cat >> out.txt"\n'
        '[[monitors]]\nmonitor = "metric"\nalarms = "a"\nkey = "logins"\nvalue = 3\nmsg = "{value}"\ninterval = 0.01\n'
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + program],
        cwd=directory,
        capture_output=True,
        timeout=60,
        check=True,
        encoding="utf-8",
    )
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_counting_in_process(tmp_path: Path) -> None:
    """What was changed is there at once, whatever the change."""
    program = (
        "metrics.inc('a'); metrics.inc('a', 4); metrics.dec('a', 2); print(metrics.get('a'))\n"
        "metrics.set('a', 10); metrics.dec('a'); print(metrics.get('a'), metrics.get('b'))\n"
    )
    assert run(tmp_path, program) == ["3", "9 0"]


def test_a_metric_raises_an_alarm(tmp_path: Path) -> None:
    """A metric that reaches its value fires the alarm."""
    program = (
        "import pathlib, threading\n"
        "metrics.inc('logins', 3)\n"
        "out, pause = pathlib.Path('out.txt'), threading.Event()\n"
        "for _ in range(1000):\n"
        "    if out.exists() and out.read_text(): break\n"
        "    pause.wait(0.01)\n"
    )
    assert run(tmp_path, program) == []
    assert (tmp_path / "out.txt").read_text() == "3"


@pytest.mark.parametrize(
    "call",
    ["inc('a', 1.5)", "inc('a', 2**63)", "set('a', 'x')", "inc('two words')", "inc('')", "inc('a' * 201)", "inc(3)"],
)
def test_what_cannot_be_counted_is_not_taken(tmp_path: Path, call: str) -> None:
    """Nothing is raised where an application counts nonsense: the answer says that it was not taken."""
    assert run(tmp_path, f"print(metrics.{call}, metrics.get('a'))") == ["False 0"]


def test_without_a_master(tmp_path: Path) -> None:
    """Where nobody counts, a change is not taken, and asking says what is missing."""
    program = (
        "from alarm_mw import metrics, errors\n"
        "print(metrics.inc('a'))\n"
        "try: metrics.get('a')\n"
        "except errors.NotRunningError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    lines = result.stdout.decode().splitlines()
    assert lines[0] == "False"
    assert "alarm-mw run" in lines[1]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RemoteClient]:
    made = RemoteClient(str(tmp_path / "alarm.sock"))
    yield made
    made.shutdown(0.0)


def receive(listener: socket.socket, count: int) -> list[MetricChange]:
    """Return the first `count` changes of a new connection, which come in packets that a master takes."""
    changes: list[MetricChange] = []
    with listener, listener.accept()[0] as connection:
        connection.settimeout(10.0)
        connection.recv(MAX_PACKET)  # says whose they are
        while len(changes) < count:
            packet = decode(connection.recv(MAX_PACKET))
            assert packet is not None
            changes += packet.metrics
    return changes


def listen(directory: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(directory / "alarm.sock"))
    listener.listen()
    listener.settimeout(10.0)
    return listener


@pytest.mark.usefixtures("reconnects_at_once")
def test_changes_wait_for_a_master(client: RemoteClient, tmp_path: Path) -> None:
    """What no master could take goes with the next change, in its order."""
    changes = [MetricChange("a", 1), MetricChange("a", 5, adds=False), MetricChange("b", 2)]
    assert all(map(client.change_metric, changes[:2]))
    listener = listen(tmp_path)
    assert client.change_metric(changes[2])
    assert receive(listener, 3) == changes


@pytest.mark.usefixtures("reconnects_at_once")
def test_whatever_waits_fits_into_packets(client: RemoteClient, tmp_path: Path) -> None:
    """Changes of the longest names arrive, too, as many as wait."""
    changes = [MetricChange(f"{n:0200}", 2**62) for n in range(MAX_UNSENT)]
    assert all(map(client.change_metric, changes[:-1]))
    listener = listen(tmp_path)
    assert client.change_metric(changes[-1])
    assert receive(listener, MAX_UNSENT) == changes


def test_what_waits_has_a_limit(client: RemoteClient) -> None:
    """Without a master memory does not grow: past the limit changes are not taken."""
    taken = [client.change_metric(MetricChange("a", 1)) for _ in range(MAX_UNSENT + 5)]
    assert taken == [True] * MAX_UNSENT + [False] * 5
