"""The keys of monitors that are about incidents."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.measures import Heartbeat
from alarm_mw.model.types import Flap, IncidentOptions

HEAD = """
alarms.mail = "log:"
alarms.sms = "log:"
[escalations.ops]
steps = [ { after = "0s", alarms = ["mail"] }, { after = "15m", alarms = ["sms"] } ]
"""

BACKLOG = "[[monitors]]\nmonitor = 'backlog'\n"
METRIC = "[[monitors]]\nmonitor = 'metric'\nkey = 'k'\nvalue = 5\nalarms = 'mail'\n"
SEGFAULT = "[[monitors]]\nmonitor = 'segfault'\nalarms = 'mail'\n"
PROCESS = "[[monitors]]\nmonitor = 'process'\ncommand = 'x'\nalarms = 'mail'\n"
RULE = "[[rules]]\nname = 'queue'\npattern = 'x'\nresolve_after = '1m'\nalarms = 'mail'\n"


def read(tmp_path: Path, toml: str) -> Examined:
    file = tmp_path / "alarm-mw.toml"
    file.write_text(toml)
    return examine(Sources.of_files([str(file)]), {})


def test_all_that_a_monitor_says_of_incidents(tmp_path: Path) -> None:
    """A monitor with a name has incidents, with the keys of rules; its escalation can name its alarms."""
    keys = """name = "queue"
labels = { severity = "critical" }
max_keys = 5
keep_firing_for = "1m"
resolve_after = "1h"
flap = { count = 4, within = "10m" }
escalation = "ops"
"""
    settings = read(tmp_path, HEAD + BACKLOG + keys).settings
    (watch,) = settings.monitors
    options = IncidentOptions(("socket",), 5, 3600.0, 60.0, Flap(4, 600.0), {"sms": 900.0})
    assert (watch.name, watch.alarms, watch.incident) == ("queue", ("mail", "sms"), options)
    (rule,) = settings.incident_rules
    assert (rule.name, rule.labels, rule.alarms) == ("queue", (("severity", "critical"),), ("mail", "sms"))
    assert from_json(to_json(settings)) == settings


def test_a_monitor_without_a_name_has_no_incidents(tmp_path: Path) -> None:
    """Each of its messages is one of its own, as in uWSGI."""
    settings = read(tmp_path, HEAD + BACKLOG + "alarms = 'mail'").settings
    assert settings.monitors[0].rule is None
    assert settings.incident_rules == ()


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            BACKLOG + "alarms = 'mail'\nescalation = 'ops'",
            "monitor 1: 'escalation' is about incidents: the monitor needs",
        ),
        (BACKLOG + "name = 'q'\nescalation = 'opps'", "monitor 1: escalation: there is no [escalations.opps]"),
        (BACKLOG + "alarms = 'mail'\nname = 'q'\nflap = 3", "monitor 1: flap: expected object | null, got int"),
        (BACKLOG + "alarms = 'mail'\nname = 'q'\nkey = ['x']", "monitor 1: unknown key 'key'"),
        (METRIC + "name = 'm'\nrate = 10", "monitor 1: 'rate' beside 'name': an incident is repeated by"),
        (
            METRIC + "name = 'm'\nreset = 0",
            "monitor 1: a monitor that does not say when it is over needs 'resolve_after'",
        ),
        (SEGFAULT + "name = 'crash'", "monitor 1: a monitor that does not say when it is over needs 'resolve_after'"),
        (PROCESS, "monitor 1: the monitor 'process' needs a 'name' for its incidents"),
        (RULE + BACKLOG + "alarms = 'mail'\nname = 'queue'", "a second rule 'queue' with incidents; the first is at"),
    ],
)
def test_mistakes_in_the_incidents_of_monitors(tmp_path: Path, toml: str, problem: str) -> None:
    """Each has its place and says what was expected."""
    problems = [str(each) for each in read(tmp_path, HEAD + toml).problems]
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_crash_ends_by_quiet(tmp_path: Path) -> None:
    """A monitor that does not know its end is an incident with `resolve_after`."""
    examined = read(tmp_path, HEAD + SEGFAULT + "name = 'crash'\nresolve_after = '1h'")
    assert examined.problems == ()
    assert examined.settings.monitors[0].incident == IncidentOptions(resolve_after=3600.0)


def test_a_heartbeat_is_measured(tmp_path: Path) -> None:
    """Its times and names go with the rule that its incidents follow."""
    toml = "[[monitors]]\nmonitor = 'heartbeat'\nname = 'beats'\nevery = '5m'\nnames = ['backup']\nalarms = 'mail'\n"
    settings = read(tmp_path, HEAD + toml).settings
    (rule,) = settings.incident_rules
    assert rule.measure == Heartbeat(300.0, 60.0, ("backup",))
    assert rule.incident == IncidentOptions(("heartbeat",))
    assert from_json(to_json(settings)) == settings
    engine = engine_of(settings)
    assert engine.incidents is not None
    assert engine.incidents.measures.heartbeat_rules("backup") == ["beats"]
