"""What rules say of incidents, from tables: the keys of a rule, and ``[escalations.NAME]``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import structs

from alarm_mw.config.tables.absence import AbsenceKeys, read_absence, seconds
from alarm_mw.config.tables.tree import Table, read_struct
from alarm_mw.engine.flood_control.limits import MOST
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.measures import New
from alarm_mw.model.types import Flap, IncidentOptions, Rule, TimeInterval
from alarm_mw.system.forks import held_off

Duration = str | float

#: The keys of a rule of which one makes incidents of its matches.
ENDS = ("resolve", "resolve_after", "absent_for", "schedule")


class Escalation(NamedTuple):
    """Who is notified when."""

    #: The delay of each alarm in seconds.
    after: Mapping[str, float] = {}
    #: How often the steps are repeated, and after how many seconds each time.
    repeat: int = 0
    period: float = 0.0


_MAX_KEYS = 1_000_000
_AT_ONCE = (0, "0s")


class FlapKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``flap`` of a rule."""

    count: Annotated[int, msgspec.Meta(ge=2, le=MOST, description="number of changes between firing and resolved …")]
    within: Annotated[Duration, msgspec.Meta(description="… within this time that count as flapping")]


class IncidentKeys(AbsenceKeys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a rule that are about its incidents."""

    key: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="named groups of the regexp and fields of the record; each combination of their values is an "
            "incident of its own. Without it, the rule has one incident"
        ),
    ] = ()
    max_keys: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=_MAX_KEYS,
            description="maximum number of incidents of the rule. Beyond it, the one that was quiet for the longest "
            "time is evicted; if all are firing, further keys share the incident `other`",
        ),
    ] = 10_000
    resolve: Annotated[
        str | None, msgspec.Meta(description="a regexp; a matching line resolves the incident of its key")
    ] = None
    resolve_after: Annotated[
        Duration | None,
        msgspec.Meta(description="time without a match that resolves the incident: seconds, or a text such as `30m`"),
    ] = None
    keep_firing_for: Annotated[
        Duration | None,
        msgspec.Meta(
            description="how long the incident keeps firing after a resolve line, in case the rule matches again"
        ),
    ] = None
    flap: Annotated[
        FlapKeys | None,
        msgspec.Meta(
            description='`{ count = 4, within = "30m" }`: this many changes between firing and resolved within this '
            "time send one message `flapping`, and one `resolved` after the same time without a change"
        ),
    ] = None
    mute_time_intervals: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="names of tables `[time_intervals.NAME]`: times at which no messages are sent"),
    ] = ()
    escalation: Annotated[
        str | None, msgspec.Meta(description="the name of a table `[escalations.NAME]` with further alarms to notify")
    ] = None


INCIDENT_KEYS = IncidentKeys.__struct_fields__


class EscalationKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[escalations.NAME]``."""

    steps: Annotated[
        tuple[Mapping[str, object], ...],
        msgspec.Meta(description="tables with the keys `after`, a delay, and `alarms`, the names to notify then"),
    ] = ()
    repeat: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=1000,
            description="how often the steps are repeated while nobody acknowledges; they begin again after the last "
            "step, after as long as it came after the one before it",
        ),
    ] = 0


class StepKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of an escalation."""

    after: Annotated[Duration, msgspec.Meta(description="delay after the incident starts firing")]
    alarms: Annotated[tuple[str, ...], msgspec.Meta(description="the alarms to notify then")]


class Shared(NamedTuple):
    """What rules and monitors refer to by name."""

    escalations: Mapping[str, Escalation]
    intervals: Mapping[str, TimeInterval]


def read_shared(root: Table) -> Shared:
    """Return the escalations and the time intervals; what is wrong goes to the report of their tables."""
    return Shared(_escalations(root), _time_intervals(root))


def _time_intervals(root: Table) -> dict[str, TimeInterval]:
    if "time_intervals" not in root.values:
        return {}
    with held_off():  # few configurations have them
        from alarm_mw.config.tables.marks import read_time_intervals  # noqa: PLC0415

    return read_time_intervals(root)


def _escalations(root: Table) -> dict[str, Escalation]:
    table = root.table("escalations", "escalations")
    found: dict[str, Escalation] = {}
    if table is None:
        return found
    for name in table.values:
        inner = table.table(name, f"escalation {name!r}")
        if inner is not None:
            found[name] = _steps(inner)
    return found


def _steps(table: Table) -> Escalation:
    keys = read_struct(EscalationKeys, table)
    steps: dict[str, float] = {}
    for step in table.tables("steps"):
        read = read_struct(StepKeys, step)
        if read is None:
            continue
        after = 0.0 if read.after in _AT_ONCE else seconds(step, "after", read.after)
        for alarm in read.alarms:
            steps[alarm] = min(after, steps.get(alarm, after))
    if not table.values.get("steps"):
        table.wrong('no step, expected steps = [{ after = "15m", alarms = ["…"] }]')
    repeat = 0 if keys is None else keys.repeat
    delays = sorted({0.0, *steps.values()})
    if repeat and len(delays) == 1:
        table.wrong("'repeat' needs a step with a delay, after which the others are repeated", "repeat")
        repeat = 0
    period = 2 * delays[-1] - delays[-2] if repeat else 0.0
    return Escalation(dict(sorted(steps.items(), key=lambda step: step[1])), repeat, period)


def read_incident(table: Table, rule: Rule, shared: Shared) -> tuple[Rule, ...]:
    """Return a rule with what its table says of incidents, and the rule that finds the lines that end them."""
    values = {key: value for key, value in table.values.items() if key in INCIDENT_KEYS}
    has_end = rule.measure is not None and not isinstance(rule.measure, New)
    if not values and not has_end:
        return (rule,)
    if rule.excludes:
        table.wrong(f"{next(iter(values))!r} beside 'exclude': an exclusion fires nothing", next(iter(values)))
        return (rule,)
    keys = read_struct(IncidentKeys, structs.replace(table, values=values))
    if keys is None:
        return (rule,)
    _warn_of_keys(table, rule, keys.key)
    if isinstance(rule.measure, New) and values.keys() <= {"key", "max_keys"}:
        return (structs.replace(rule, measure=structs.replace(rule.measure, key=keys.key, max_keys=keys.max_keys)),)
    if not has_end and not any(key in values for key in ENDS):
        first = next(iter(values))
        table.wrong(
            f"{first!r} is about incidents: it needs 'resolve', 'resolve_after', 'absent_for' or 'schedule'", first
        )
    if not rule.name:
        table.wrong("a rule with incidents needs a 'name'")
    alarms, options = _options(table, keys, rule.alarms, shared)
    if keys.keep_firing_for is not None and keys.resolve is None and not has_end:
        table.wrong("'keep_firing_for' without 'resolve', which it follows", "keep_firing_for")
    ours = structs.replace(rule, alarms=alarms, incident=options)
    if keys.resolve is None:
        return (ours,)
    if missing := groups_of(rule.pattern).intersection(keys.key) - groups_of(keys.resolve):
        names = ", ".join(f"(?P<{name}>…)" for name in sorted(missing))
        table.wrong(f"resolve has no group {names}, so it cannot tell which incident is over", "resolve")
    where = table.where("resolve")
    place = structs.replace(where, column=table.origin.column((*table.path, "resolve"), keys.resolve))
    ending = Rule(keys.resolve, (), rule.syntax, multiline=rule.multiline, logger=rule.logger, where=place)
    return ours, structs.replace(ending, resolves=rule.name)


def _warn_of_keys(table: Table, rule: Rule, keys: Sequence[str]) -> None:
    """Warn about keys that are no groups: if no field of the records has their names, all matches are one incident.

    A key may name a field, so a warning needs a group of a similar name, or a rule that uses neither groups nor fields.
    """
    groups = groups_of(rule.pattern)
    unused = groups.difference(keys)
    is_of_fields = rule.request is not None or bool(rule.fields or rule.logger) or rule.level is not None
    for name in keys if groups else ():
        hint = "" if name in groups else did_you_mean(name, unused)
        if hint or (unused == groups and not is_of_fields):
            text = f"{table.name}: key {name!r} is no group of the pattern{hint}"
            table.origin.report.warn(
                table.where("key"), f"{text}; without a field of this name, all matches are one incident"
            )


def _options(
    table: Table, keys: IncidentKeys, alarms: Iterable[str], shared: Shared
) -> tuple[tuple[str, ...], IncidentOptions]:
    """Return the alarms, with those of the escalation, and what the keys say."""
    escalation = _escalation(table, keys.escalation, shared.escalations)
    after = escalation.after
    options = IncidentOptions(
        keys.key,
        keys.max_keys,
        seconds(table, "resolve_after", keys.resolve_after),
        seconds(table, "keep_firing_for", keys.keep_firing_for),
        None if keys.flap is None else Flap(keys.flap.count, seconds(table, "flap", keys.flap.within)),
        {name: seconds for name, seconds in after.items() if seconds and name not in alarms},
        _time_intervals_of(table, keys.mute_time_intervals, shared.intervals),
        read_absence(table, keys, keys.key),
        escalation.repeat,
        escalation.period,
        tuple(after) if escalation.repeat else (),
    )
    return tuple(dict.fromkeys((*alarms, *after))), options


#: The keys of a rule about incidents that a monitor has as well.
OF_MONITORS = ("max_keys", "resolve_after", "keep_firing_for", "flap", "escalation", "mute_time_intervals")


def read_watched(
    table: Table, alarms: tuple[str, ...], shared: Shared
) -> tuple[tuple[str, ...], IncidentOptions] | None:
    """Return the alarms of a monitor, and what its table says of its incidents; None where that is wrong."""
    # Options of monitors may have the names of other keys.
    ours = structs.replace(table, values={key: value for key, value in table.values.items() if key in OF_MONITORS})
    keys = read_struct(IncidentKeys, ours)
    return None if keys is None else _options(ours, keys, alarms, shared)


def groups_of(pattern: str) -> set[str]:
    """Return the names of a regexp's groups; none of one that is wrong, which is found elsewhere."""
    try:
        return {*re.compile(pattern).groupindex}
    except re.error:
        return set()


