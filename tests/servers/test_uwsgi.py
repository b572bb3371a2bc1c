"""The API inside a real uWSGI: with uWSGI's own master, and under ``alarm-mw run``."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

#: The one that uWSGI's plugin from Debian is built with.
SYSTEM_PYTHON = "/usr/bin/python3"

APP = """
import logging, os, sys
import alarm_mw
from alarm_mw.wsgi import UploadCheck

log = logging.getLogger("shop")
log.addHandler(alarm_mw.AlarmHandler())
log.propagate = False
alarm_mw.alarm("a", "from the import")

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    number = environ["QUERY_STRING"]
    if environ["PATH_INFO"] == "/alarm":
        alarm_mw.alarm("a", f"directly {number} \\udcff")
    elif environ["PATH_INFO"] == "/log":
        log.error("TERRIBLE ALARM logged %s", number)
        log.handlers[0].handle(logging.makeLogRecord({"name": "alarm_mw.x", "msg": "TERRIBLE ALARM of our own"}))
    elif environ["PATH_INFO"] == "/bytes":
        alarm_mw.alarm("a", b"caf\\xe9 \\x00 \\xff " + number.encode())
    elif environ["PATH_INFO"] == "/long":
        alarm_mw.alarm("a", "L" * 100_000)
    elif environ["PATH_INFO"] == "/both":
        handler = logging.StreamHandler()
        log.addHandler(handler)
        log.error("TERRIBLE ALARM twice %s", number)
        log.removeHandler(handler)
    return [b"ok"]

application = UploadCheck(application)
"""

UWSGI = ("uwsgi", "--plugin", "python3", "--master", "--workers", "2", "--http-socket", "127.0.0.1:0")
ALARMS = ("--alarm", "a cmd:xargs -0 echo >> out", "--log-alarm", "a TERRIBLE ALARM", "--alarm-freq", "0")


def minor_version(python: str) -> list[int]:
    result = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=True)
    return [int(part) for part in result.stdout.split()]


@pytest.fixture(scope="module")
def python_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Provide where uWSGI's own Python finds this package and what it needs."""
    if shutil.which("uwsgi") is None:
        if "CI" in os.environ:
            pytest.fail("uWSGI is not installed: apt-get install uwsgi-core uwsgi-plugin-python3")
        pytest.skip("uWSGI is not installed")
    version = minor_version(SYSTEM_PYTHON)
    if version == list(sys.version_info[:2]):
        return f"{REPOSITORY}:{sysconfig.get_path('purelib')}"
    if version < [3, 11]:
        pytest.skip("uWSGI's Python is older than 3.11")
    place = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "--python", SYSTEM_PYTHON, "install", "-q", "--target", str(place)]
    subprocess.run([*pip, str(REPOSITORY)], check=True)
    return str(place)


class Server:
    """uWSGI with the application, and what its alarms wrote."""

    def __init__(self, directory: Path, log: Path) -> None:
        self._out, self._log = directory / "out", log

    @property
    def address(self) -> str:
        """The address and port that the kernel chose, empty until it is known; uWSGI is up when its workers are."""
        text = self._log.read_text() if self._log.exists() else ""
        if text.count("spawned uWSGI worker") < 2:
            return ""
        return text.partition("bound to TCP address ")[2].partition(" ")[0]

    def get(self, path: str, method: str = "GET") -> None:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request(method, path)
            assert connection.getresponse().read() == b"ok"
        finally:
            connection.close()

    def alarms(self) -> Counter[str]:
        """Return the alarms' messages, without the empty lines between them."""
        text = self._out.read_text("utf-8", "replace") if self._out.exists() else ""
        return Counter(line for line in text.splitlines() if line)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def serving(
    directory: Path, command: Sequence[str], environ: dict[str, str], until: Callable[..., None]
) -> Iterator[Server]:
    (directory / "app.py").write_text(APP)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--wsgi-file", "app.py"], cwd=directory, env=environ, stdout=output, stderr=output
        )
    server = Server(directory, log)
    try:
        until(lambda: server.address or process.poll() is not None, 10)
        assert process.returncode is None, server.log()
        yield server
    finally:
        # uWSGI ends at SIGINT, and by default reloads at SIGTERM.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@pytest.fixture
