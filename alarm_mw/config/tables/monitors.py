"""Monitors from tables: ``[[monitors]]`` of a TOML file."""

from __future__ import annotations

from msgspec import structs

from alarm_mw import monitors
from alarm_mw.config.parts import Watched
from alarm_mw.config.settings import Watch
from alarm_mw.config.tables.fleet import SCOPES
from alarm_mw.config.tables.incidents import OF_MONITORS, Shared, read_watched
from alarm_mw.config.tables.texts import read_labels, read_rule_name
from alarm_mw.config.tables.tree import Table, alarm_names, read_struct, read_word
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import PluginOptions

#: The keys of a monitor's table beside its options.
MONITOR_KEYS = frozenset({"monitor", "alarms", "name", "labels", "scope", *OF_MONITORS})


def read_monitors(root: Table, shared: Shared) -> list[Watched]:
    """Return the monitors of a file; what is wrong goes to the report of its tables."""
    return [_watched(table, shared) for table in root.tables("monitors")]


def _watched(table: Table, shared: Shared) -> Watched:
    has_escalation = "escalation" in table.values and "alarms" not in table.values
    alarms = () if has_escalation else alarm_names(table, "monitor")
    kind = table.plugin("monitor", "monitor")
    options = None if kind is None else _options(table, kind)
    if kind is None or options is None:
        return Watched(None, alarms, table.where("alarms"))
    watch = _with_incident(table, Watch(kind, alarms, options, table.where()), shared)
    return Watched(watch, alarms if watch is None else watch.alarms, table.where("alarms"))


def _options(table: Table, name: str) -> PluginOptions | None:
    try:
        return read_struct(monitors.find(name).Options, table, MONITOR_KEYS)
    except OptionError as error:
        table.origin.report.refused(table.where("monitor"), table.name, error)
        return None


def _with_incident(table: Table, watch: Watch, shared: Shared) -> Watch | None:
    """Return a monitor with what its table says of incidents: it has some where it has a name."""
    given = [key for key in ("labels", "scope", *OF_MONITORS) if key in table.values]
    if "name" not in table.values:
        if given:
            table.wrong(f"{given[0]!r} is about incidents: the monitor needs a 'name' for them", given[0])
        elif watch.options.is_always_incident:
            table.wrong(f"the monitor {watch.monitor!r} needs a 'name' for its incidents")
        return watch
    for key, why in watch.options.not_of_incidents.items():
        if key in table.values:
            table.wrong(f"{key!r} beside 'name': {why}", key)
    if not watch.options.knows_end() and "resolve_after" not in table.values:
        table.wrong("a monitor that does not say when it is over needs 'resolve_after' beside 'name'", "name")
    found = read_watched(table, watch.alarms, shared)
    if found is None:
        return None
    alarms, incident = found
    incident = structs.replace(incident, key=tuple(filter(None, [watch.options.incident_key])))
    name, labels = read_rule_name(table), read_labels(table)
    scope = read_word(table, "scope", SCOPES)
    return structs.replace(watch, alarms=alarms, incident=incident, name=name, labels=labels, scope=scope)
