"""The dashboard and the alerts of `examples/prometheus`, in a real Prometheus that scrapes a running server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
from ports import free_port
from prometheus_server import Prometheus
from waiting import wait_until

from alarm_mw.master.control.prometheus import OF_ALARMS, OF_MASTER, OF_RULES, OF_SOURCES

EXAMPLE = Path(__file__).parents[2] / "examples" / "prometheus"

METRICS = {name for name, _ in (*OF_SOURCES.values(), *OF_ALARMS.values(), *OF_RULES.values())} | {*OF_MASTER}

CONFIG = """
[metrics]
listen = "127.0.0.1:PORT"
[alarms.good]
action = "cmd"
command = "cat > /dev/null"
[alarms.bad]
action = "cmd"
command = "exit 65"
[[rules]]
name = "db"
pattern = 'lost replica (?P<db>\\S+)'
key = ["db"]
resolve = 'replica (?P<db>\\S+) is back'
alarms = ["good", "bad"]
"""

PROGRAM = """
echo lost replica eu-1; echo lost replica eu-1; echo lost replica eu-2; echo replica eu-2 is back; exec sleep 600
"""


def dashboard() -> Any:
    return json.loads((EXAMPLE / "grafana.json").read_text(encoding="utf-8"))


def expressions() -> list[str]:
    """Return the queries of the dashboard, with the values that Grafana puts in."""
    board = dashboard()
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    found = [each["expr"] for each in (*targets, *board["annotations"]["list"])]
    return [
        text.replace('"$job"', '".*"').replace('"$instance"', '".*"').replace("$__rate_interval", "1m")
        for text in found
    ]


@pytest.fixture(scope="module")
def promtool() -> Callable[..., str]:
    def run(*arguments: str, text: str | None = None) -> str:
        done = subprocess.run(
            ["promtool", *arguments], input=text, cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def scraped(shared_installation: Any) -> Iterator[Prometheus]:
    """Run a server with incidents and a dead letter, and a Prometheus with the example's alerts that scrapes it."""
    port = free_port()
    installation = shared_installation
    (installation.directory / "alarms.toml").write_text(CONFIG.replace("PORT", str(port)))
    server = installation.start(["--config", "alarms.toml"], "sh", "-c", PROGRAM, stdout=subprocess.DEVNULL)
    wait_until(lambda: installation.status().get("letters") == 3)
    configuration = (
        (EXAMPLE / "prometheus.yml").read_text(encoding="utf-8").replace("9464", str(port)).replace("15s", "1s")
    )
    configuration = configuration.replace("alerts.yml", str(EXAMPLE / "alerts.yml"))
    folder = installation.directory / "prometheus"
    folder.mkdir()
    with prometheus_server.serving(folder, configuration) as prometheus:
        wait_until(lambda: prometheus.query("count_over_time(alarm_mw_lines_total[1m]) > 3"))
        yield prometheus
    server.terminate()
    server.wait(60)


def test_the_alerts_hold_what_they_say(promtool: Callable[..., str]) -> None:
    """Their syntax is right, they fire when they should, and not before or after."""
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_no_query_is_about_a_metric_that_does_not_exist() -> None:
    """The dashboard and the alerts name metrics that a master shows; and the dashboard most of these."""
    text = "\n".join([*expressions(), (EXAMPLE / "alerts.yml").read_text(encoding="utf-8")])
    named = {*re.findall(r"\balarm_mw_\w+", text)}
    assert named - METRICS == {"alarm_mw_build_info"}
    assert len(METRICS & named) >= 15


def test_the_dashboard_is_one_of_grafana() -> None:
    """Panels do not overlap, have ids of their own, and ask the data source that the reader chooses."""
    board = dashboard()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in board["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len({*cells}) == len(cells)
    assert max(x for x, _ in cells) < 24
    queries = [target for panel in board["panels"] for target in panel.get("targets", ())]
    assert {target["datasource"]["uid"] for target in queries} == {"${datasource}"}
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "job", "instance"}


#: Asked of what has not happened: no reload, nothing skipped, nothing lost or escalated.
WITHOUT_DATA = {"alarm_mw_configuration_timestamp_seconds", "alarm_mw_skipped_total", "alarm_mw_dropped_total"}


def test_every_query_has_an_answer(scraped: Prometheus) -> None:
    """Prometheus takes each, and has data for it."""
    empty = {text for text in expressions() if not scraped.query(text)}
    assert {name for text in empty for name in re.findall(r"\balarm_mw_\w+", text)} <= WITHOUT_DATA
    (panel,) = (panel for panel in dashboard()["panels"] if panel["title"] == "Open incidents")
    text = panel["targets"][0]["expr"].replace("$job", "alarm_mw").replace("$instance", ".*")
    assert [float(series["value"][1]) for series in scraped.query(text)] == [1.0]


def test_a_prometheus_loads_the_alerts(scraped: Prometheus) -> None:
    """It evaluates each without an error."""
    (group,) = scraped.get("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert len(group["rules"]) == (EXAMPLE / "alerts.yml").read_text(encoding="utf-8").count("- alert:")
