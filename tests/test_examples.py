"""The examples, run as their readers run them: real servers under ``alarm-mw run``, webhooks received."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
DEMO = EXAMPLES / "flask_app" / "demo.py"

SERVERS = {
    "flask_app": ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "app:app"],
    "fastapi_app": ["uvicorn", "--port", "0", "app:app"],
}

ALARMS = {
    "flask_app": b"ERROR shop: order 42 could not be paid\n",
    "fastapi_app": b"the order could not be paid order=42\n",
}

COMMON = [b"TERRIBLE ALARM! The world exploded!!!\n", b"TERRIBLE ALARM! An upload has been made!\n"]

VISITS = [("GET", "/"), ("GET", "/explode"), ("POST", "/upload"), ("GET", "/pay"), ("GET", "/drill")]


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DEMO.parent))
    return importlib.import_module("serving")


@pytest.fixture
def sink(serving: ModuleType) -> ModuleType:
    return importlib.import_module("sink")


@pytest.mark.parametrize("config", [["--config", "alarm-mw.toml"], ["--ini", "uwsgi.ini"]], ids=["toml", "ini"])
@pytest.mark.parametrize("example", SERVERS)
def test_each_alarm_of_an_example_arrives_once(
    example: str, config: list[str], serving: ModuleType, sink: ModuleType, tmp_path: Path
) -> None:
    """The TOML file and the uwsgi.ini of an example raise the same alarms, each once, however often it was seen."""
    hooks = serving.Arrivals()
    expected = [*COMMON, ALARMS[example]]
    command = ["alarm-mw", "run", *config, "--state-dir", str(tmp_path / "state"), "--", *SERVERS[example]]
    with sink.serving(hooks.add) as url:
        env = serving.environment({"SINK_URL": url, "ALARMS_FILE": str(tmp_path / "alarms.txt")})
        with serving.running(command, EXAMPLES / example, env) as server:
            with httpx.Client(base_url=server.wait_until_ready(), trust_env=False) as client:
                for method, path in VISITS:
                    client.request(method, path).raise_for_status()
            for body in expected:
                hooks.wait_for(lambda hook, body=body: hook.body == body, f"a webhook: {body!r}")
        # The server and its master have ended, so nothing can follow.
        assert sorted(hook.body for hook in hooks.all()) == sorted(expected)


def test_the_demo_passes() -> None:
    """``make demo`` ends by itself with exit status 0, and has seen every alarm arrive."""
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 alarms, each by webhook and by command: everything arrived, once." in done.stdout


def test_the_demo_serves_until_it_is_stopped(serving: ModuleType) -> None:
    """``make demo ARGS=--serve`` shows what to curl and the webhooks that follow; ^C stops all that it started."""
    with serving.running([sys.executable, str(DEMO), "--serve"], DEMO.parent, serving.environment({})) as demo:
        line = demo.lines.wait_for(lambda line: "curl" in line and line.endswith("/explode"), "what to curl")
        url = line.split()[-1]
        # Its first alarm of this kind was moments ago: for three seconds that message is not repeated.
        httpx.post(url.replace("/explode", "/upload"), trust_env=False).raise_for_status()
        httpx.get(url.replace("/explode", "/pay"), trust_env=False).raise_for_status()
        httpx.get(url, trust_env=False).raise_for_status()
        demo.lines.wait_for(lambda line: line.startswith("  webhook") and "exploded" in line, "the webhook")
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_demo_that_cannot_start_its_server_says_so(tmp_path: Path) -> None:
    """A demo that does not work ends with a status that is not 0 and says what did not happen."""
    copy = tmp_path / "flask_app"
    copy.mkdir()
    for file in DEMO.parent.glob("*.*"):
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "alarm-mw.toml").write_text("no TOML")
    done = subprocess.run(
        [sys.executable, str(copy / "demo.py")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "The demo failed" in done.stdout
    assert "alarm-mw.toml" in done.stdout
