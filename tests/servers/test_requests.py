"""Rules on requests under ``alarm-mw run``: one configuration, a WSGI and an ASGI server."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ports import answers, free_port

CONFIGURATION = """
alarm_freq = 0.0

[alarms]
uploads = "cmd:cat >> uploads.txt; echo >> uploads.txt"
slow = "cmd:cat >> slow.txt; echo >> slow.txt"
errors = "cmd:cat >> errors.txt; echo >> errors.txt"
thrice = "cmd:cat >> thrice.txt; echo >> thrice.txt"
bots = "cmd:cat >> bots.txt; echo >> bots.txt"
logged = "cmd:cat >> logged.txt; echo >> logged.txt"

[[rules]]
alarms = "uploads"
request = { method = "POST", path = "^/upload$", client = "127.0.0.0/8" }

[[rules]]
alarms = "slow"
request = { slower_than = "2s" }

[[rules]]
alarms = "errors"
request = { status = "5xx", path = "^/broken" }

[[rules]]
alarms = "thrice"
count = 3
within = "1m"
request = { exception = "^LookupError$" }

[[rules]]
alarms = "bots"
request = { headers = { user-agent = "^bot/" }, response_larger_than = 1 }

[[rules]]
alarms = "logged"
request = { status = 503, access_log = true }
"""

APP = """
import asyncio
import os
import time

import alarm_mw.asgi
import alarm_mw.wsgi

STATUS = {"/broken": 503}
SECONDS = {"/slow": 2.2, "/raise": 0.5}

class Gone(KeyError):
    pass

def act(path):
    if path == "/raise":
        with open("pids.txt", "a") as pids:
            pids.write(f"{os.getpid()}\\n")
        raise Gone(path)
    return STATUS.get(path, 200)

def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    time.sleep(SECONDS.get(path, 0))
    start_response(f"{act(path)} Something", [("Content-Length", "2")])
    return [b"ok"]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await asyncio.sleep(SECONDS.get(scope["path"], 0))
    status = act(scope["path"])
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

wsgi = alarm_mw.wsgi.AlarmMiddleware(wsgi)
asgi = alarm_mw.asgi.AlarmMiddleware(asgi)
"""

SERVERS: Mapping[str, tuple[str, ...]] = {
    "gunicorn": ("gunicorn", "-w", "2", "--access-logfile", "-", "app:wsgi", "-b", "127.0.0.1:{port}"),
    "uvicorn": ("uvicorn", "app:asgi", "--lifespan", "off", "--port", "{port}"),
}


def request(port: int, method: str, path: str, agent: str = "test") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"User-Agent": agent, "Connection": "close"})
        return connection.getresponse().status


#: How each alarm's only message begins.
EXPECTED = {
    "uploads": "Request: POST /upload was answered with 200",
    "slow": "Slow request: GET /slow took more than 2 s",
    "errors": "Server error 503 in GET /broken",
    "thrice": "Unhandled exception in GET /raise: app.Gone: '/raise'",
    "bots": "Request: GET / was answered with 200",
}


@pytest.mark.parametrize("server", SERVERS)
def test_each_rule_fires_for_its_requests(server: str, installation: Any, until: Callable[..., None]) -> None:
    """Each rule fires once, for its own requests: also a third exception in two workers, and a line of a log."""
    place = installation.directory
    (place / "app.py").write_text(APP)
    (place / "alarms.toml").write_text(CONFIGURATION)
    port = free_port()
    name, *arguments = (word.format(port=port) for word in SERVERS[server])
    command = str(Path(sys.executable).with_name(name))
    process = installation.start(("--config", "alarms.toml"), command, *arguments, stdout=subprocess.DEVNULL)
    try:
        until(lambda: answers(port))
        for method, path in [
            ("GET", "/"),
            ("POST", "/upload"),
            ("GET", "/upload"),
            ("GET", "/broken"),
            ("GET", "/slow"),
        ]:
            request(port, method, path)
        request(port, "GET", "/", "bot/1.0")
        with ThreadPoolExecutor(3) as pool:  # so that both workers have one
            assert list(pool.map(lambda _: request(port, "GET", "/raise"), range(3))) == [500] * 3
        until(lambda: all((place / f"{alarm}.txt").exists() for alarm in [*EXPECTED, "logged"]))
    finally:
        process.terminate()
        process.wait(60)
    fired = {alarm: (place / f"{alarm}.txt").read_text() for alarm in [*EXPECTED, "logged"]}
    assert {alarm: fired[alarm].strip().split("\n  Traceback")[0] for alarm in EXPECTED} == EXPECTED
    assert fired["logged"].count(' HTTP/1.1" ') == fired["logged"].count('"GET /broken HTTP/1.1" 503') == 1
    assert fired["thrice"].count(EXPECTED["thrice"]) == 1
    assert len(set((place / "pids.txt").read_text().split())) == (2 if server == "gunicorn" else 1)
