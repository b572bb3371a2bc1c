"""What limits alarms: `alarm_rate`, and the threshold of a rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import from_keywords, load
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.types import Reason, Record

TOML = """
alarm_rate = "100/1h"

[alarms.log]
action = "log"

[alarms.mail]
action = "cmd"
command = "cat"
limits = { rate = "20/1h", repeat_after = "1h", digest = false, for_humans = false }

[alarms.page]
action = "cmd"
command = "cat"

[alarms.page.limits]
repeat_after = 90
for_humans = true

[[rules]]
pattern = "x"
alarms = ["log", "mail", "page"]
count = 5
within = "1m"

[[rules]]
pattern = "y"
alarms = "page"
count = "${COUNT:-3}"
within = 10
"""


XMPP = "action = 'xmpp'\njid = 'a@example.org'\npassword = 'x'\nto = ['b@example.org']"


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    (tmp_path / "a.toml").write_text(text)
    return load(Sources.of_files([str(tmp_path / "a.toml")]), environ)


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, '[alarms]\na = "log:"\n' + text, **environ)
    return [str(problem).removeprefix(str(tmp_path / "a.toml:")) for problem in caught.value.problems]


def test_limits_are_read(tmp_path: Path) -> None:
    """Every limit of a file arrives where it counts."""
    settings = read(tmp_path, TOML, COUNT="4")
    assert settings.alarm_rate == "100/1h"
    assert [alarm.limits for alarm in settings.alarms] == [
        Limits(),
        Limits(rate="20/1h", repeat_after="1h", digest=False, for_humans=False),
        Limits(repeat_after=90, for_humans=True),
    ]
    assert [(rule.count, rule.within) for rule in settings.rules] == [(5, 60.0), (4, 10.0)]


def test_the_rate_of_all_leaves_out_what_speaks_to_no_person(tmp_path: Path) -> None:
    """`log`, `mule` and `signal` do not count for `alarm_rate`, nor does an alarm that says so."""
    text = TOML.replace("100/1h", "1/1h").replace('count = 5\nwithin = "1m"', "")
    limited = engine_of(read(tmp_path, text))
    for n in range(2):
        verdict = limited.evaluate(Record(b"x %c\n" % (65 + n), "stdout", 0.0, f"k{n}"), 0.0)
    assert [firing.alarm for firing in verdict.firings] == ["log", "mail"]
    assert [(held.alarm, held.reason) for held in verdict.held] == [("page", Reason.ALARM_RATE)]


@pytest.mark.parametrize(
    ("alarm", "sent"),
    [
        (XMPP, 1),
        ("action = 'curl'\nurl = 'https://example.org/'", 1),
        ("action = 'curl'\nurl = 'smtp://example.org/'\nmail_to = ['a@example.org']", 1),
        ("action = 'curl'\nurl = 'https://example.org/'\nformat = 'slack'", 1),
        ("action = 'curl'\nurl = 'https://example.org/'\nformat = 'opsgenie'\nkey = 'k'", 1),
        ("action = 'curl'\nurl = 'https://example.org/'\nformat = 'json'", 3),
        ("action = 'curl'\nurl = 'https://example.org/'\nformat = 'alertmanager'", 3),
        ("action = 'airbrake'\nurl = 'https://example.org/'\napikey = 'k'", 3),
        ("action = 'cmd'\ncommand = 'cat'", 3),
        ("action = 'log'", 3),
        ("action = 'cmd'\ncommand = 'cat'\nlimits = { for_humans = true }", 1),
        (f"{XMPP}\nlimits = {{ for_humans = false }}", 5),
        ("action = 'curl'\nurl = 'https://example.org/'\nlimits = { repeat_after = 0 }", 5),
    ],
)
def test_equal_events_are_one_message_for_people(tmp_path: Path, alarm: str, sent: int) -> None:
    """Three equal lines, of which two come twice at once, are one message if the action is for people, by default."""
    some = engine_of(read(tmp_path, f"[alarms.a]\n{alarm}\n[[rules]]\npattern = 'x'\nalarms = 'a'\n"))
    lines = [b"x 1\n", b"x 1\n", b"x 2\n", b"x 2\n", b"x 3\n"]
    found = [some.evaluate(Record(line, "stdout", 0.0, f"k{n}"), 0.0) for n, line in enumerate(lines)]
    assert sum(len(verdict.firings) for verdict in found) == sent


def test_uwsgis_messages_have_uwsgis_limits(tmp_path: Path) -> None:
    """What comes from uWSGI's files, or wants its messages, knows `alarm_freq` and nothing else."""
    toml = "messages = 'uwsgi'\nalarms.a = 'curl:https://example.org/'\n[[rules]]\npattern = 'x'\nalarms = 'a'\n"
    (tmp_path / "b.ini").write_text("[uwsgi]\nalarm = a curl:https://example.org/\nlog-alarm = a x\n")
    for settings in (read(tmp_path, toml), load(Sources.of_files([str(tmp_path / "b.ini")]), {})):
        some = engine_of(settings)
        found = [some.evaluate(Record(b"x %d\n" % n, "stdout", 0.0, f"k{n}"), 0.0) for n in (1, 1, 2)]
        assert [len(verdict.firings) for verdict in found] == [1, 0, 1]