def environ(python_path: str, installation: Any) -> dict[str, str]:
    return {**installation.environ, "PYTHONPATH": python_path}


def test_everything_goes_to_uwsgis_master(tmp_path: Path, environ: dict[str, str], until: Callable[..., None]) -> None:
    """`alarm`, the handler and the middleware each raise uWSGI's own alarm, through its API and its log."""
    with serving(tmp_path, (*UWSGI, *ALARMS), environ, until) as server:
        server.get("/alarm?1")
        server.get("/log?2")
        server.get("/upload", "POST")
        server.get("/both?3")
        until(lambda: len(server.alarms()) >= 4, 10)
        assert server.alarms() == {
            "directly 1 \ufffd": 1,
            "TERRIBLE ALARM logged 2": 1,
            "TERRIBLE ALARM! An upload has been made!": 1,
            "TERRIBLE ALARM twice 3": 1,
        }
        assert server.log().count("TERRIBLE ALARM twice 3\n") == 1
        assert "of our own" not in server.log()


def test_bytes_stay_what_they_are(tmp_path: Path, environ: dict[str, str], until: Callable[..., None]) -> None:
    """What is no text, and a NUL character, arrive as they are, though uWSGI's own function takes text alone."""
    alarms = ("--alarm", "a cmd:cat >> out", "--alarm-freq", "0")
    with serving(tmp_path, (*UWSGI, *alarms), environ, until) as server:
        server.get("/bytes?1")
        until((tmp_path / "out").exists, 10)
        until((tmp_path / "out").read_bytes, 10)
        assert b"caf\xe9 \x00 \xff 1" in (tmp_path / "out").read_bytes()


def test_a_long_message_is_cut_to_what_uwsgi_takes(
    tmp_path: Path, environ: dict[str, str], until: Callable[..., None]
) -> None:
    """A message longer than uWSGI's buffer arrives cut, and the next one arrives."""
    with serving(tmp_path, (*UWSGI, *ALARMS), environ, until) as server:
        server.get("/long")
        server.get("/alarm?after")
        until(lambda: len(server.alarms()) >= 2, 10)
        (long,) = (message for message in server.alarms() if message.startswith("L"))
        assert 8000 < len(long) <= 8192
        assert set(long) == {"L"}


def test_lines_can_fire_an_alarm_instead_of_being_printed(
    tmp_path: Path, environ: dict[str, str], until: Callable[..., None]
) -> None:
    """With ``ALARM_MW_UWSGI_ALARM`` a line fires that alarm past uWSGI's rules, and is not printed."""
    command = (*UWSGI, "--alarm", "a cmd:xargs -0 echo >> out", "--env", "ALARM_MW_UWSGI_ALARM=a")
    with serving(tmp_path, command, environ, until) as server:
        server.get("/log?1")
        until(server.alarms, 10)
        assert server.alarms() == {"TERRIBLE ALARM logged 1": 1}
        assert "TERRIBLE ALARM logged" not in server.log()


def test_uwsgi_as_the_server_under_run(
    tmp_path: Path, installation: Any, environ: dict[str, str], until: Callable[..., None]
) -> None:
    """Of two workers that uWSGI forked after the application was loaded, every alarm arrives once."""
    command = installation.run_command(ALARMS, *UWSGI)
    with serving(tmp_path, command, environ, until) as server:
        expected = {"from the import": 1, "TERRIBLE ALARM! An upload has been made!": 1}
        for number in range(100):
            server.get(f"/alarm?{number}")
            server.get(f"/log?{number}")
            expected |= {f"directly {number} \ufffd": 1, f"TERRIBLE ALARM logged {number}": 1}
        server.get("/upload", "POST")
        until(lambda: len(server.alarms()) >= len(expected), 20)
        assert server.alarms() == expected
        assert installation.status()["imbalances"] == []
