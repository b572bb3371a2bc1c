"""gunicorn with four workers under ``alarm-mw run``."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ports import answers, free_port
from webhook import Webhook, serving

REQUESTS = 2_500

APP = """
import logging
import alarm_mw

logging.basicConfig(handlers=[alarm_mw.AlarmHandler()])

def app(environ, start_response):
    number = environ["QUERY_STRING"]
    print(f"TERRIBLE ALARM printed {number}")
    logging.error("TERRIBLE ALARM logged %s", number)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Sink(Webhook):
    """A web hook that counts the bodies it gets."""

    def __init__(self) -> None:
        self.bodies: Counter[bytes] = Counter()
        super().__init__(lambda _, body: self.bodies.update([body]))


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    with serving(server):
        yield server


def request(port: int, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/?{number}")
    assert connection.getresponse().read() == b"ok"
    connection.close()


def test_every_line_of_every_worker_arrives_once(installation: Any, until: Callable[..., None], sink: Sink) -> None:
    """2,500 requests print one alarm line and log another: all 5,000 arrive once, and the ledger balances."""
    (installation.directory / "app.py").write_text(APP)
    port = free_port()
    options = ("--alarm", f"hook curl:{sink.url}", "--log-alarm", "hook ^TERRIBLE ALARM")
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    with (installation.directory / "printed").open("wb") as printed:
        process = installation.start(
            options, gunicorn, "-w", "4", "-b", f"127.0.0.1:{port}", "app:app", stdout=printed, stderr=subprocess.STDOUT
        )
        until(lambda: answers(port))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: request(port, number), range(REQUESTS)))
        until(lambda: sum(sink.bodies.values()) >= 2 * REQUESTS)
        until(lambda: installation.status()["alarms"]["hook"]["waiting"] == 0)
        status = installation.status()
        process.terminate()
        assert process.wait(60) == 0
    expected = {f"TERRIBLE ALARM {way} {n}\n".encode() for way in ("printed", "logged") for n in range(REQUESTS)}
    assert set(sink.bodies) == expected
    assert set(sink.bodies.values()) == {1}
    assert status["imbalances"] == []
    assert status["sources"]["logging"]["matched"] == REQUESTS
    lines = (installation.directory / "printed").read_text().splitlines()
    assert sum(line.startswith("TERRIBLE ALARM printed") for line in lines) == REQUESTS
