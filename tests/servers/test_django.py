"""Django with ``alarm_mw.django`` among its applications, in its servers."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.transports.own_requests import HEADER, mark

BIN = Path(sys.executable).parent

SITE = """
import logging
import os

from django.http import HttpResponse
from django.urls import path

ALLOWED_HOSTS = ["*"]
ALARM_MW = {
    "alarms": {"a": "cmd:cat >> out.txt"},
    "log_alarms": ["a ^ERROR shop:", "a ^Unhandled exception"],
    "alarm_freq": 0,
}
DEBUG = False
INSTALLED_APPS = ["alarm_mw.django"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"alarms": {"class": "alarm_mw.AlarmHandler", "formatter": "line"}},
    "loggers": {"shop": {"handlers": ["alarms"]}},
}
ROOT_URLCONF = "shop"
SECRET_KEY = "x"

print("loaded", os.getpid(), flush=True)

def log(request):
    logging.getLogger("shop").error("order %s", request.GET["n"])
    return HttpResponse(str(os.getpid()))

def explode(request):
    raise ValueError("boom")

async def explode_later(request):
    raise KeyError("later")

urlpatterns = [path("log", log), path("explode", explode), path("later", explode_later)]
"""

SERVED = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "shop"
from django.core.{kind} import get_{kind}_application
application = get_{kind}_application()
"""


@pytest.fixture
def site(installation: Any) -> Path:
    folder: Path = installation.directory
    (folder / "shop.py").write_text(SITE)
    for kind in ("wsgi", "asgi"):
        (folder / f"{kind}.py").write_text(SERVED.format(kind=kind))
    return folder


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def started(installation: Any, *command: str, end: signal.Signals = signal.SIGTERM) -> Iterator[Any]:
    environ = {**installation.environ, "DJANGO_SETTINGS_MODULE": "shop", "PYTHONPATH": str(installation.directory)}
    with (installation.directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=installation.directory, env=environ, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
            process.send_signal(end)
            process.wait(60)
        finally:
            process.kill()
            process.wait(60)


def get(port: int, path: str, **headers: str) -> str | None:
    """Return what is answered; None where nothing is, and the status where it is an error."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # as above
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        error.close()
        return str(error.code)
    except OSError:
        return None


def fired(site: Path) -> list[str]:
    """Return the first line of each alarm, and the lines that say which exception it was."""
    out = site / "out.txt"
    lines = out.read_text().splitlines() if out.exists() else []
    return [line for line in lines if re.match(r"ERROR|Unhandled| +\w+Error: ", line)]


def test_each_worker_of_gunicorn_delivers_its_own(
    installation: Any, site: Path, port: int, until: Callable[..., None]
) -> None:
    """Loaded before the fork, without a master: logs and exceptions of every worker fire, the latter with traceback."""
    options = ("--preload", "--workers", "2", "--no-control-socket", "--bind", f"127.0.0.1:{port}")
    with started(installation, str(BIN / "gunicorn"), *options, "wsgi") as gunicorn:
        until(lambda: get(port, "log?n=0"))
        first = get(port, "log?n=1")
        until(lambda: get(port, "log?n=2") != first)
        assert "Threads:\t1\n" in Path(f"/proc/{gunicorn.pid}/status").read_text()
        assert get(port, "explode") == "500"
        until(lambda: "  ValueError: boom" in fired(site))
    assert {"ERROR shop: order 0", "ERROR shop: order 1", "ERROR shop: order 2"} < set(fired(site))
    assert fired(site).count("Unhandled exception in GET /explode: ValueError: boom") == 1
    assert "raise ValueError" in (site / "out.txt").read_text()
    assert (site / "log").read_text().count("loaded") == 1


def test_under_a_master_nothing_of_its_own_is_started(
    installation: Any, site: Path, port: int, until: Callable[..., None]
) -> None:
    """With uvicorn and an asynchronous view: the master's rules count, not those of the setting."""
    rules = ("--alarm", "m cmd:cat >> master.txt", "--log-alarm", "m ^(ERROR shop|Unhandled exception)")
    server = (str(BIN / "uvicorn"), "--port", str(port), "asgi:application")
    with started(installation, *installation.run_command(rules, *server)):
        until(lambda: get(port, "log?n=0"))
        assert get(port, "later") == "500"
        assert (
            get(port, "explode", **{HEADER: mark("an alarm of ours", "GET", f"127.0.0.1:{port}", b"/explode")}) == "500"
        )
        assert get(port, "explode") == "500"
        until(lambda: (site / "master.txt").exists() and "ValueError: boom" in (site / "master.txt").read_text())
        until(lambda: installation.status()["alarms"]["m"]["waiting"] == 0)
        status = installation.status()
    lines = (site / "master.txt").read_text().splitlines()
    assert lines.count("Unhandled exception in GET /later: KeyError: 'later'") == 1
    assert lines.count("  KeyError: 'later'") == 1
    assert lines.count("Unhandled exception in GET /explode: ValueError: boom") == 1
    assert status["sources"]["django"]["matched"] == 2
    assert status["sources"]["django"]["skipped"] == {"alarm_origin": 1}
    assert status["imbalances"] == []
    assert not (site / "out.txt").exists()


def test_runserver_has_alarms_once(installation: Any, site: Path, port: int, until: Callable[..., None]) -> None:
    """Of its two processes the one that serves has alarms, and the next one after a change."""
    command = (sys.executable, "-m", "django", "runserver", f"127.0.0.1:{port}")
    with started(installation, *command, end=signal.SIGINT):
        until(lambda: get(port, "log?n=0"))
        (first,) = {get(port, "log?n=1")}
        (site / "shop.py").write_text(SITE.replace("order %s", "changed order %s"))
        until(lambda: get(port, "log?n=2") not in {first, None})
        get(port, "log?n=3")
        until(lambda: "ERROR shop: changed order 3" in fired(site))
    for line in ("ERROR shop: order 1", "ERROR shop: changed order 3"):
        assert fired(site).count(line) == 1
