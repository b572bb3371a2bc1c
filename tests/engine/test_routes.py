"""Routes: which alarms a rule fires beside its own, by its labels and by the facts of a record."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from alarm_mw.engine import routes as routes_module
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.routes import Router
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import IncidentOptions, Record, Route, Rule
from alarm_mw.patterns.prefilter import Prefilter

CRITICAL = Route(('severity="critical"',), ("sms",))
SHOP = Route(('logger=~"shop.*"', 'team!="web"'), ("chat",))
EVERY = Route((), ("archive",))

ALARMS = ("mail", "sms", "chat", "archive")


def record(**facts: Any) -> Record:
    return Record(**{"message": b"x\n", "source": "logging", "time": 0.0, "key": "k", **facts})


def engine(*rules: Rule, routes: tuple[Route, ...], **labels: str) -> Engine:
    compiled = [compile_rule(rule) for rule in rules]
    return Engine(
        compiled,
        Prefilter(compiled),
        ALARMS,
        alarm_freq=0.0,
        alarm_msg_size=8192,
        limits={"mail": Limits(rate="100/1h")},
        router=Router(routes, labels),
    )


def rule(**facts: Any) -> Rule:
    return Rule(**{"pattern": "x", "alarms": ("mail",), **facts})


@pytest.mark.parametrize(
    ("labels", "own", "alarms"),
    [
        ({}, (), ("mail", "archive")),
        ({}, (("severity", "critical"),), ("mail", "sms", "archive")),
        ({"severity": "critical"}, (), ("mail", "sms", "archive")),
        ({"severity": "critical"}, (("severity", "warning"),), ("mail", "archive")),
        ({"logger": "shop"}, (("team", "pay"),), ("mail", "chat", "archive")),
        ({"logger": "shop"}, (("team", "web"),), ("mail", "archive")),
    ],
)
def test_labels_decide_before_there_is_a_record(
    labels: dict[str, str], own: tuple[tuple[str, str], ...], alarms: tuple[str, ...]
) -> None:
    """A rule's labels are over those of the configuration; what a record will decide is left open."""
    assert Router((CRITICAL, SHOP, EVERY), labels).alarms_of(rule(labels=own)) == alarms


@pytest.mark.parametrize(
    ("facts", "alarms"),
    [
        ({}, {"mail"}),
        ({"level": logging.CRITICAL}, {"mail", "sms"}),
        ({"level": logging.ERROR}, {"mail"}),
        ({"level": logging.ERROR, "logger": "shop.pay"}, {"mail", "chat"}),
        ({"level": logging.CRITICAL, "logger": "shop"}, {"mail", "sms", "chat"}),
    ],
)
def test_a_record_decides_by_its_level_and_its_logger(facts: dict[str, Any], alarms: set[str]) -> None:
    """What the level means is the label `severity`, where no label says another one."""
    some = engine(rule(), routes=(CRITICAL, SHOP))
    verdict = some.evaluate(record(**facts), 0.0)
    assert {firing.alarm for firing in verdict.firings} == set(verdict.matched) == alarms


def test_the_name_of_a_rule_is_a_label() -> None:
    """A route may select rules by their names."""
    router = Router((Route(('rule=~"pay.*"',), ("sms",)),), {})
    assert router.alarms_of(rule(name="payments")) == ("mail", "sms")
    assert router.alarms_of(rule(name="uploads")) == router.alarms_of(rule()) == ("mail",)


def test_a_rule_without_alarms_fires_those_of_its_routes() -> None:
    """It may leave everything to routes, and fires nothing where none matches."""
    some = engine(rule(alarms=()), routes=(CRITICAL,))
    assert [firing.alarm for firing in some.evaluate(record(level=logging.CRITICAL), 0.0).firings] == ["sms"]
    assert some.evaluate(record(level=logging.ERROR, key="other"), 0.0).firings == ()


def test_matches_are_counted_together_whatever_their_routes() -> None:
    """A threshold counts a rule's matches, of which some would go to further alarms."""
    some = engine(rule(count=3, within=60.0), routes=(CRITICAL,))
    levels = (logging.ERROR, logging.CRITICAL, logging.CRITICAL)
    found = [some.evaluate(record(level=level, key=f"k{n}"), float(n)) for n, level in enumerate(levels)]
    assert [[firing.alarm for firing in verdict.firings] for verdict in found] == [[], [], ["mail", "sms"]]
    some.forget_others()
    assert some.memory.thresholds.times == {}


def test_lines_are_looked_at_one_by_one_where_they_may_differ() -> None:
    """No gate decides lines that a route may send to further alarms."""
    assert engine(rule(), routes=(CRITICAL,)).gate((0,), "stdout", 0.0) is None
    fixed = engine(rule(labels=(("severity", "warning"),)), routes=(CRITICAL,))
    assert not Router((CRITICAL,), {}).depends_on_records(rule(labels=(("severity", "warning"),)))
    assert fixed.evaluate(record(level=logging.CRITICAL), 0.0).matched == ("mail",)


def test_a_route_that_cannot_match_does_not_depend_on_records() -> None:
    """Where another label says no already, nothing is left open."""
    router = Router((Route(('severity="critical"', 'team="web"'), ("sms",)),), {})
    assert router.depends_on_records(rule(labels=(("team", "web"),)))
    assert not router.depends_on_records(rule(labels=(("team", "pay"),)))


def test_incidents_and_exclusions() -> None:
    """An incident has its routes by labels alone, since all its messages go to the same alarms; others have none."""
    router = Router((CRITICAL, EVERY), {})
    assert not router.depends_on_records(rule(name="a", incident=IncidentOptions()))
    assert router.alarms_of(rule(name="a", incident=IncidentOptions())) == ("mail", "archive")
    for other in (rule(excludes=True, alarms=()), rule(resolves="a", alarms=())):
        assert router.alarms_of(other) == ()
        assert not router.depends_on_records(other)
    compiled = compile_rule(rule(name="a", incident=IncidentOptions()))
    assert router.routed(compiled, record(level=logging.CRITICAL)) is compiled


def test_what_is_cached_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many loggers there are, what is known of their routes takes limited space."""
    monkeypatch.setattr(routes_module, "CACHED", 3)
    router, compiled = Router((SHOP,), {}), compile_rule(rule())
    for n in range(10):
        assert router.routed(compiled, record(logger=f"shop.{n}")).rule.alarms == ("mail", "chat")
    assert router.routed(compiled, record(logger="shop.9")) is router.routed(compiled, record(logger="shop.9"))


def test_the_rules_of_a_record_have_the_alarms_of_their_routes() -> None:
    """What matches can be asked without firing anything, with routes and without."""
    routed = engine(Rule("x", ("mail",)), Rule("y", ("mail",)), routes=(CRITICAL,))
    assert [each.rule.alarms for each in routed.matching(record(level=50))] == [("mail", "sms")]
    compiled = [compile_rule(Rule("x", ("mail",)))]
    plain = Engine(compiled, Prefilter(compiled), ALARMS, alarm_freq=0.0, alarm_msg_size=8192)
    assert [each.rule.alarms for each in plain.matching(record(level=50))] == [("mail",)]
