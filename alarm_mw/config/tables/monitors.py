"""Monitors from tables: ``[[monitors]]`` of a TOML file."""

from __future__ import annotations

from alarm_mw import monitors
from alarm_mw.config.part import Watched
from alarm_mw.config.settings import Watch
from alarm_mw.config.tables.alarm_names import alarm_names
from alarm_mw.config.tables.structs import read_struct
from alarm_mw.config.tables.tree import Table
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import PluginOptions

#: The keys of a monitor's table beside its options.
MONITOR_KEYS = frozenset({"monitor", "alarms"})


def read_monitors(root: Table) -> list[Watched]:
    """Return the monitors of a file; what is wrong goes to the report of its tables."""
    return [_watched(table) for table in root.tables("monitors")]


def _watched(table: Table) -> Watched:
    alarms = alarm_names(table, "monitor")
    name = table.plugin("monitor", "monitor")
    options = None if name is None else _options(table, name)
    watch = None if name is None or options is None else Watch(name, alarms, options, table.where())
    return Watched(watch, alarms, table.where("alarms"))


def _options(table: Table, name: str) -> PluginOptions | None:
    try:
        return read_struct(monitors.find(name).Options, table, MONITOR_KEYS)
    except OptionError as error:
        table.origin.report.refused(table.where("monitor"), table.name, error)
        return None
