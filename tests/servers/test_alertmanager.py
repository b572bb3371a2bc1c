"""A running server in Alertmanager's place: for `amtool`, and for a real Prometheus that posts its alerts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
from ports import free_port
from web_configuration import TOKENS, configuration

REPLICAS = """
[alarms.mail]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY >> told.txt"
[[rules]]
name = "db"
pattern = 'lost replica (?P<db>\\S+)'
key = ["db"]
resolve_after = "1h"
alarms = ["mail"]
labels = { severity = "critical" }
[[monitors]]
monitor = "alerts"
name = "prometheus"
names = ["*"]
alarms = ["mail"]
"""

PROGRAM = "echo lost replica eu-1; echo lost replica us-1; exec sleep 600"

PROMETHEUS = """
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ FOLDER/rules.yml ]
alerting:
  alertmanagers:
    - authorization: { credentials: act-act-act-act-act }
      static_configs: [ { targets: [ "127.0.0.1:PORT" ] } ]
scrape_configs:
  - job_name: node
    static_configs: [ { targets: [ "127.0.0.1:TARGET" ] } ]
"""

RULES = """
groups:
  - name: node
    rules:
      - alert: NodeDown
        expr: up == 0
        labels: { severity: critical }
        annotations: { summary: "{{ $labels.instance }} does not answer" }
"""


@pytest.fixture
def server(installation: Any, until: Callable[..., None]) -> Iterator[Any]:
    """Run a server with two incidents, and its API at ``url``."""
    port = free_port()
    (installation.directory / "alarms.toml").write_text(configuration(TOKENS, REPLICAS, port=port))
    process = installation.start(["--config", "alarms.toml"], "sh", "-c", PROGRAM, stdout=subprocess.DEVNULL)
    until(lambda: len(told(installation)) == 2)
    installation.port = port
    yield installation
    process.terminate()
    process.wait(60)


def told(installation: Any) -> list[str]:
    file = installation.directory / "told.txt"
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def amtool(server: Any) -> Callable[..., str]:
    """Give a function that runs Debian's `amtool` and returns what it says."""
    options = server.directory / "http.yml"
    options.write_text("authorization: { credentials: act-act-act-act-act }\n")
    base = ["amtool", f"--alertmanager.url=http://127.0.0.1:{server.port}", f"--http.config.file={options}"]

    def run(*arguments: str) -> str:
        done = subprocess.run([*base, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_amtool_queries_alerts(amtool: Callable[..., str]) -> None:
    """All, and those that matchers select; as text and as JSON."""
    assert amtool("alert", "query").count("lost replica") == 2
    (alert,) = json.loads(amtool("--output=json", "alert", "query", "alertname=db", "db=~eu.*"))
    assert alert["labels"] == {"alertname": "db", "db": "eu-1", "severity": "critical"}
    assert "no such" not in amtool("alert", "query", "--receiver=mail")
    assert amtool("alert", "query", "severity=warning").count("lost") == 0


def test_amtool_silences(amtool: Callable[..., str], server: Any) -> None:
    """Added, queried, updated and expired; what is silenced is not among the active alerts."""
    name = amtool(
        "silence", "add", "alertname=db", "db=eu-1", "--author=kim", "--comment=moving", "--duration=1h"
    ).strip()
    assert name in amtool("silence", "query")
    assert json.loads(amtool("--output=json", "silence", "query", "db=eu-1"))[0]["comment"] == "moving"
    assert amtool("silence", "query", "--quiet", "--created-by=kim (robot)").split() == [name]
    assert "us-1" in amtool("alert", "query")
    assert "eu-1" not in amtool("alert", "query")
    assert "eu-1" in amtool("alert", "query", "--silenced")
    amtool("silence", "update", "--duration=2h", "--comment=still moving", name)
    shown = json.loads(amtool("--output=json", "silence", "query", "db=eu-1"))
    assert [silence["comment"] for silence in shown] == ["still moving"]
    amtool("silence", "expire", name)
    assert name not in amtool("silence", "query")
    assert name in amtool("silence", "query", "--expired", "--within=1h")
    assert "eu-1" in amtool("alert", "query")
    assert server.status()["silences"] == {}


def test_amtool_adds_alerts_and_shows_the_configuration(
    amtool: Callable[..., str], server: Any, until: Callable[..., None]
) -> None:
    """An alert by hand becomes an incident; receivers are our alarms."""
    amtool("alert", "add", "BackupFailed", "instance=web-1", "--annotation=summary=the disk is full")
    until(lambda: "firing alertname=BackupFailed,instance=web-1" in told(server))
    assert "mail" in amtool("config", "routes", "show")
    assert amtool("config", "routes", "test", "alertname=db").strip() == "mail"
    assert "mail" in amtool("config", "show")


def test_a_prometheus_posts_its_alerts(server: Any, until: Callable[..., None], tmp_path: Path) -> None:
    """One that fires there fires here, with its labels; it is over here when it is over there."""
    folder, target = tmp_path / "prometheus", free_port()
    folder.mkdir()
    (folder / "rules.yml").write_text(RULES)
    configuration = PROMETHEUS.replace("FOLDER", str(folder)).replace("PORT", str(server.port))
    with prometheus_server.serving(folder, configuration.replace("TARGET", str(target))):
        key = f"alertname=NodeDown,instance=127.0.0.1:{target},job=node,severity=critical"
        until(lambda: f"firing {key}" in told(server))
        node = [
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--directory",
            str(metrics_of(folder)),
            str(target),
        ]
        with subprocess.Popen(node, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                until(lambda: f"resolved {key}" in told(server))
            finally:
                process.terminate()
    assert server.status()["imbalances"] == []


def metrics_of(folder: Path) -> Path:
    """Return a folder that a web server shows as a target's metrics."""
    place = folder / "node"
    place.mkdir()
    (place / "metrics").write_text("node_up 1\n")
    return place
