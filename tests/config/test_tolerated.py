"""What uWSGI starts with starts here too; `check` and ``--strict`` call it a mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from alarm_mw.config.report import Examined

Examine = Callable[..., Examined]


@pytest.mark.parametrize("is_strict", [True, False])
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("alarm = a note:\nlog-alarm = b x", "a.ini:3: unknown alarm 'b'"),
        ("alarm = a note:\nalarm-backlog = b", "a.ini:3: unknown alarm 'b'"),
        ("alarm = a note:\nrules = b gunicorn", "a.ini:3: unknown alarm 'b'"),
        ("alarm = a note:\nnot-log-alarm = b x", "a.ini:3: unknown alarm 'b'"),
        ("if-env = NOWHERE\nalarm = a note:\nendif =\nlog-alarm = a x", "a.ini:5: unknown alarm 'a'; no alarm is"),
        ("socket = :1", "a.ini: no alarm is configured"),
    ],
)
def test_a_server_is_not_kept_down(examined: Examine, keys: str, text: str, *, is_strict: bool) -> None:
    """What would not keep uWSGI from starting is a warning with its place, and a mistake only where that is asked."""
    found = examined(ini=f"[uwsgi]\n{keys}\n", is_strict=is_strict)
    told = found.problems if is_strict else found.warnings
    assert [str(each) for each in told if text in str(each)]
    assert bool(found.problems) is is_strict


def test_what_is_known_is_kept(examined: Examine) -> None:
    """A rule fires those of its alarms that there are; one that has none left is left out, an exclusion stays."""
    ini = (
        "[uwsgi]\nalarm = a note:\nlog-alarm = a,b one\nlog-alarm = b two\nnot-log-alarm = b three\n"
        "alarm-backlog = a,b\nalarm-segfault = b\n"
    )
    settings = examined(ini=ini, is_strict=False).settings
    assert [(rule.pattern, rule.alarms, rule.excludes) for rule in settings.rules] == [
        ("one", ("a",), False),
        ("three", (), True),
    ]
    assert [(watch.monitor, watch.alarms) for watch in settings.monitors] == [("backlog", ("a",))]


def test_a_rule_without_an_alarm_is_read_all_the_same(examined: Examine) -> None:
    """Its regexp is a mistake where it is one."""
    (problem,) = examined(ini="[uwsgi]\nalarm = a note:\nlog-alarm = b (x\n", is_strict=False).problems
    assert "breaks at its character 1" in str(problem)


def test_toml_stays_strict(examined: Examine) -> None:
    """An unknown alarm in TOML is a mistake, whatever stands beside it."""
    toml = 'alarms.a = "note:"\n[[rules]]\npattern = "x"\nalarms = ["b"]\n'
    found = examined(toml=toml, ini="[uwsgi]\nlog-alarm = c x\n", is_strict=False)
    assert [str(problem) for problem in found.problems] == ["a.toml:4: unknown alarm 'b'"]
    assert [str(warning) for warning in found.warnings] == ["a.ini:2: unknown alarm 'c'"]
