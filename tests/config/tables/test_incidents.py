"""The keys of rules that are about incidents, and escalations."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine, from_json, to_json
from alarm_mw.config.report import Examined, format_report
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import Flap, IncidentOptions, TimeInterval

HEAD = """
alarms.mail = "log:"
alarms.sms = "log:"
[escalations.ops]
steps = [ { after = "0s", alarms = ["mail"] }, { after = "15m", alarms = ["sms", "mail"] } ]
"""

RULE = """
[[rules]]
name = "db"
pattern = 'lost (?P<db>\\S+)'
"""


def read(tmp_path: Path, toml: str) -> Examined:
    file = tmp_path / "alarm-mw.toml"
    file.write_text(toml)
    return examine(Sources.of_files([str(file)]), {})


def test_all_that_a_rule_says_of_incidents(tmp_path: Path) -> None:
    """Each key has its effect, and a rule of its own finds the lines that end incidents."""
    examined = read(
        tmp_path,
        HEAD
        + RULE
        + """key = ["db", "path"]
max_keys = 5
count = 3
within = "1m"
resolve = 'back (?P<db>\\S+)'
resolve_after = "30m"
keep_firing_for = 60
flap = { count = 4, within = "10m" }
escalation = "ops"
mute_time_intervals = ["night"]
[time_intervals.night]
times = ["22:00-24:00"]
""",
    )
    assert not examined.problems
    rule, resolve = examined.settings.rules
    flap = Flap(4, 600.0)
    assert rule.incident == IncidentOptions(
        ("db", "path"), 5, 1800.0, 60.0, flap, {"sms": 900.0}, (TimeInterval(((1320, 1440),)),)
    )
    assert rule.alarms == ("mail", "sms")
    assert (resolve.resolves, resolve.alarms) == ("db", ())
    assert [*format_report(examined)][-1] == "ok: 2 alarms, 1 rule"
    assert from_json(to_json(examined.settings)) == examined.settings


def test_an_alarm_says_how_it_is_told(tmp_path: Path) -> None:
    """Its table `notify` sets the interval of reminders, and whether it is notified about ends."""
    toml = '[alarms.a]\naction = "log"\n[alarms.a.notify]\nsend_resolved = false\nrepeat_interval = "4h"\n'
    (alarm,) = read(tmp_path, toml).settings.alarms
    assert (alarm.notify.send_resolved, alarm.notify.seconds) == (False, 14_400.0)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (RULE + "alarms = 'mail'\nkey = ['db']", "rule 1: 'key' is about incidents: it needs what ends them"),
        ("[[rules]]\npattern = 'x'\nalarms = 'mail'\nresolve = 'y'", "rule 1: a rule with incidents needs a 'name'"),
        ("[[rules]]\nexclude = 'x'\nresolve = 'y'", "rule 1: 'resolve' beside 'exclude': an exclusion fires nothing"),
        (RULE + "alarms = 'mail'\nresolve_after = 'soon'", "rule 1: resolve_after: expected a time such as"),
        (RULE + "alarms = 'mail'\nresolve_after = 0", "rule 1: resolve_after: expected a time above 0"),
        (RULE + "alarms = 'mail'\nresolve = 'back'\nkey = ['db']", "rule 1: resolve: it has no group db"),
        (RULE + "alarms = 'mail'\nresolve = '('", "the regexp '(' breaks at its character 1"),
        (RULE + "alarms = 'mail'\nresolve = 3", "rule 1: resolve: expected str | null, got int"),
        (
            RULE + "alarms = 'mail'\nresolve_after = '1m'\nkeep_firing_for = '1m'",
            "rule 1: 'keep_firing_for' without 'resolve', which it follows",
        ),
        (
            RULE + "resolve_after = '1m'\nescalation = 'opps'",
            "rule 1: escalation: there is no [escalations.opps] (did you mean 'ops'?)",
        ),
        (RULE + "resolve_after = '1m'", "rule 1: the rule names no alarm"),
        (
            (RULE + "resolve_after = '1m'\nalarms = 'mail'\n") * 2,
            "a second rule 'db' with incidents; the first is at",
        ),
        ("[escalations]\nx = 3", "escalations: x: expected a table, got an integer"),
        ("[escalations.x]", "escalation 'x': no step, expected steps"),
        ("[escalations.x]\nsteps = [ { after = '1m' } ]", "'alarms' is missing"),
        ("[escalations.x]\nsteps = [ { after = 'soon', alarms = ['mail'] } ]", "after: expected a time such as"),
        ("[escalations.x]\nstep = []", "escalation 'x': unknown key 'step' (did you mean 'steps'?)"),
        ("[alarms.x]\naction = 'log'\nnotify = { repeat_interval = 'x' }", "notify: repeat_interval: expected a time"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, toml: str, problem: str) -> None:
    """Each mistake is reported when the configuration is read."""
    problems = [each.text for each in read(tmp_path, HEAD + toml).problems]
    assert any(problem in text for text in problems), problems


def test_a_rule_without_these_keys_is_stateless(tmp_path: Path) -> None:
    """A name, labels and a threshold alone make no incidents."""
    (rule,) = read(tmp_path, HEAD + RULE + "alarms = 'mail'\ncount = 2\nwithin = '1m'").settings.rules
    assert rule.incident is None