def test_a_rule_has_a_fingerprint(tmp_path: Path) -> None:
    """It is a part or a list of them; a name that is nearly one is doubted."""
    toml = "alarms.a = 'log:'\n[[rules]]\npattern = 'x'\nalarms = 'a'\nfingerprint = {}\n"
    for written, parts in (('"rule"', ("rule",)), ('["exception", "path"]', ("exception", "path"))):
        assert read(tmp_path, toml.format(written)).rules[0].fingerprint == parts
    (warning,) = read(tmp_path, toml.format('["exeption"]')).warnings
    assert str(warning).endswith(
        "a.toml:5: rule 1: fingerprint: 'exeption' is read as a field (did you mean 'exception'?)"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "pattern = 'x'\nalarms = 'a'\nfingerprint = 3",
            "fingerprint: expected a name or an array of names, got an integer",
        ),
        ("pattern = 'x'\nalarms = 'a'\nfingerprint = [3]", "fingerprint: expected a name, got an integer"),
        (
            "pattern = 'x'\nalarms = 'a'\nfingerprint = []",
            'fingerprint: expected what equal events have in common, such as ["exception", "path"]',
        ),
        (
            "exclude = 'x'\nfingerprint = 'rule'",
            "'fingerprint' beside 'exclude': an exclusion ends the scan and fires nothing",
        ),
    ],
)
def test_what_is_wrong_with_a_fingerprint_is_told(tmp_path: Path, text: str, problem: str) -> None:
    """What cannot be meant is refused, with its place and what to write."""
    (told,) = problems(tmp_path, f"[[rules]]\n{text}\n")
    assert told.endswith(f"rule 1: {problem}")


def test_the_last_rate_of_all_counts(tmp_path: Path) -> None:
    """Of several files the last that sets it decides."""
    files = []
    for name, text in (("a", 'alarm_rate = "1/1h"'), ("b", 'alarm_rate = "2/1h"'), ("c", "")):
        (tmp_path / f"{name}.toml").write_text(text)
        files.append(str(tmp_path / f"{name}.toml"))
    assert load(Sources.of_files(files), {}).alarm_rate == "2/1h"


def test_the_keywords_are_the_same_tables() -> None:
    """`init()` takes the limits of an alarm as a file does, and the rate of all."""
    settings = from_keywords(
        alarms={"a": {"action": "log", "limits": {"rate": "1/10s"}}}, alarm_rate="5/1m", log_alarms=["a x"]
    )
    assert settings.alarms[0].limits == Limits(rate="1/10s")
    assert settings.alarm_rate == "5/1m"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits = 3", "limits: expected a table, got an integer"),
        ("limits = { rat = 1 }", "limits: unknown key 'rat' (did you mean 'rate'?)"),
        ("limits = { rate = 20 }", "limits: rate: expected str | null, got int"),
        (
            'limits = { rate = "20" }',
            "limits: rate: expected a number and a time such as '20/1h', '1/30s' or '5/m', got '20'",
        ),
        (
            'limits = { repeat_after = "1 h" }',
            "limits: repeat_after: expected a time such as '90s', '10m', '1h' or '1d', got '1 h'",
        ),
        (
            "limits = { repeat_after = -1 }",
            "limits: repeat_after: expected a time above 0 and of at most 30 days, got -1",
        ),
    ],
)
def test_what_is_wrong_with_limits_is_told(tmp_path: Path, text: str, problem: str) -> None:
    """A limit that cannot be meant is refused, with its place and what to write."""
    (told,) = problems(tmp_path, f'[alarms.b]\naction = "log"\n{text}\n')
    assert told.endswith(f"alarm 'b': {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alarm_rate = 5", "1: alarm_rate: expected a string such as '100/1h', got an integer"),
        (
            'alarm_rate = "5"',
            "1: alarm_rate: expected a number and a time such as '20/1h', '1/30s' or '5/m', got '5'",
        ),
        ('alarm_rate = "${NOT_SET}"', "1: alarm_rate: the environment variable NOT_SET is not set"),
    ],
)
def test_what_is_wrong_with_the_rate_of_all_is_told(tmp_path: Path, text: str, problem: str) -> None:
    """The rate at the top is checked as well."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (told,) = caught.value.problems
    assert problem in str(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("count = 0\nwithin = 1", "count: expected a whole number from 1 to 10000, got 0"),
        ("count = true\nwithin = 1", "count: expected a whole number from 1 to 10000, got a boolean"),
        ('count = "3"\nwithin = 1', "count: expected a whole number from 1 to 10000, got a string"),
        ('count = "${N}"\nwithin = 1', "count: expected a whole number from 1 to 10000, got a string"),
        ("count = 3", "'count' without 'within', expected the time for this many matches, such as '1m'"),
        ("within = 3", "'within' without a 'count' of 2 or more"),
        ("count = 3\nwithin = true", "within: expected seconds, or a time such as '1m', got a boolean"),
        ('count = 3\nwithin = "1"', "within: expected a time such as '90s', '10m', '1h' or '1d', got '1'"),
        ("count = 3\nwithin = 0", "within: expected a time above 0 and of at most 30 days, got 0"),
        ('count = "${NOT_SET}"\nwithin = 1', "the environment variable NOT_SET is not set"),
        ('count = 2\nwithin = "${NOT_SET}"', "the environment variable NOT_SET is not set"),
    ],
)
def test_what_is_wrong_with_a_threshold_is_told(tmp_path: Path, text: str, told: str) -> None:
    """A threshold that cannot be meant is refused, with its place and what to write."""
    (problem,) = problems(tmp_path, f'[[rules]]\npattern = "x"\nalarms = "a"\n{text}\n', N="many")
    assert told in problem


def test_an_exclusion_has_no_threshold(tmp_path: Path) -> None:
    """An exclusion that counts would mean nothing."""
    (problem,) = problems(tmp_path, '[[rules]]\nexclude = "x"\ncount = 3\nwithin = 9\n')
    assert "'count' beside 'exclude': an exclusion ends the scan and fires nothing" in problem
