"""The keys of rules that are about incidents, and escalations."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined, format_report
from alarm_mw.config.settings import from_json, notify_of, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import Absence, Flap, IncidentOptions, Record, TimeInterval

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


SLACK_BOT = "action = 'curl'\nurl = 'https://h/chat.postMessage'\nformat = 'slack'\nkey = 'k'\nchannel = '#a'"
ALERTMANAGER = "action = 'curl'\nurl = 'https://h'\nformat = 'alertmanager'"


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
        (
            RULE + "alarms = 'mail'\nkey = ['db']",
            "rule 1: 'key' is about incidents: it needs 'resolve', 'resolve_after', 'absent_for' or 'schedule'",
        ),
        ("[[rules]]\npattern = 'x'\nalarms = 'mail'\nresolve = 'y'", "rule 1: a rule with incidents needs a 'name'"),
        ("[[rules]]\nexclude = 'x'\nresolve = 'y'", "rule 1: 'resolve' beside 'exclude': an exclusion fires nothing"),
        (RULE + "alarms = 'mail'\nresolve_after = 'soon'", "rule 1: resolve_after: expected a time such as"),
        (RULE + "alarms = 'mail'\nresolve_after = 0", "rule 1: resolve_after: expected a time above 0"),
        (
            RULE + "alarms = 'mail'\nresolve = 'back'\nkey = ['db']",
            "rule 1: resolve has no group (?P<db>…), so it cannot tell",
        ),
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
        (
            RULE + "alarms = 'mail'\nabsent_for = '1h'\nresolve = 'x'",
            "'resolve' beside 'absent_for': a match ends the incident",
        ),
        (RULE + "alarms = 'mail'\nabsent_for = '1h'\nschedule = '* * * * *'", "both 'absent_for' and 'schedule'"),
        (RULE + "alarms = 'mail'\nschedule = '0 3 * * *'", "'schedule' without 'grace'"),
        (RULE + "alarms = 'mail'\nresolve = 'x'\ngrace = '1m'", "'grace' without 'absent_for' or 'schedule'"),
        (RULE + "alarms = 'mail'\nabsent_for = '1h'\ntimezone = 'UTC'", "'timezone' without 'schedule'"),
        (RULE + "alarms = 'mail'\nabsent_for = '1h'\nkey = ['db']\narmed = 'start'", "armed = \"start\" beside 'key'"),
        (RULE + "alarms = 'mail'\nabsent_for = 'long'", "absent_for: expected a time such as"),
        (RULE + "alarms = 'mail'\nabsent_for = '1h'\narmed = 'now'", "armed: expected 'first' or 'start', got 'now'"),
        (RULE + "alarms = 'mail'\ngrace = '1h'\nschedule = '0 3 * *'", "schedule: expected five fields as in crontab"),
        (RULE + "alarms = 'mail'\ngrace = '1h'\nschedule = '0 0 29 2 1#6'", "schedule: expected five fields"),
        ("[escalations.x]\nrepeat = -1\nsteps = [ { after = '1m', alarms = 'mail' } ]", "repeat: expected int >= 0"),
        (
            "[escalations.x]\nrepeat = 1\nsteps = [ { after = 0, alarms = ['mail'] } ]",
            "escalation 'x': 'repeat' needs a step with a delay",
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


@pytest.mark.parametrize(
    ("toml", "absence"),
    [
        ("absent_for = '25h'\ngrace = '1h'", Absence(90_000.0, grace=3600.0)),
        ("absent_for = 60\narmed = 'first'", Absence(60.0, from_start=False)),
        ("absent_for = 60\nkey = ['db']", Absence(60.0, from_start=False)),
        (
            "schedule = '0 3 * * *'\ntimezone = 'Europe/Berlin'\ngrace = '1h'",
            Absence(schedule="0 3 * * *", timezone="Europe/Berlin", grace=3600.0),
        ),
    ],
)
def test_a_rule_says_what_is_expected(tmp_path: Path, toml: str, absence: Absence) -> None:
    """Its matches end incidents instead of beginning them."""
    examined = read(tmp_path, HEAD + RULE + f"alarms = 'mail'\n{toml}")
    assert not examined.problems
    (rule,) = examined.settings.rules
    assert rule.incident is not None
    assert rule.incident.absence == absence
    assert from_json(to_json(examined.settings)) == examined.settings


@pytest.mark.parametrize(
    ("steps", "period"), [(("0s", "15m", "45m"), 4500.0), (("10m",), 1200.0), (("0s", "5m"), 600.0)]
)
def test_an_escalation_says_how_often_it_is_repeated(tmp_path: Path, steps: tuple[str, ...], period: float) -> None:
    """Its steps begin again after the last one, after as long as that came after the one before it."""
    names = [f"{{ after = '{after}', alarms = ['{alarm}'] }}" for after, alarm in zip(steps, "abc", strict=False)]
    toml = "alarms = { a = 'log:', b = 'log:', c = 'log:' }\n" + RULE + "resolve_after = '1h'\nescalation = 'x'\n"
    examined = read(tmp_path, f"{toml}[escalations.x]\nrepeat = 3\nsteps = [ {', '.join(names)} ]")
    assert not examined.problems
    (rule,) = examined.settings.rules
    assert rule.incident is not None
    assert (rule.incident.repeat, rule.incident.period) == (3, period)
    assert rule.incident.escalated == tuple("abc"[: len(steps)])


@pytest.mark.parametrize(
    ("alarm", "acknowledged", "resolved"),
    [
        ("action = 'log'", False, True),
        ("action = 'log'\nnotify = { send_acknowledged = true, send_resolved = false }", True, False),
        ("action = 'curl'\nurl = 'https://h'\nformat = 'opsgenie'\nkey = 'k'", True, True),
        ("action = 'curl'\nurl = 'https://h'\nformat = 'slack'", False, True),
        (
            f"{SLACK_BOT}\nnotify = {{ send_acknowledged = false }}",
            False,
            True,
        ),
        (
            "action = 'curl'\nurl = 'https://h'\nformat = 'alertmanager'\nnotify = { send_resolved = false }",
            False,
            True,
        ),
    ],
)
def test_what_an_alarm_is_told_depends_on_its_receiver(
    tmp_path: Path, alarm: str, acknowledged: bool, resolved: bool
) -> None:
    """Services with a state of their own learn of acknowledgements; Alertmanager of the end in any case."""
    rule = "alarms = 'a'\nresolve_after = '1m'\n"
    settings = read(tmp_path, f"[alarms.a]\n{alarm}\n{RULE}{rule}").settings
    notify = notify_of(settings.alarms[0])
    assert (notify.send_acknowledged, notify.send_resolved) == (acknowledged, resolved)
    some = engine_of(settings)
    assert some.evaluate(Record(b"lost eu\n", "stdout", 0.0, "k"), 0.0).firings
    assert some.incidents is not None
    (incident,) = some.incidents.tracker
    assert [(step.send_acknowledged, step.send_resolved) for step in incident.steps] == [(acknowledged, resolved)]


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ("key = ['dbs']", ["key 'dbs' is no group of the pattern (did you mean 'db'?)"]),
        ("key = ['tenant']", ["key 'tenant' is no group of the pattern; "]),
        ("key = ['db', 'tenant']", []),
        ("key = ['tenant']\nlogger = 'app'", []),
        ("key = ['dbs']\nlevel = 'ERROR'", ["key 'dbs' is no group"]),
        ("key = ['tenant']\npattern = 'lost'", []),
    ],
)
def test_a_key_that_is_no_group_is_doubted(tmp_path: Path, keys: str, warned: list[str]) -> None:
    """A key that is probably a misspelled group is warned of; one that may be a field of the record is not."""
    rule = RULE if "pattern" not in keys else RULE[: RULE.index("pattern")]
    examined = read(tmp_path, f"{HEAD}{rule}alarms = 'mail'\nresolve_after = '10m'\n{keys}")
    assert not examined.problems
    assert len(examined.warnings) == len(warned)
    for warning, text in zip(examined.warnings, warned, strict=True):
        assert f": rule 1: {text}" in str(warning)
        assert warning.where.line == 12
