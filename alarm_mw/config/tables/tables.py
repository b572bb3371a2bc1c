"""Alarms, rules and numbers from tables: the keys of a TOML file, and of the keywords of ``init()``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import msgspec
from msgspec import structs

from alarm_mw.config.parts import NUMBERS, Declared, FindAction, Part, read_alarm, read_number
from alarm_mw.config.processes import read_execution_table, read_mule_table
from alarm_mw.config.settings import (
    FALLBACK_AFTER,
    AckOptions,
    Alarm,
    DrillOptions,
    HistoryOptions,
    MetricsListener,
    Notify,
    Records,
    StreamRecords,
    Upkeep,
)
from alarm_mw.config.sources import UnreadableError, read_bytes
from alarm_mw.config.tables.fleet import SCOPES, FleetOptions, mistakes, unreadable_files
from alarm_mw.config.tables.follow import read_follow
from alarm_mw.config.tables.incidents import read_shared
from alarm_mw.config.tables.monitors import read_monitors
from alarm_mw.config.tables.routes import read_routes
from alarm_mw.config.tables.rules import read_rules
from alarm_mw.config.tables.texts import (
    check_options,
    is_uwsgi,
    read_labels,
    read_server_name,
    read_texts,
)
from alarm_mw.config.tables.tree import (
    S,
    Table,
    kind_of,
    name_of,
    optional_names,
    read_flag,
    read_inner,
    read_struct,
    read_word,
)
from alarm_mw.config.tables.web import (
    EXPOSED,
    WebOptions,
    WebProxy,
    WebToken,
    WebUser,
    is_exposed,
    unusable_certificate,
)
from alarm_mw.delivery.outbox.limits import OutboxOptions
from alarm_mw.delivery.policy import DeliveryPolicy, Seconds
from alarm_mw.engine.flood_control.limits import Limits, read_rate
from alarm_mw.model.errors import MissingError, OptionError
from alarm_mw.model.types import USUAL_NAMES, FieldNames, InhibitRule, Texts
from alarm_mw.system.forks import held_off

#: The keys of an alarm's table beside those of its action.
ALARM_KEYS = frozenset(
    {
        "action",
        "delivery",
        "limits",
        "optional",
        "fallback",
        "fallback_after",
        "labels",
        "title",
        "text",
        "notify",
        "scope",
    }
)
#: The keys at the top of a file beside the numbers.
ROOT_KEYS = (
    "alarms",
    "rules",
    "monitors",
    "mules",
    "follow",
    "own_alarms",
    "alarm_rate",
    "name",
    "labels",
    "messages",
    "outbox",
    "metrics",
    "records",
    "execution",
    "escalations",
    "time_intervals",
    "inhibit_rules",
    "routes",
    "ack",
    "history",
    "drill",
    "web",
    "fleet",
    *Upkeep.__struct_fields__,
)


def read_tables(root: Table, find_action: FindAction) -> Part:
    """Return what a whole file or call says; what is wrong goes to the report of its tables."""
    part = Part()
    root.refuse_unknown([*NUMBERS, *ROOT_KEYS])
    part.fields |= _numbers(root)
    execution = read_execution_table(root)
    records = read_records(root)
    others: dict[str, object] = {
        "alarm_rate": read_alarm_rate(root),
        "metrics": _read(root, "metrics", MetricsListener),
        "outbox": _read(root, "outbox", OutboxOptions),
        "ack": _read(root, "ack", AckOptions),
        "history": _read(root, "history", HistoryOptions),
        "drill": _read(root, "drill", DrillOptions),
        "inhibit_rules": _inhibit_rules(root) or None,
        "records": records,
        "web": read_web(root),
        "execution": execution,
    }
    part.fields |= {name: value for name, value in others.items() if value is not None}
    if name := read_server_name(root):
        part.fields["name"] = name
    part.labels = read_labels(root)
    part.alarms += _alarms(root, find_action)
    shared = read_shared(root)
    part.rules += read_rules(root, shared, (records or Records()).names)
    part.routes += read_routes(root)
    part.monitors += read_monitors(root, shared)
    part.mules += read_mule_table(root, execution.chdir if execution is not None else "")
    part.follow += read_follow(root)
    part.own_alarms += [(name, root.where("own_alarms")) for name in optional_names(root, "own_alarms")]
    read_fleet(root, part)
    part.upkeep |= read_upkeep(root)
    part.has_whole_tracebacks = root.values.get("messages") != "uwsgi"
    return part


def _inhibit_rules(root: Table) -> tuple[InhibitRule, ...]:
    if "inhibit_rules" not in root.values:
        return ()
    with held_off():  # few configurations have them
        from alarm_mw.config.tables.marks import read_inhibit_rules  # noqa: PLC0415

    return read_inhibit_rules(root)


def _numbers(root: Table) -> dict[str, float]:
    numbers = {}
    for name in NUMBERS:
        if name in root.values and not root.is_broken(name):
            try:
                numbers[name] = read_number(name, root.values[name], is_text=root.is_from_environ(name))
            except ValueError as error:
                root.wrong(f"{name}: {error}", name)
    return numbers


def _alarms(root: Table, find_action: FindAction) -> list[Declared]:
    default = None if is_uwsgi(root) else Texts()
    table = root.table("alarms", "")
    if table is None:
        return []
    for name in table.values:
        if not isinstance(name, str) or not is_name(name):
            table.wrong(f"{name_of((*table.path, name))}: a name is text without spaces and commas", name)
    return [_declared(table, name, find_action, default) for name in table.values if isinstance(name, str)]


def is_name(name: str) -> bool:
    """Return whether an alarm in TOML may have this name."""
    return bool(name) and not any(mark in name for mark in " ,\t\n")


def _declared(alarms: Table, name: str, find_action: FindAction, default: Texts | None) -> Declared:
    where = alarms.where(name)
    try:
        return Declared(name, where, _alarm(alarms, name, find_action, default), is_strict=True)
    except MissingError as error:
        alarms.origin.report.warn(where, f"alarm {name!r} is optional and is left out: {error}")
        return Declared(name, where, None, is_strict=True, is_left_out=True)


def _alarm(alarms: Table, name: str, find_action: FindAction, default: Texts | None) -> Alarm | None:
    """Return an alarm written as ``"plugin:args"`` or as a table; `default` is what it says without templates.

    Raises `MissingError` where something is not installed that an optional alarm needs.
    """
    what = name_of((*alarms.path, name))
    value = alarms.values[name]
    if isinstance(value, str):
        if alarms.is_broken(name):
            return None
        try:
            alarm = read_alarm(name, value, alarms.where(name), find_action)
            if default is not None:
                check_options(alarms, alarm.options, name)
            return structs.replace(alarm, texts=default)
        except OptionError as error:
            alarms.origin.report.refused(alarms.where(name), what, error)
            return None
    if isinstance(value, Mapping):
        return _alarm_table(Table(value, alarms.origin, (*alarms.path, name), what), name, find_action, default)
    alarms.wrong(f"{what}: expected a table or a string such as 'cmd:…', got {kind_of(value)}", name)
    return None


def _alarm_table(table: Table, name: str, find_action: FindAction, default: Texts | None) -> Alarm | None:
    delivery, limits = read_inner(DeliveryPolicy, table, "delivery"), read_inner(Limits, table, "limits")
    is_optional = read_flag(table, "optional")
    notify = read_inner(Notify, table, "notify")
    fallback, fallback_after = optional_names(table, "fallback"), read_fallback_after(table)
    scope = read_word(table, "scope", SCOPES)
    plugin = table.plugin("action", "plugin")
    if plugin is None:
        return None
    try:
        kind = find_action(plugin).Options
        texts = read_texts(table, kind, default)
        labels = () if "labels" in kind.__struct_fields__ else read_labels(table)
        options = read_struct(kind, table, ALARM_KEYS)
    except OptionError as error:
        if is_optional and isinstance(error, MissingError):
            raise
        table.origin.report.refused(table.where("action"), table.name, error)
        return None
    if options is None or delivery is None or limits is None or notify is None:
        return None
    return Alarm(
        name, plugin, options, delivery, table.where(), limits, fallback, fallback_after, texts, labels, notify, scope
    )


def read_upkeep(root: Table) -> dict[str, object]:
    """Return those fields of `Upkeep` that the outermost table has."""
    given = {key: value for key, value in root.values.items() if key in Upkeep.__struct_fields__}
    read = read_struct(Upkeep, Table(given, root.origin, root.path, root.name))
    return {} if read is None else {key: getattr(read, key) for key in given}


def _read(root: Table, key: str, kind: type[S]) -> S | None:
    """Return a table at the top as a `kind`, or None where there is none, or a wrong one."""
    table = root.table(key, key)
    return None if table is None else read_struct(kind, table)


def read_records(root: Table) -> Records | None:
    """Return the table ``[records]``, or None where there is none, or a wrong one."""
    table = root.table("records", "records")
    if table is None:
        return None
    table.refuse_unknown(["tracebacks", "names", *_STREAMS])
    tracebacks = table.values.get("tracebacks")
    if tracebacks is not None and not isinstance(tracebacks, bool):
        table.wrong(f"tracebacks: expected true or false, got {kind_of(tracebacks)}", "tracebacks")
        return None
    stdout, stderr, file = (read_inner(StreamRecords, table, name) for name in _STREAMS)
    names = read_inner(FieldNames, table, "names") if "names" in table.values else USUAL_NAMES
    if stdout is None or stderr is None or file is None or names is None:
        return None
    return Records(tracebacks=tracebacks, names=names, stdout=stdout, stderr=stderr, file=file)


#: The tables of ``[records]``.
_STREAMS = ("stdout", "stderr", "file")

#: The keys of ``[web]`` that are tables.
_WEB_TABLES = frozenset({"users", "tokens", "proxy"})


def read_web(root: Table) -> WebOptions | None:
    """Return the table ``[web]``, or None where there is none, or a wrong one."""
    table = root.table("web", "web")
    if table is None:
        return None
    users = [read_struct(WebUser, each) for each in table.tables("users")]
    tokens = [read_struct(WebToken, each) for each in table.tables("tokens")]
    proxy_table = table.table("proxy", "web: proxy")
    proxy = None if proxy_table is None else read_struct(WebProxy, proxy_table)
    plain = {key: value for key, value in table.values.items() if key not in _WEB_TABLES}
    options = read_struct(WebOptions, Table(plain, table.origin, table.path, table.name))
    if options is None or None in users or None in tokens or (proxy is None and proxy_table is not None):
        return None
    try:
        web = WebOptions(
            **{name: getattr(options, name) for name in WebOptions.__struct_fields__ if name not in _WEB_TABLES},
            users=tuple(user for user in users if user is not None),
            tokens=tuple(token for token in tokens if token is not None),
            proxy=proxy,
        )
    except ValueError as error:
        table.wrong(str(error))
        return None
    if (mistake := unusable_certificate(web)) is not None:
        key, text = mistake
        table.origin.report.warn(table.where(key), f"web: {key}: {text}; the page is not served")
    if is_exposed(web):
        table.origin.report.warn(table.where("listen"), f"web: listen: {EXPOSED}")
    return web


#: The keys of ``[fleet]`` that are read as elsewhere.
_FLEET_OTHERS = frozenset({"labels", "alarms"})


def read_fleet(root: Table, part: Part) -> None:
    """Put the table ``[fleet]`` into `part`, unless it is wrong. Reads the password's file."""
    table = root.table("fleet", "fleet")
    if table is None:
        return
    labels, alarms = read_labels(table), optional_names(table, "alarms")
    part.fleet_alarms += [(name, table.where("alarms")) for name in alarms]
    plain = {key: value for key, value in table.values.items() if key not in _FLEET_OTHERS}
    options = read_struct(FleetOptions, structs.replace(table, values=plain), mistakes=mistakes)
    if options is None:
        return
    if importlib.util.find_spec("redis") is None:
        table.wrong("this needs the package 'redis', which the extra 'fleet' installs: pip install 'alarm-mw[fleet]'")
        return
    for text in unreadable_files(options.url):
        table.origin.report.warn(table.where("url"), f"fleet: {text}; until then this machine sends its alarms alone")
    password = _read_password(table, options.password_file) if options.password_file else options.password
    part.fields["fleet"] = structs.replace(
        options, labels=dict(labels), alarms=alarms, password=password, password_file=""
    )


