"""The middleware in a real server: gunicorn under ``alarm-mw run``, whose worker is killed for a request that hangs."""

from __future__ import annotations

import http.client
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

APP = """
import logging
import time
import alarm_mw
from alarm_mw.requests import unfinished_after, unhandled_exception
from alarm_mw.wsgi import AlarmMiddleware

logging.basicConfig(level=logging.INFO, handlers=[alarm_mw.AlarmHandler()])

def shop(environ, start_response):
    logging.info("serving %s", environ["PATH_INFO"])
    if environ["PATH_INFO"] == "/hang":
        time.sleep(60)
    if environ["PATH_INFO"] == "/fail":
        raise LookupError("no such order")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

app = AlarmMiddleware(shop, [unhandled_exception, unfinished_after(0.5)], last_lines=5)
"""

RULES = ["^Request has not ended", "WORKER TIMEOUT", "^Unhandled exception"]


@pytest.fixture
def port(installation: Any, until: Callable[..., None]) -> Iterator[int]:
    """Run the app in one sync worker that is killed after two seconds without a sign of life."""
    (installation.directory / "app.py").write_text(APP)
    options = ["--alarm", "file cmd:cat >> told.txt", *(f"--log-alarm=file {rule}" for rule in RULES)]
    port = free_port()
    arguments = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--timeout", "2", "--graceful-timeout", "1"]
    with (installation.directory / "server.log").open("wb") as log:
        server = installation.start(
            options, sys.executable, "-m", "gunicorn", *arguments, "app:app", stdout=log, stderr=log
        )
        until(lambda: answers(port))
        yield port
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def answers(port: int) -> bool:
    try:
        return get(port, "/ok") == 200
    except OSError:
        return False


def get(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_what_happens_to_requests_is_told_in_time(installation: Any, port: int, until: Callable[..., None]) -> None:
    """A failure comes with its traceback and its lines; a request that hangs is told before its worker is killed."""
    told = Path(installation.directory, "told.txt")

    def text() -> str:
        return told.read_text() if told.exists() else ""

    assert get(port, "/fail") == 500
    until(lambda: "serving /fail" in text())
    line, *below = text().splitlines()
    assert line == "Unhandled exception in GET /fail: LookupError: no such order"
    assert any('raise LookupError("no such order")' in each for each in below)
    assert below[-1] == "serving /fail"

    with suppress(http.client.HTTPException, OSError):
        get(port, "/hang")
    until(lambda: "WORKER TIMEOUT" in text())
    after = text().removeprefix("\n".join([line, *below, ""]))
    hangs = "Request has not ended: GET /hang is still running after 0.5 s\nserving /hang\n"
    assert after.startswith(hangs)
    assert after.count("Request has not ended") == 1
    until(lambda: answers(port))
