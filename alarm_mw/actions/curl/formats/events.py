"""Events for other programs: a log record of OTLP, a CloudEvent."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from alarm_mw.actions.curl.formats import neutral
from alarm_mw.actions.curl.formats.paging import details
from alarm_mw.model.version import VERSION
from alarm_mw.texts.facts import rfc3339
from alarm_mw.texts.message import Message

_LARGEST = 1024 * 1024

#: https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber
_SEVERITY_NUMBERS = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}


def otlp(message: Message) -> bytes:
    """Return a log record for ``/v1/logs`` of OTLP over HTTP, as JSON.

    https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
    """
    return neutral.fitted(lambda size: _logs(message, size), _LARGEST)


def _logs(message: Message, size: int) -> dict[str, object]:
    facts = message.facts
    nanoseconds = str(round(facts.time * 1e9))
    resource: dict[str, str | int] = {
        "service.name": facts.app or "unknown_service",
        "host.name": facts.host,
        "process.pid": facts.pid,
    }
    attributes: dict[str, str | int] = {
        "alarm": facts.alarm,
        "rule": facts.rule,
        "logger.name": facts.logger,
        "event.id": facts.id,
        "machines": facts.machine_names,
        "machine_count": facts.machine_count,
        **facts.labels,
        **facts.fields,
    }
    record: dict[str, object] = {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "body": {"stringValue": neutral.within(message.own_text() or facts.message, size)},
        "attributes": _attributes(attributes, size),
    }
    if number := _SEVERITY_NUMBERS.get(facts.severity):
        record |= {"severityNumber": number, "severityText": facts.severity.upper()}
    scope = {"scope": {"name": "alarm_mw", "version": VERSION}, "logRecords": [record]}
    return {"resourceLogs": [{"resource": {"attributes": _attributes(resource, size)}, "scopeLogs": [scope]}]}


def _attributes(values: Mapping[str, str | int], size: int) -> list[dict[str, object]]:
    return [{"key": name, "value": _value(value, size)} for name, value in values.items() if value]


def _value(value: str | int, size: int) -> dict[str, str]:
    """Return a value; a number is a string in JSON, as 64 bits want it."""
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": neutral.within(value, size)}


def cloudevents(message: Message) -> bytes:
    """Return a CloudEvent 1.0 in structured mode.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
    """
    return neutral.fitted(lambda size: _event(message, size), _LARGEST)


def _event(message: Message, size: int) -> dict[str, object]:
    facts = message.facts
    source = "/".join(quote(part, safe="", errors="replace") for part in (facts.host, facts.app) if part)
    data = {
        "title": message.title(),
        "message": neutral.within(facts.message, size),
        "status": facts.status,
        "severity": facts.severity,
        "alarm": facts.alarm,
        "rule": facts.rule,
        "logger": facts.logger,
        "level": facts.level_name,
        "machines": list(facts.machines),
        "machine_count": facts.machine_count,
        "labels": dict(facts.labels),
        "fields": {name: neutral.within(value, size) for name, value in facts.fields.items()},
        "details": details(message, size),
    }
    event = {
        "specversion": "1.0",
        "id": facts.id,
        "source": f"/{source or 'alarm_mw'}",
        "type": f"alarm_mw.{facts.status}",
        "subject": facts.rule,
        "time": rfc3339(facts.time),
        "datacontenttype": "application/json",
        "data": {name: value for name, value in data.items() if value},
    }
    return {name: value for name, value in event.items() if value}
