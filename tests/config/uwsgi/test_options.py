"""What uWSGI's alarm options mean, and what is said of mistakes in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.config.uwsgi.options import ALIASES
from alarm_mw.model.types import Rule, Syntax, Where

#: Reads what is given as `ini`, without the actions that ship.
Examine = Callable[..., Examined]

MISTAKES = """\
[uwsgi]
master = true
alarm = good note:
alarm = nocolon note
alarm = lonely
alarm = odd nota:x
alarm = talker talk:prot=1
log-alarm = godo ^x
log-alarm = good
log-alarm = good a(b
not-log-alarm = good [z-a]
log-alarm = , ^x
alarm-freq = often
alarm-msg-size = 0
"""


def test_every_mistake_is_told(examined: Examine) -> None:
    """All mistakes of an ini file are reported at once, each with its line."""
    problems = examined(ini=MISTAKES).problems
    lines = [problem.where.line for problem in problems]
    assert lines == [4, 5, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14]
    assert {problem.where.file for problem in problems} == {"a.ini"}
    text = "\n".join(map(str, problems))
    assert "a.ini:4: alarm 'nocolon': expected PLUGIN:ARGS, but there is no colon" in text
    assert "a.ini:5: alarm: expected NAME PLUGIN:ARGS" in text
    assert "a.ini:6: alarm 'odd': unknown alarm plugin 'nota'" in text
    assert "a.ini:7: alarm 'talker': unknown key 'prot' (did you mean 'port'?)" in text
    assert "a.ini:7: alarm 'talker': 'jid' is missing" in text
    assert "a.ini:8: unknown alarm 'godo' (did you mean 'good'?)" in text
    assert "a.ini:9: log-alarm: expected NAME[,NAME…] REGEXP" in text
    assert "a.ini:10:19: the regexp 'a(b' breaks at its character 2: " in text
    assert "a.ini:11:" in text
    assert "a.ini:12: log-alarm: the rule names no alarm" in text
    assert "a.ini:13: alarm-freq: expected a number of seconds, 0 or more, got 'often'" in text
    assert "a.ini:14: alarm-msg-size: expected a whole number of bytes, 1 to 1073741824, got '0'" in text


def test_rules_keep_the_written_order(examined: Examine) -> None:
    """Rules of both kinds are tried in the order in which they are written."""
    ini = "[uwsgi]\nalarm = a note:\nlog-alarm = a one\nnot-alarm-log = a two\nalarm_log = a,,a three four\n"
    rules = examined(ini=ini).settings.rules
    assert rules == (
        Rule("one", ("a",), Syntax.PCRE, where=Where("a.ini", 3, 15)),
        Rule("two", ("a",), Syntax.PCRE, excludes=True, where=Where("a.ini", 4, 19)),
        Rule("three four", ("a", "a"), Syntax.PCRE, where=Where("a.ini", 5, 18)),
    )


@pytest.mark.parametrize(
    ("value", "pattern"), [("a x", "x"), ("a  x", " x"), ("a x  y ", "x  y"), ("a x=y", "x=y"), ("a #;", "#;")]
)
def test_regexp_begins_after_the_first_blank(examined: Examine, value: str, pattern: str) -> None:
    """One blank ends the names; a second one, and all others inside, belong to the regexp."""
    rules = examined(ini=f"[uwsgi]\nalarm = a note:\nlog-alarm = {value}\n").settings.rules
    assert [rule.pattern for rule in rules] == [pattern]


def test_first_of_two_alarms_counts(examined: Examine) -> None:
    """Of two alarms with one name in ini files the first counts, and a warning says so."""
    found = examined(ini="[uwsgi]\nalarm = a note:1\nalarm = a note:2\n")
    assert [msgspec.structs.asdict(alarm.options) for alarm in found.settings.alarms] == [{"text": "1"}]
    assert [str(warning) for warning in found.warnings] == [
        "a.ini:3: a second alarm 'a'; the first is at a.ini:2 and counts, this one is ignored"
    ]
    assert found.problems == ()


def test_numbers_are_set(examined: Examine) -> None:
    """The frequency is in seconds and the size in bytes; the last of several counts."""
    ini = "[uwsgi]\nalarm-freq = 1\nalarm_freq = 0.5\nalarm-msg-size = 100\nalarm-cheap = true\nalarms-list\n"
    ini += "alarm = a note:\n"
    found = examined(ini=ini)
    assert (found.settings.alarm_freq, found.settings.alarm_msg_size) == (0.5, 100)
    assert found.warnings == found.problems == ()


def test_defaults_are_those_of_uwsgi(examined: Examine) -> None:
    """Nothing at all is a configuration: three seconds, 8192 bytes, no alarms."""
    found = examined()
    assert found.settings == Settings(alarm_freq=3.0, alarm_msg_size=8192, warnings=found.warnings)


def test_other_keys_become_one_warning(examined: Examine) -> None:
    """What is not about alarms is ignored with one warning a file; how the log is handled is not even named."""
    ini = "[uwsgi]\nmodule = x\nlog-master = true\nlogto = /x\nhttp = y\nlog-alrm = a b\nmodule = y\nalarm = a note:\n"
    assert [str(warning) for warning in examined(ini=ini).warnings] == [
        "a.ini: ignored, since not about alarms: module, http, log-alrm (did you mean 'log-alarm'?)"
    ]


def test_aliases_lead_to_options() -> None:
    """No alias leads to another alias."""
    assert not ALIASES.keys() & ALIASES.values()


@pytest.mark.parametrize(
    "value",
    [
        "talk:jid=a;password=hunter2",
        "jabber talk;jid=a;password=hunter2",
        "jabber talk;password=hunter2:5222",
        "talk:a;my hunter2;b",
        "jabber talk:jid=a;pasword=hunter2",
        "jabber talk:jid=a;tone=hunter2",
        "jabber talk:jid=a;password=hunter2;tls=no",
    ],
)
def test_no_password_is_shown(examined: Examine, value: str) -> None:
    """A misspelt alarm is reported without the password that may be in it."""
    problems = examined(ini=f"[uwsgi]\nalarm = {value}\n").problems
    assert problems
    assert "hunter2" not in "\n".join(map(str, problems))


def test_unset_variable_is_warned_of(examined: Examine) -> None:
    """A password that should have come from the environment and did not is reported before the first alarm."""
    found = examined(ini="[uwsgi]\nalarm = a note:$(NO_SUCH) $(1) $(date +%%s)\n")
    assert [str(warning) for warning in found.warnings] == [
        "a.ini:2: alarm 'a': the environment variable NO_SUCH is not set, so $(…) stays"
    ]


def test_shell_keeps_its_substitutions(tmp_path: Path) -> None:
    """In a command $(…) that names no variable is the shell's, and nothing is said of it."""
    file = tmp_path / "a.ini"
    file.write_text("[uwsgi]\nalarm = a cmd:echo $(hostname)\n")
    found = examine(Sources(ini_files=(str(file),)), {})
    assert found.warnings == found.problems == ()
    assert msgspec.structs.asdict(found.settings.alarms[0].options)["command"] == "echo $(hostname)"


def test_name_with_a_colon_is_kept(examined: Examine) -> None:
    """An odd name that uWSGI takes is an alarm's name here too."""
    found = examined(ini="[uwsgi]\nalarm = a:b note:x\nlog-alarm = a:b y\n")
    assert found.problems == ()
    assert [alarm.name for alarm in found.settings.alarms] == ["a:b"]


def test_wrong_alarm_does_not_make_its_rules_wrong(examined: Examine) -> None:
    """One mistake is one problem: the rules of a wrong alarm are not reported."""
    assert len(examined(ini="[uwsgi]\nalarm = a nota:\nlog-alarm = a x\n").problems) == 1


def test_rule_without_any_alarm_configured(examined: Examine) -> None:
    """Where no alarm is configured at all, that is what the problem says."""
    assert "no alarm is configured" in str(examined(ini="[uwsgi]\nlog-alarm = a x\n").problems[0])


def test_exclusion_needs_no_alarm(examined: Examine) -> None:
    """A not-log-alarm may have an empty list of names, since it fires none."""
    assert examined(ini="[uwsgi]\nalarm = a note:\nnot-log-alarm = , x\n").problems == ()


def test_column_is_left_out_where_it_is_unknown(examined: Examine) -> None:
    """A regexp that was put together from other text has no column in its line."""
    ini = "[uwsgi]\nword = (b\nalarm = a note:\nlog-alarm = a a%(word)\n"
    assert str(examined(ini=ini).problems[0]).startswith("a.ini:4: the regexp 'a(b' breaks")
