"""The options of uWSGI's alarm subsystem, from ini files and flags: what each means here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import structs

from alarm_mw import monitors
from alarm_mw.config.parts import Declared, Entry, FindAction, Part, Watched, Written, read_alarm, read_number
from alarm_mw.config.processes import (
    MULE_OPTIONS,
    PROCESS_OPTIONS,
    read_execution,
    read_mule_option,
)
from alarm_mw.config.report import Report, ordinal
from alarm_mw.config.rule_sets import read_set_option
from alarm_mw.config.settings import Alarm, Watch
from alarm_mw.config.sources import Sources
from alarm_mw.config.uwsgi.expand import expand
from alarm_mw.config.uwsgi.ini import STRUCTURE, read_ini
from alarm_mw.config.uwsgi.logic import is_block
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Execution
from alarm_mw.model.keyvalue import comma_list, did_you_mean, split, split_commas
from alarm_mw.model.types import Rule, Syntax, Where

ALIASES = {
    "alarm-log": "log-alarm",
    "not-alarm-log": "not-log-alarm",
    "backlog-alarm": "alarm-backlog",
    "lq-alarm": "alarm-backlog",
    "alarm-lq": "alarm-backlog",
    "alarm-listen-queue": "alarm-backlog",
    "listen-queue-alarm": "alarm-backlog",
    "segfault-alarm": "alarm-segfault",
    "alarm-metric": "metric-alarm",
    "alarms-list": "alarm-list",
}
#: The monitor behind each option.
MONITORS = {
    "alarm-fd": "fd",
    "alarm-backlog": "backlog",
    "alarm-segfault": "segfault",
    "metric-alarm": "metric",
}
_RULES = frozenset({"log-alarm", "not-log-alarm"})
_NUMBERS = {"alarm-freq": "alarm_freq", "alarm-msg-size": "alarm_msg_size"}
#: They have no effect here, or `alarm-mw plugins` replaces them.
_NEEDLESS = frozenset({"alarm-cheap", "alarm-list"})
#: They only configure who handles the log, and where it goes.
_LOGGING = frozenset(
    {
        *("log-master", "log-master-bufsize", "log-master-stream", "log-master-req-stream", "threaded-logger"),
        *("logto", "logto2", "logger", "req-logger", "logger-list", "log-route", "log-req-route", "log-encoder"),
        *("log-req-encoder", "logformat", "log-format", "logformat-strftime", "log-format-strftime", "log-date"),
        *("log-prefix", "log-reopen", "log-truncate", "log-maxsize", "log-backupname", "logfile-chmod"),
        *("logfile-chown", "log-syslog", "log-socket", "log-drain", "daemonize", "daemonize2", "disable-logging"),
    }
)
SOCKET_TIMEOUT = "socket-timeout"
#: Options that are ignored without a warning.
_SILENT = frozenset({*_NEEDLESS, *_LOGGING, *STRUCTURE, *PROCESS_OPTIONS, SOCKET_TIMEOUT})
#: Seconds by which the time limit of an attempt exceeds that of its request.
_LEEWAY = 5.0
#: Options and aliases of alarms, which are suggested for misspelled keys; short names would be suggested for any key.
ALARM_OPTIONS = {"alarm", *_RULES, *_NUMBERS, *MONITORS, *_NEEDLESS, *ALIASES}


def read_options(
    entries: Iterable[Entry],
    find_action: FindAction,
    report: Report,
    *,
    syntax: Syntax = Syntax.PCRE,
    is_strict: bool = False,
    socket_timeout: float | None = None,
    folder: str = "",
) -> Part:
    """Return what the entries configure; the unrelated keys of each file become one warning.

    `is_strict`: a rule may name no unknown alarm. `socket_timeout`: uWSGI's option of that name, in seconds.
    `folder`: where mules run.
    """
    part = Part()
    ignored: dict[str, list[str]] = {}
    for entry in entries:
        option = ALIASES.get(entry.option, entry.option)
        if option == "alarm":
            part.alarms += _alarm(entry, find_action, report, socket_timeout)
        elif option in _RULES:
            part.rules += _rule(entry, option, syntax, report, is_strict=is_strict)
        elif option == "rules":
            part.rules += read_set_option(entry, report)
        elif option in _NUMBERS:
            part.fields |= _number(entry, _NUMBERS[option], report)
        elif option in MONITORS:
            part.monitors += read_monitor(entry, option, report)
        elif option in MULE_OPTIONS:
            part.mules += read_mule_option(entry, report, folder)
        elif not _is_silent(option):
            ignored.setdefault(entry.where.file, []).append(entry.key)
    for file, keys in ignored.items():
        report.warn(Where(file), f"ignored, since not about alarms: {', '.join(map(_suggest, dict.fromkeys(keys)))}")
    return part


def _is_silent(option: str) -> bool:
    return option in _SILENT or is_block(option)


def _suggest(key: str) -> str:
    return key + did_you_mean(key.replace("_", "-"), ALARM_OPTIONS, 0.8)


def _number(entry: Entry, name: str, report: Report) -> dict[str, float]:
    try:
        return {name: read_number(name, entry.value, is_text=True)}
    except ValueError as error:
        report.wrong(entry.where, f"{entry.key}: {error}")
        return {}


def _alarm(entry: Entry, find_action: FindAction, report: Report, socket_timeout: float | None) -> list[Declared]:
    """Read ``NAME PLUGIN:ARGS``. Text after a ``:`` or ``;`` may contain a password and is never quoted."""
    name, blank, action = entry.value.partition(" ")
    if not blank or not name:
        report.wrong(entry.where, f"{entry.key}: expected NAME PLUGIN:ARGS, with a space after the name")
        return []
    shown = re.split("[:;]", name)[0]
    try:
        alarm = _as_in_uwsgi(read_alarm(name, action, entry.where, find_action), action, socket_timeout)
    except OptionError as error:
        report.refused(entry.where, f"alarm {shown!r}", error)
        return [Declared(name, entry.where, None, is_strict=False)] if shown == name else []
    if alarm.plugin != "cmd":
        for variable in re.findall(r"\$\(([A-Za-z_]\w*)\)", action):
            report.warn(entry.where, f"alarm {name!r}: the environment variable {variable} is not set, so $(…) stays")
    return [Declared(name, entry.where, alarm, is_strict=False)]


def _as_in_uwsgi(alarm: Alarm, action: str, socket_timeout: float | None) -> Alarm:
    """Return the alarm with the time limits that it has in uWSGI.

    A command has none; a request has its own or `socket_timeout`, and an attempt takes at least as long.
    """
    options = alarm.options
    if options.is_unlimited_in_uwsgi:
        return structs.replace(alarm, delivery=DeliveryPolicy(attempt_timeout=0.0))
    if not options.socket_timeouts:
        return alarm
    if socket_timeout is not None:
        given = {key for key, _ in split(action.partition(":")[2])}
        options = structs.replace(
            options, **{name: socket_timeout for name in options.socket_timeouts if name not in given}
        )
    limit = getattr(options, options.socket_timeouts[0])
    limit = max(DeliveryPolicy().attempt_timeout, limit + _LEEWAY) if limit else 0.0
    return structs.replace(alarm, options=options, delivery=DeliveryPolicy(attempt_timeout=limit))


def _rule(entry: Entry, option: str, syntax: Syntax, report: Report, *, is_strict: bool) -> list[Written]:
    """Read ``NAME[,NAME…] REGEXP``."""
    names, blank, pattern = entry.value.partition(" ")
    if not blank:
        report.wrong(entry.where, f"{entry.key}: expected NAME[,NAME…] REGEXP, with a space before the regexp")
        return []
    alarms, excludes = comma_list(names), option == "not-log-alarm"
    if not alarms and not excludes:
        report.wrong(entry.where, f"{entry.key}: the rule names no alarm, expected NAME[,NAME…] REGEXP")
        return []
    rule = Rule(pattern, alarms, syntax, excludes=excludes, where=_place(entry, pattern))
    return [Written(rule, entry.where, is_strict)]


def _place(entry: Entry, pattern: str) -> Where:
    """Return where the pattern begins; the column is unknown if the line contained references."""
    line = entry.source.rstrip(" \t\r")
    stands = bool(pattern) and line.endswith(" " + pattern)
    return Where(entry.where.file, entry.where.line, len(line) - len(pattern) + 1 if stands else 0)


def read_socket_timeout(entries: Iterable[Entry], report: Report) -> float | None:
    """Return the seconds that requests of alarms may take where these say nothing of it; the last one counts."""
    timeout = None
    for entry in entries:
        if entry.option == SOCKET_TIMEOUT:
            if re.fullmatch("[0-9]{1,9}", entry.value):
                timeout = float(entry.value)
            else:
                report.wrong(entry.where, f"{entry.key}: expected a whole number of seconds, got {entry.value!r}")
    return timeout


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


def read_uwsgi(sources: Sources, environ: Mapping[str, str], find_action: FindAction, report: Report) -> list[Part]:
    """Return a part for each ini file, and one for the flags; what is wrong goes to `report`. Reads files."""
    files = [read_ini(file, environ, report) for file in sources.ini_files]
    flags = expand(_flag_entries(sources.flags), environ, report)
    groups = [*files, flags]
    entries = [entry for group in groups for entry in group]
    timeout, execution = read_socket_timeout(entries, report), read_execution(entries, report)
    parts = [
        read_options(group, find_action, report, socket_timeout=timeout, folder=execution.chdir) for group in groups
    ]
    if execution != Execution():
        parts[-1].fields["execution"] = execution
    return parts


def _flag_entries(flags: Iterable[tuple[str, str]]) -> list[Entry]:
    seen: Counter[str] = Counter()
    entries = []
    for name, value in flags:
        seen[name] += 1
        entries.append(Entry(name, value, Where(f"--{name} ({ordinal(seen[name])})")))
    return entries
