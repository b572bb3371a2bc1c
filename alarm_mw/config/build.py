"""From settings to the engine that they describe."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.settings import Alarm, Notify, Settings, is_shared, limits_of, notify_of
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.limits import NO_TIME, read_duration, read_rate
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.messages import rule_text
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.model.fleet import FleetPlan, SharedAlarm
from alarm_mw.model.measures import Measure
from alarm_mw.model.types import NOWHERE, IncidentOptions, Rule
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:
    from alarm_mw.engine.routes import Router


def has_incidents(settings: Settings) -> bool:
    """Return whether some rule or monitor has incidents, or measures something."""
    return bool(settings.incident_rules) or any(rule.measure is not None for rule in settings.rules)


def engine_of(
    settings: Settings,
    memory: Memory | None = None,
    clock: Callable[[], float] | None = None,
    *,
    assembles: bool = False,
    now: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Engine:
    """Return a new engine with its prefilter; takes some tenths of a second for a thousand rules that are new.

    `memory` is that of the engine before it. `clock` is the one of incidents, be it that there are only earlier ones;
    `now` is the one that flood control's times come from, and `wall` the time of day.
    With `assembles`, the prefilter finds where tracebacks begin, if these are to be one record (`BlockAssembler`).
    """
    rules = LiteralCache.of_user(os.environ).compiled(settings.rules)
    engine = Engine(
        rules,
        Prefilter(rules, beginnings=_beginnings() if assembles and settings.records.tracebacks else ()),
        [alarm.name for alarm in settings.alarms],
        left_out=settings.left_out,
        alarm_freq=settings.alarm_freq,
        alarm_msg_size=settings.alarm_msg_size,
        alarm_rate=None if settings.alarm_rate is None else read_rate(settings.alarm_rate),
        limits={alarm.name: limits_of(alarm) for alarm in settings.alarms},
        memory=memory,
        names=settings.records.names if any(alarm.texts is not None for alarm in settings.alarms) else None,
        router=_router(settings),
    )
    if clock is not None or has_incidents(settings):
        _add_incidents(engine, settings, rules, clock=clock or time.time, now=now, wall=wall)
    return engine


def _router(settings: Settings) -> Router | None:
    """Return what routes rules by facts of a record, where one can depend on them."""
    if not settings.routes:
        return None
    with held_off():  # few configurations have routes
        from alarm_mw.engine.routes import Router  # noqa: PLC0415

    router = Router(settings.routes, dict(settings.labels))
    return router if any(map(router.depends_on_records, settings.rules)) else None


def _add_incidents(
    engine: Engine,
    settings: Settings,
    rules: Sequence[CompiledRule],
    *,
    clock: Callable[[], float],
    now: Callable[[], float],
    wall: Callable[[], float],
) -> None:
    with held_off():  # few configurations have some
        from alarm_mw.engine.incidents.incident import Step  # noqa: PLC0415
        from alarm_mw.engine.incidents.incidents import Incidents  # noqa: PLC0415
        from alarm_mw.engine.incidents.measures.measures import MeasuredRule  # noqa: PLC0415
        from alarm_mw.engine.incidents.tracker import IncidentRule  # noqa: PLC0415

    notify = {alarm.name: notify_of(alarm) for alarm in settings.alarms}

    def tracked(rule: Rule, options: IncidentOptions) -> IncidentRule:
        notified = {name: notify.get(name, Notify()) for name in rule.alarms}
        steps = [
            Step(
                name,
                options.after.get(name, 0.0),
                how.send_resolved,
                how.seconds,
                options.repeat if name in options.escalated else 0,
                options.period,
                how.send_acknowledged is True,
            )
            for name, how in notified.items()
        ]
        return IncidentRule(
            rule.name,
            tuple(steps),
            rule.count,
            rule.within,
            options.resolve_after,
            options.keep_firing_for,
            dict(rule.labels),
            options.key,
            options.flap,
            options.max_keys,
            options.mute,
            options.absence,
        )

    engine.incidents = Incidents(
        {
            **{rule.name: CompiledRule(rule, None) for rule in settings.incident_rules},
            **{each.rule.name: each for each in rules if each.rule.incident is not None},
        },
        [tracked(rule, rule.incident) for rule in settings.incident_rules if rule.incident is not None],
        alarms=[alarm.name for alarm in settings.alarms],
        alarm_msg_size=settings.alarm_msg_size,
        admit=lambda alarm, rule, labels: engine.admit(alarm, rule, labels, now()),
        clock=clock,
        time=wall,
        inhibit_rules=settings.inhibit_rules,
        refreshed=[alarm.name for alarm in settings.alarms if alarm.options.refreshes],
        measured={
            rule.name: MeasuredRule(rule.measure, _max_keys(rule, rule.measure))
            for rule in (*settings.rules, *settings.incident_rules)
            if rule.measure is not None
        },
    )


def _max_keys(rule: Rule, measure: Measure) -> int:
    return rule.incident.max_keys if rule.incident is not None else int(getattr(measure, "max_keys", 1))


def _beginnings() -> tuple[bytes, ...]:
    from alarm_mw.engine.tracebacks import BEGINNINGS  # noqa: PLC0415  # not needed where each line is a record

    return BEGINNINGS


def fleet_plan_of(settings: Settings) -> FleetPlan | None:
    """Return what a fleet has to know of the settings; None where this machine shares nothing."""
    fleet = settings.fleet
    if fleet is None:
        return None
    rules = (*settings.rules, *settings.incident_rules)
    return FleetPlan(
        url=fleet.full_url,
        name=fleet.name,
        machine=fleet.host,
        group_wait=fleet.wait,
        labels=fleet.labels,
        alarms={alarm.name: _shared_alarm(alarm, fleet.repeat) for alarm in settings.alarms if is_shared(alarm)},
        alarm_rate=_pair(settings.alarm_rate),
        local_rules=frozenset(rule.name or rule_text(rule) for rule in rules if rule.scope == "machine"),
        rules_hash="" if fleet.hub else _rules_hash(settings.rules),
        program=settings.name,
        is_hub=fleet.hub,
        page=settings.web.url if settings.web.base_url else "",
    )


def _shared_alarm(alarm: Alarm, repeat_after: float) -> SharedAlarm:
    limits, notify = limits_of(alarm), notify_of(alarm)
    return SharedAlarm(
        _pair(limits.rate),
        repeat_after if limits.repeat_after is None else _seconds(limits.repeat_after),
        notify.seconds,
        notify.send_resolved,
        limits.for_humans is True,
    )


def _pair(rate: str | None) -> tuple[int, float] | None:
    if rate is None:
        return None
    read = read_rate(rate)
    return read.count, read.window


def _seconds(given: str | float) -> float:
    return 0.0 if given in NO_TIME else read_duration(given)


def _rules_hash(rules: Sequence[Rule]) -> str:
    """Return what is the same where the rules are, wherever they are written."""
    plain = [structs.replace(rule, where=NOWHERE) for rule in rules]
    return hashlib.blake2b(msgspec.json.encode(plain, order="deterministic"), digest_size=8).hexdigest()
