"""gunicorn under load, while its alarms' configuration is exchanged and its masters die."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ports import answers

APP = """
import logging
import alarm_mw

logging.basicConfig(handlers=[alarm_mw.AlarmHandler()])

def app(environ, start_response):
    number = environ["QUERY_STRING"]
    print(f"TERRIBLE printed {number}")
    logging.error("TERRIBLE logged %s", number)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
CONFIGURATIONS = (
    """
[alarms]
{name} = "log:{name}"
[[rules]]
pattern = "^TERRIBLE"
alarms = ["{name}"]
""",
    """
alarm_freq = 5
[alarms]
other = "log:"
{name} = "log:{name}"
[[rules]]
pattern = "nothing that is printed"
alarms = ["other"]
[[rules]]
pattern = "TERRIBLE (printed|logged)"
alarms = ["{name}"]
""",
)
ALARM = re.compile(r"ALARM: (\w+) TERRIBLE (\w+ \d+)$", re.MULTILINE)


class Load:
    """Requests from four clients until it is stopped."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.number = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(4)
        self._clients = [self._pool.submit(self._ask) for _ in range(4)]

    def _ask(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                self.number += 1
                number = self.number
            request(self.port, number)
            self._stopping.wait(0.02)

    def stop(self) -> int:
        """Return how many there were."""
        self._stopping.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()
        return self.number


def request(port: int, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/?{number}")
    assert connection.getresponse().read() == b"ok"
    connection.close()


class Server:
    """gunicorn with two workers, and the command line."""

    def __init__(self, installation: Any) -> None:
        self.installation = installation
        self.folder: Path = installation.directory
        self.config = self.folder / "alarm-mw.toml"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (self.folder / "app.py").write_text(APP)
        self.errors = (self.folder / "errors").open("wb")
        installation.environ["ALARM_MW_WATCHDOG"] = "3"

    def start(self) -> subprocess.Popen[bytes]:
        gunicorn = str(Path(sys.executable).with_name("gunicorn"))
        command = [gunicorn, "-w", "2", "-b", f"127.0.0.1:{self.port}", "app:app"]
        options = ("--config", str(self.config))
        process: subprocess.Popen[bytes] = self.installation.start(
            options, *command, stdout=subprocess.DEVNULL, stderr=self.errors
        )
        return process

    def write(self, kind: int, name: str, extra: str = "") -> None:
        fresh = self.folder / "fresh"
        fresh.write_text(extra + CONFIGURATIONS[kind].format(name=name))
        fresh.replace(self.config)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.installation.command, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.installation.environ,
        )

    def reload(self) -> subprocess.CompletedProcess[str]:
        return self.command("reload", "--state-dir", str(self.installation.state_dir))

    def alarms(self) -> Counter[tuple[str, str]]:
        return Counter(ALARM.findall((self.folder / "errors").read_text()))

    def fires(self, name: str) -> bool:
        """Return whether an alarm of this name was fired and delivered."""
        return any(found == name for found, _ in self.alarms())

    def fired(self) -> int:
        """Return how many alarms were fired."""
        return sum(row["fired"] for row in self.installation.status()["alarms"].values())

    def generation(self) -> int:
        answer = self.installation.status()
        return int(answer["configuration"]["generation"]) if answer else -1


@pytest.fixture
def server(installation: Any) -> Iterator[Server]:
    running = Server(installation)
    yield running
    running.errors.close()


def test_no_line_is_lost_or_told_twice_while_rules_change(server: Server, until: Callable[..., None]) -> None:
    """Ten reloads, a refused one, a killed master, SIGHUP, a stopped master and a changed file, all under load.

    Every line fires the alarm of one configuration, once; what was in force when a master ended is in force with
    the next one.
    """
    server.write(0, "first")
    process = server.start()
    until(lambda: answers(server.port))
    load = Load(server.port)
    until(lambda: server.fires("first"))
    for n in range(1, 11):
        server.write(n % 2, f"r{n}")
        done = server.reload()
        assert (done.returncode, done.stdout) == (0, ("ok: 1 alarm, 1 rule\n", "ok: 2 alarms, 2 rules\n")[n % 2])
        until(lambda name=f"r{n}": server.fires(name))

    good = server.config.read_bytes()
    server.config.write_text("[alarms]\na = 'lgo:'\n[[rules]]\npattern = '('\nalarms = ['b']\n")
    refused = server.reload()
    assert refused.returncode == 2
    assert refused.stdout == server.command("check", str(server.config)).stdout
    assert server.generation() == 10
    server.config.write_bytes(good)

    master = server.installation.status()["pid"]
    os.kill(master, signal.SIGKILL)
    until(lambda: server.installation.status().get("pid", master) != master)
    assert server.generation() == 10

    server.write(1, "hup", extra='reload = "auto"\n')
    process.send_signal(signal.SIGHUP)
    until(lambda: server.fires("hup"))
    master = server.installation.status()["pid"]
    os.kill(master, signal.SIGSTOP)
    until(lambda: server.installation.status().get("pid", master) != master)
    server.write(0, "auto")
    until(lambda: server.fires("auto"))

    requests = load.stop()
    # A printed line may wait for its record before it fires.
    until(lambda: server.fired() >= 2 * requests, 90.0)
    until(lambda: sum(row["waiting"] for row in server.installation.status()["alarms"].values()) == 0, 90.0)
    status = server.installation.status()
    process.terminate()
    assert process.wait(60) == 0
    assert status["imbalances"] == []
    assert status["configuration"]["files"] == {str(server.config): True}
    # A firing whose master is killed while it is delivered is delivered again; it was fired once all the same.
    told = Counter(line for _, line in server.alarms())
    assert set(told) == {f"{way} {n}" for way in ("printed", "logged") for n in range(1, requests + 1)}
    assert set(told.values()) == {1}
    assert sum(row["fired"] for row in status["alarms"].values()) == 2 * requests


def test_what_went_well_is_logged_as_info(installation: Any) -> None:
    """The log of a run shows good news without any setting, and not as a warning: a search for those finds trouble."""
    config = installation.directory / "alarm-mw.toml"
    config.write_text(CONFIGURATIONS[0].format(name="a"))
    process = installation.start(
        ["--config", str(config)],
        "sh",
        "-c",
        "trap '' HUP; echo up; read line",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGHUP)
    assert b" alarm-mw: INFO: the configuration was read again: ok: 1 alarm, 1 rule" in process.stderr.readline()
    _, rest = process.communicate(b"\n", timeout=60)
    assert (process.returncode, rest) == (0, b"")