def _read_password(table: Table, file: str) -> str:
    """Return the text of a file without its line end; empty where it has none, which is reported."""
    password = ""
    try:
        password = read_bytes(file).decode().removesuffix("\n").removesuffix("\r")
    except UnreadableError as error:
        table.wrong(f"password_file: {file} cannot be read: {error}", "password_file")
    except UnicodeDecodeError:
        table.wrong(f"password_file: {file} is not UTF-8, expected text", "password_file")
    else:
        if not password:
            table.wrong(f"password_file: {file} is empty, expected a password", "password_file")
    return password


def read_fallback_after(table: Table) -> float:
    """Return the seconds after which an alarm that fails is delivered by another one."""
    key = "fallback_after"
    if key not in table.values or table.is_broken(key):
        return FALLBACK_AFTER
    try:
        seconds: float = msgspec.convert(table.values[key], Seconds, strict=not table.is_from_environ(key))
    except msgspec.ValidationError:
        table.wrong(f"{key}: expected a number of seconds, 0 or more, got {table.values[key]!r}", key)
        return FALLBACK_AFTER
    if "fallback" not in table.values:
        table.wrong(f"{key} without 'fallback', which names the alarm that delivers then", key)
    return seconds


def read_alarm_rate(root: Table) -> str | None:
    """Return the rate of all alarms for humans, None where there is none."""
    value = root.values.get("alarm_rate")
    if value is None or root.is_broken("alarm_rate"):
        return None
    if not isinstance(value, str):
        root.wrong(f"alarm_rate: expected a string such as '100/1h', got {kind_of(value)}", "alarm_rate")
        return None
    try:
        read_rate(value)
    except ValueError as error:
        root.wrong(f"alarm_rate: {error}", "alarm_rate")
    return value
