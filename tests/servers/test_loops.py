"""Alarms whose own deliveries come back as output, records or requests: each ends, and the ledger says why."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ports import answers, free_port
from webhook import Webhook, serving

from alarm_mw.engine.antiloop import MAX_DEPTH

EVERYTHING = ("--alarm-freq", "0", "--log-alarm", "a .*")

Until = Callable[..., None]


def books(installation: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the ledger's rows of the alarm `a` and of the sources; empty while no master answers."""
    status = installation.status()
    return status.get("alarms", {}).get("a", {}), status.get("sources", {})


def skipped(sources: dict[str, Any], source: str) -> int:
    return int(sources.get(source, {}).get("skipped", {}).get("alarm_origin", 0))


@contextmanager
def running(installation: Any, options: tuple[str, ...], *server: str) -> Iterator[None]:
    """Run a server, and stop it at the end."""
    with (installation.directory / "log").open("wb") as log:
        process = installation.start(options, *server, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("action", ["cmd:cat", "cmd:cat >&2", "cmd:tee /dev/stderr", "log:"])
def test_what_an_action_prints_raises_nothing(installation: Any, until: Until, action: str) -> None:
    """With a rule for everything, two lines raise two alarms, whatever the action prints."""
    server = ("sh", "-c", "echo one; echo two; exec sleep 60")
    with running(installation, (*EVERYTHING, "--alarm", f"a {action}"), *server):
        until(lambda: books(installation)[0].get("delivered") == 2)
        alarm, sources = books(installation)
        assert (alarm["fired"], alarm["waiting"], sources["stdout"]["lines"]) == (2, 0, 2)
    printed = (installation.directory / "log").read_text()
    assert printed.count("one") >= 2  # the action did print


@pytest.mark.parametrize(
    ("command", "frequency", "reason"),
    [("sed 's/^/again: /' >> trail", "0", "loop"), ("cat >> trail", "3600", "same_message")],
)
def test_text_that_comes_back_through_the_server_is_stopped(
    installation: Any, until: Until, command: str, frequency: str, reason: str
) -> None:
    """The alarm's command writes into a file that the server prints: the ledger says what stopped it."""
    (installation.directory / "trail").write_text("TERRIBLE ALARM\n")
    server = ("tail", "-n", "+1", "-f", "trail")
    with running(installation, (*EVERYTHING, "--alarm-freq", frequency, "--alarm", f"a cmd:{command}"), *server):
        until(lambda: books(installation)[0].get("held_back", {}).get(reason))
        until(lambda: books(installation)[0]["waiting"] == 0)
        alarm, _ = books(installation)
        assert alarm["fired"] <= MAX_DEPTH + 1
        assert alarm["held_back"] == {reason: 1}


APP = """
import logging
import alarm_mw
from alarm_mw import asgi, wsgi

log = logging.getLogger("shop")
log.addHandler(alarm_mw.AlarmHandler())
log.propagate = False

def wsgi_app(environ, start_response):
    log.error("a request")
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]

async def asgi_app(scope, receive, send):
    assert scope["type"] == "http"
    log.error("a request")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})

wsgi_app, asgi_app = wsgi.UploadCheck(wsgi_app), asgi.UploadCheck(asgi_app)
"""


def post(port: int, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/upload", headers=headers)
        assert connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("source", "server"),
    [
        ("wsgi", ("gunicorn", "--access-logfile", "-", "--bind", "127.0.0.1:{port}", "app:wsgi_app")),
        ("asgi", ("uvicorn", "--lifespan", "off", "--port", "{port}", "app:asgi_app")),
    ],
)
def test_an_app_whose_requests_raise_requests_to_it(
    installation: Any, until: Until, source: str, server: tuple[str, ...]
) -> None:
    """Middleware, handler and access log see the alarm's own request, and none of them raises another one."""
    (installation.directory / "app.py").write_text(APP)
    port = free_port()
    command = [part.format(port=port) for part in server]
    options = (*EVERYTHING, "--alarm", f"a curl:http://127.0.0.1:{port}/upload;method=POST")
    with running(installation, options, sys.executable, "-m", *command):
        until(lambda: answers(port))

        def is_settled(requests: int) -> bool:
            alarm, sources = books(installation)
            # Of the first request it was not known whose server that is, until it was answered.
            return bool(
                sources.get(source, {}).get("matched") == requests
                and alarm["waiting"] == 0
                and alarm["delivered"] - 1 <= skipped(sources, "stdout")
            )

        post(port, {})
        until(lambda: is_settled(1))
        # A client cannot hide its request: what it cannot sign is no mark.
        post(port, {"Alarm-Mw": "1.a 00000000000000000000000000000000"})
        until(lambda: is_settled(2))
        alarm, sources = books(installation)
        assert alarm["fired"] <= 20  # of each request three lines, what the server says at its start, and one answer
        assert sources[source]["matched"] == sources["logging"]["matched"] == 2
        # What the processes counted came with the second request's records.
        assert skipped(sources, source) > 0
        assert skipped(sources, "logging") > 0
        assert installation.status()["imbalances"] == []


@pytest.fixture
def sink() -> Iterator[str]:
    """Give the address of a web hook that takes what comes."""
    server = Webhook(lambda *_: None)
    with serving(server):
        yield server.url


ROOT_HANDLER = """
import json, logging, sys, threading
import alarm_mw
from alarm_mw import signals
from alarm_mw.app import current_master

done = threading.Event()
receive = lambda sender, firing: done.set()
signals.delivered.connect(receive)
if sys.argv[1] != "run":
    alarm_mw.init(alarms={"a": sys.argv[1]}, log_alarms=["a .*"], alarm_freq=0)
logging.basicConfig(level="DEBUG", handlers=[alarm_mw.AlarmHandler(), logging.StreamHandler()])
if sys.argv[1] != "run":
    alarm_mw.capture_stdio()
logging.error("TERRIBLE ALARM")
if sys.argv[1] == "run":
    sys.stdin.read()
else:
    assert done.wait(60)
    runtime = current_master.current().runtime
    alarm_mw.shutdown()
    with open("books.json", "w") as file:
        json.dump(runtime.outbox.ledger.books(), file)
"""


@pytest.fixture(params=["curl", "xmpp"])
def chatty(request: pytest.FixtureRequest, sink: str, prosody: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide an alarm's action whose library logs much at DEBUG, and its receiver."""
    if request.param == "curl":
        # Through a proxy it is httpx that connects.
        monkeypatch.setenv("http_proxy", sink)
        monkeypatch.delenv("no_proxy", raising=False)
        return f"curl:{sink}"
    account = f"xmpp:{prosody.jid('app')}/uWSGI;hunter2;{prosody.jid('me')}"
    return f"{account};host=127.0.0.1;port={prosody.port};ca_file={prosody.ca_file}"


def test_a_root_handler_at_debug_sees_no_library_of_an_action(tmp_path: Path, chatty: str) -> None:
    """In one process httpx and slixmpp log their work: one record fires once, and theirs are counted as ours."""
    command = [sys.executable, "-c", ROOT_HANDLER, chatty]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr.decode()
    ledger = json.loads((tmp_path / "books.json").read_text())
    assert ledger["alarms"]["a"]["fired"] == ledger["alarms"]["a"]["delivered"] == 1, result.stderr.decode()
    assert skipped(ledger["sources"], "logging") > 0


def test_a_root_handler_at_debug_under_run(installation: Any, until: Until, chatty: str) -> None:
    """Under a master the libraries log there, and one record fires once."""
    options = (*EVERYTHING, "--alarm", f"a {chatty}")
    process = installation.start(options, sys.executable, "-c", ROOT_HANDLER, "run", stdin=subprocess.PIPE)
    until(lambda: books(installation)[0].get("delivered") == 1)
    alarm, _ = books(installation)
    process.communicate(b"", timeout=60)
    assert (alarm["fired"], alarm["waiting"]) == (1, 0)