def _escalation(table: Table, name: str | None, escalations: Mapping[str, Escalation]) -> Escalation:
    if name is None:
        return Escalation()
    if name not in escalations:
        hint = did_you_mean(name, list(escalations))
        table.wrong(f"escalation: there is no [escalations.{name}]{hint}", "escalation")
    return escalations.get(name, Escalation())


def check_incidents(rules: Sequence[Rule]) -> list[tuple[Rule, str]]:
    """Return rules with a sentence for what is wrong with them among the others: names that two have, groups."""
    found: list[tuple[Rule, str]] = []
    owners: dict[str, Rule] = {}
    for rule in rules:
        if rule.incident is None:
            continue
        first = owners.setdefault(rule.name, rule)
        if first is not rule:
            found.append((rule, f"a second rule {rule.name!r} with incidents; the first is at {first.where}"))
    return found


def _time_intervals_of(
    table: Table, names: Sequence[str], known: Mapping[str, TimeInterval]
) -> tuple[TimeInterval, ...]:
    """Return the intervals that a rule names."""
    for index, name in enumerate(names):
        if name not in known:
            hint = did_you_mean(name, list(known))
            key = "mute_time_intervals"
            table.wrong(f"{key}: there is no [time_intervals.{name}]{hint}", key, index)
    return tuple(known[name] for name in names if name in known)
