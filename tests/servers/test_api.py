"""Our API of a running server, by `curl`: over TCP with a token, and on the control socket."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openapi_client import Api, use_every_operation
from ports import free_port
from web_configuration import ALARMS, DISK, HEARTBEATS, PAYMENTS, TOKENS, configuration

from alarm_mw.transports.places import SOCKET_NAME, control_path

PROGRAM = "echo 'payment 42 failed: card declined'; echo disk full; exec sleep 600"


@pytest.fixture
def server(installation: Any, until: Callable[..., None]) -> Iterator[Any]:
    port = free_port()
    (installation.directory / "alarms.toml").write_text(
        configuration(TOKENS, ALARMS, PAYMENTS, DISK, HEARTBEATS, port=port)
    )
    process = installation.start(["--config", "alarms.toml"], "sh", "-c", PROGRAM, stdout=subprocess.DEVNULL)
    until(lambda: installation.status().get("letters"))
    installation.port = port
    yield installation
    process.terminate()
    process.wait(60)


def curl(base: str, *options: str) -> Callable[[str, str, bytes], tuple[int, bytes]]:
    """Return what makes requests by curl."""

    def send(method: str, url: str, body: bytes) -> tuple[int, bytes]:
        command = ["curl", "-sS", "-X", method, "-w", "\n%{http_code}", "--data-binary", "@-", *options, base + url]
        done = subprocess.run(command, input=body, capture_output=True, timeout=60, check=True)
        text, _, status = done.stdout.rpartition(b"\n")
        return int(status), text

    return send


def test_curl_with_a_token(server: Any) -> None:
    """Every operation answers as the document says; without a token nothing does."""
    base = f"http://127.0.0.1:{server.port}"
    use_every_operation(Api(curl(base, "-H", "Authorization: Bearer act-act-act-act-act")))
    assert curl(base)("GET", "/api/1/incidents", b"")[0] == 401


def test_curl_on_the_control_socket(server: Any) -> None:
    """The same is there, for the user whose server it is, without a token."""
    path = control_path(str(server.state_dir / SOCKET_NAME))
    api = Api(curl("http://alarm-mw", "--unix-socket", path))
    assert {incident["rule"] for incident in api("GET", "/api/1/incidents")} == {"payments", "disk"}
    assert api("POST", "/ping/backup") == {"name": "backup"}
