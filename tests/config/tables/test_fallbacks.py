"""The keys `fallback` and `fallback_after`."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import from_json, load, to_json
from alarm_mw.config.settings import Alarm
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.toml"


def table(name: str, *lines: str) -> str:
    return "\n".join([f"[alarms.{name}]", 'action = "log"', *lines, ""])


def alarms(file: Path, *tables: str, environ: dict[str, str] | None = None) -> dict[str, Alarm]:
    file.write_text("".join(tables))
    settings = load(Sources((str(file),)), environ or {})
    assert from_json(to_json(settings)).alarms == settings.alarms
    return {alarm.name: alarm for alarm in settings.alarms}


def complaints(file: Path, *tables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        alarms(file, *tables)
    return [str(problem).rpartition("a.toml:")[2] for problem in caught.value.problems]


def test_another_alarm_is_named(file: Path) -> None:
    """One name or several, and after how many seconds; a chain may go over several alarms."""
    found = alarms(
        file,
        table("jabber", 'fallback = ["mail", "page"]', 'fallback_after = "${AFTER}"'),
        table("mail", 'fallback = "page"'),
        table("page"),
        environ={"AFTER": "5"},
    )
    assert [found[name].fallback for name in ("jabber", "mail", "page")] == [("mail", "page"), ("page",), ()]
    assert [found[name].fallback_after for name in ("jabber", "mail")] == [5.0, 60.0]


def test_it_must_be_there(file: Path) -> None:
    """The name of no alarm is told with its place."""
    assert complaints(file, table("jabber", 'fallback = "mial"'), table("mail")) == [
        "1: alarm 'jabber': fallback: unknown alarm 'mial' (did you mean 'mail'?)"
    ]


@pytest.mark.parametrize(
    ("tables", "way"),
    [
        ([table("a", 'fallback = "a"')], "'a' to 'a'"),
        ([table("a", 'fallback = ["b", "c"]'), table("b"), table("c", 'fallback = "a"')], "'a' to 'c' to 'a'"),
        (
            [table("x", 'fallback = "a"'), table("a", 'fallback = "b"'), table("b", 'fallback = "a"')],
            "'a' to 'b' to 'a'",
        ),
    ],
)
def test_no_way_leads_back(file: Path, tables: list[str], way: str) -> None:
    """A cycle would have a firing go round for ever: it is refused, and shown."""
    (complaint,) = complaints(file, *tables)
    assert complaint.endswith(f"fallback: the way leads from {way}, expected an end")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["fallback = 7"], "3: alarm 'a': fallback: expected a name or an array of names, got an integer"),
        (["fallback = [7]"], "3: alarm 'a': fallback: expected a name, got an integer"),
        (
            ['fallback = "b"', "fallback_after = -1"],
            "4: alarm 'a': fallback_after: expected a number of seconds, 0 or more, got -1",
        ),
        (
            ["fallback_after = 1"],
            "3: alarm 'a': fallback_after without 'fallback', which names the alarm that delivers then",
        ),
    ],
)
def test_mistakes_are_told(file: Path, lines: list[str], complaint: str) -> None:
    """Whatever else stands there is named with its place."""
    assert complaints(file, table("a", *lines), table("b")) == [complaint]


def test_a_variable_that_is_not_set_is_told_once(file: Path) -> None:
    """A number of seconds that cannot be had is the one mistake."""
    (complaint,) = complaints(file, table("a", 'fallback = "b"', 'fallback_after = "${MISSING}"'), table("b"))
    assert "MISSING" in complaint


def test_groups_need_a_time(file: Path) -> None:
    """`group_by` alone would do nothing, and is refused."""
    (complaint,) = complaints(file, table("a", 'delivery = { group_by = ["rule"] }'))
    assert complaint.endswith("group_by without group_wait, which says for how many seconds firings are gathered")
