"""uWSGI's options for monitors: ``alarm-fd``, ``alarm-backlog``, ``alarm-segfault`` and ``metric-alarm``."""

from __future__ import annotations

from alarm_mw import monitors
from alarm_mw.config.part import Watched
from alarm_mw.config.report import Report
from alarm_mw.config.settings import Watch
from alarm_mw.config.uwsgi.entry import Entry
from alarm_mw.model.errors import OptionError
from alarm_mw.model.keyvalue import comma_list, split_commas

#: The monitor behind each option.
MONITORS = {
    "alarm-fd": "fd",
    "alarm-backlog": "backlog",
    "alarm-segfault": "segfault",
    "metric-alarm": "metric",
}


def read_monitor(entry: Entry, option: str, report: Report) -> list[Watched]:
    """Return the monitor of an option; what is wrong goes to `report`."""
    names, args = _names_in_list(entry.value) if option == "metric-alarm" else _names_in_front(entry.value)
    alarms = comma_list(names)
    if not alarms:
        report.wrong(entry.where, f"{entry.key}: the monitor names no alarm")
    try:
        options = monitors.find(MONITORS[option]).from_uwsgi(args)
    except OptionError as error:
        report.refused(entry.where, entry.key, error)
        return [Watched(None, alarms, entry.where, is_strict=False)]
    watch = Watch(MONITORS[option], alarms, options, entry.where)
    return [Watched(watch, alarms, entry.where, is_strict=False)]


def _names_in_front(value: str) -> tuple[str, str]:
    """Split ``NAME REST``."""
    names, _, rest = value.partition(" ")
    return names, rest


def _names_in_list(value: str) -> tuple[str, str]:
    """Split the ``alarm=NAME`` off a list of ``key=value``."""
    pairs = split_commas(value)
    names = ",".join(text for key, text in pairs if key == "alarm")
    others = [(f"{key}={text}" if key else text).replace(",", "\\,") for key, text in pairs if key != "alarm"]
    return names, ",".join(others)
