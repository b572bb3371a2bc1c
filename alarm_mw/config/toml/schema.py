"""A JSON schema of the TOML files, with which editors complete and check them. Made from what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alarm_mw import actions, monitors
from alarm_mw.config.parts import NUMBERS
from alarm_mw.config.rule_sets import RULE_SETS
from alarm_mw.config.settings import (
    AckOptions,
    DrillOptions,
    HistoryOptions,
    MetricsListener,
    Notify,
    StreamRecords,
    Upkeep,
)
from alarm_mw.config.tables.conditions.requests import RequestKeys
from alarm_mw.config.tables.fleet import SCOPES, FleetOptions
from alarm_mw.config.tables.follow import FollowTable
from alarm_mw.config.tables.incidents import OF_MONITORS, EscalationKeys, IncidentKeys
from alarm_mw.config.tables.marks import InhibitRuleKeys, TimeIntervalKeys
from alarm_mw.config.tables.measures import MeasureKeys
from alarm_mw.config.tables.routes import RouteKeys
from alarm_mw.config.tables.rules import LEVELS
from alarm_mw.config.tables.web import WebOptions
from alarm_mw.delivery.outbox.limits import OutboxOptions
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Execution, PluginOptions
from alarm_mw.model.types import Context, FieldNames

Schema = dict[str, Any]

#: Draft 7 is what editors understand.
DRAFT = "http://json-schema.org/draft-07/schema#"

#: Whatever is not text may also be taken from the environment or a file.
_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}

_PLAIN = frozenset({"integer", "number", "boolean"})

_ANY: Schema = {"type": ["string", "number", "boolean", "object", "array"]}
_TEXT: Schema = {"type": "string"}
_NAMES: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_DURATION: Schema = {"type": ["string", "number"]}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_FLAG: Schema = {"type": "boolean"}
_SCOPE: Schema = {"enum": [*SCOPES], "description": "whether the machines of a fleet share it"}


#: What `schema` returns without the plugins of other packages: a file of this package, so that editors find it.
FILE = Path(__file__).with_name("schema.json")


def schema(*, is_own: bool = False) -> Schema:
    """Return the schema; installed plugins are in it, unless `is_own`. Imports plugins, which may take a second."""
    names = (actions.own_names(), monitors.own_names()) if is_own else (actions.names(), monitors.names())
    return _Schema(*names).root()


class _Schema:
    def __init__(self, action_names: Sequence[str], monitor_names: Sequence[str]) -> None:
        self._action_names, self._monitor_names = action_names, monitor_names
        self._definitions: Schema = {}

    def root(self) -> Schema:
        keys: Schema = {
            "alarms": {
                "description": "the alarms by their names",
                "type": "object",
                "additionalProperties": {"anyOf": [_TEXT, *self._actions()]},
            },
            "rules": self._tables(self._rule(), "rules, in the order in which they are applied"),
            "monitors": self._tables(
                {"anyOf": self._plugins(self._monitor_names, monitors.find, "monitor", self._monitor())}, "monitors"
            ),
            "mules": {"description": "files or modules that run as mules", "type": "array", "items": _TEXT},
            "follow": self._tables(self._of(FollowTable), "existing logs that are followed"),
            "own_alarms": {**_NAMES, "description": "the alarms that fire if alarm_mw itself has a problem"},
            "alarm_rate": {**_TEXT, "description": 'maximum of messages of all alarms for humans, such as "100/1h"'},
            "name": {**_TEXT, "description": "the server's name"},
            "labels": {**_LABELS, "description": "names and values that are added to each message"},
            "messages": {"enum": ["uwsgi"], "description": "send uWSGI's messages, byte for byte"},
            "outbox": self._of(OutboxOptions),
            "metrics": self._of(MetricsListener),
            "records": self._records(),
            "execution": self._of(Execution),
            "escalations": {"type": "object", "additionalProperties": self._of(EscalationKeys)},
            "time_intervals": {"type": "object", "additionalProperties": self._of(TimeIntervalKeys)},
            "inhibit_rules": self._tables(self._of(InhibitRuleKeys), "incidents that hold back others"),
            "routes": self._tables(self._of(RouteKeys), "alarms for rules with certain labels"),
            "ack": self._of(AckOptions),
            "history": self._of(HistoryOptions),
            "drill": self._of(DrillOptions),
            "web": self._of(WebOptions),
            "fleet": self._fleet(),
            **self._properties(Upkeep),
        }
        for name, (kind, description) in NUMBERS.items():
            keys[name] = {**_or_variable(self._of(kind)), "description": description}
        return {
            "$schema": DRAFT,
            "title": "alarm-mw.toml",
            **_table(keys),
            "definitions": self._definitions,
        }

    def _actions(self) -> list[Schema]:
        beside = {
            "delivery": self._of(DeliveryPolicy),
            "limits": self._of(Limits),
            "notify": self._of(Notify),
            "optional": {**_FLAG, "description": "leave it out if something that it needs is not installed"},
            "fallback": {**_NAMES, "description": "the alarms of which the first that can delivers if this one fails"},
            "fallback_after": {"type": "number", "minimum": 0, "description": "seconds of failed attempts until then"},
            "labels": _LABELS,
            "title": {**_TEXT, "description": "a template of the first line"},
            "text": {**_TEXT, "description": "a template of the whole text"},
            "scope": _SCOPE,
        }
        return self._plugins(self._action_names, actions.find, "action", beside)

    def _rule(self) -> Schema:
        sets = {"anyOf": [{"enum": sorted(RULE_SETS)}, _TEXT]}
        by_set = {"rules": {"anyOf": [sets, {"type": "array", "items": sets}]}, "alarms": _NAMES}
        return {"anyOf": [_table(self._rule_keys()), _table(by_set, ["rules"])]}

    def _rule_keys(self) -> Schema:
        return {
            "name": {**_TEXT, "description": "what incidents, messages and labels call it"},
            "pattern": {**_TEXT, "description": "a regexp that is searched for in the line"},
            "exclude": {**_TEXT, "description": "a regexp: a line that it matches is not compared with later rules"},
            "alarms": {**_NAMES, "description": "the alarms that it fires"},
            "level": {
                "anyOf": [{"enum": [*LEVELS, *map(str.lower, LEVELS)]}, _TEXT, {"type": "integer", "minimum": 0}],
                "description": "the lowest level of a record",
            },
            "logger": {**_TEXT, "description": "the logger of a record, or one above it"},
            "multiline": {**_FLAG, "description": "search a record whole instead of line by line"},
            "syntax": {"enum": ["python", "pcre"], "description": "the syntax of the regexp"},
            "request": self._of(RequestKeys),
            "where": {"type": "object", "description": "conditions on fields, by their names"},
            "context": self._of(Context),
            "count": {**_or_variable(_COUNT), "description": "fire at this number of matches …"},
            "within": {**_DURATION, "description": "… within this time: seconds, or a text such as 1m"},
            "labels": _LABELS,
            "fingerprint": {**_NAMES, "description": "what makes two events equal"},
            "scope": _SCOPE,
            **self._properties(IncidentKeys),
            **self._properties(MeasureKeys),
        }

    def _monitor(self) -> Schema:
        incidents = self._properties(IncidentKeys)
        return {
            "alarms": _NAMES,
            "name": {**_TEXT, "description": "the name of its incidents"},
            "labels": _LABELS,
            "scope": _SCOPE,
            **{key: incidents[key] for key in OF_MONITORS},
        }

    def _records(self) -> Schema:
        stream = self._of(StreamRecords)
        tracebacks = {**_FLAG, "description": "whether each traceback that Python prints is one record"}
        streams = dict.fromkeys(("stdout", "stderr", "file"), stream)
        keys = {"tracebacks": tracebacks, **streams, "names": self._of(FieldNames)}
        return _table(keys)

    def _fleet(self) -> Schema:
        own: Schema = {"alarms": {**_NAMES, "description": "the alarms that fire when a machine falls silent"}}
        return _table({**self._properties(FleetOptions), "labels": _LABELS, **own}, ["url"])

    def _plugins(
        self,
        names: Iterable[str],
        find: Callable[[str], type[Any]],
        key: str,
        beside: Mapping[str, Schema],
    ) -> list[Schema]:
        """Return a table for each plugin, which `key` names."""
        found = []
        for name in names:
            try:
                options: type[PluginOptions] = find(name).Options
            except OptionError:  # something that it needs is not installed: any option may be right
                found.append({"type": "object", "properties": {key: {"const": name}}, "required": [key]})
                continue
            own = self._properties(options)
            required = [field.encode_name for field in msgspec.structs.fields(options) if field.required]
            found.append(_table({key: {"const": name}, **beside, **own}, [key, *required]))
        return found

    def _tables(self, each: Schema, description: str) -> Schema:
        return {"description": description, "type": "array", "items": each}

    def _properties(self, kind: type[msgspec.Struct]) -> Schema:
        self._of(kind)
        found: Schema = self._definitions[kind.__name__]["properties"]
        return found

    def _of(self, kind: object) -> Schema:
        """Return the schema of a type, and keep those of the structs in it."""
        (found,), parts = msgspec.json.schema_components(
            [kind], schema_hook=lambda _: dict(_ANY), ref_template="#/definitions/{name}"
        )
        for name, part in parts.items():
            if name not in self._definitions:
                properties = {key: _or_variable(value) for key, value in part.get("properties", {}).items()}
                self._definitions[name] = {**part, "properties": properties, "additionalProperties": False}
        return found


def _table(keys: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    return {"type": "object", "properties": dict(keys), "required": [*required], "additionalProperties": False}


def _or_variable(value: Schema) -> Schema:
    """Allow a variable in the place of a number or a boolean, and any text in that of seconds, such as ``90m``."""
    if "duration" in value:
        return {**{key: each for key, each in value.items() if key not in {"duration", "minimum"}}, **_DURATION}
    if any(each.get("type") in _PLAIN for each in value.get("anyOf", ())):
        return {**value, "anyOf": [*value["anyOf"], _VARIABLE]}
    if value.get("type") not in _PLAIN:
        return value
    beside: Schema = {key: value[key] for key in ("description", "default") if key in value}
    return {**beside, "anyOf": [{key: each for key, each in value.items() if key not in beside}, _VARIABLE]}
