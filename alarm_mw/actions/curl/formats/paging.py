"""What pages a person: PagerDuty and Opsgenie. Equal events are one alert there, by a key that they have in common."""

from __future__ import annotations

from urllib.parse import quote

from alarm_mw.actions.curl.formats import neutral
from alarm_mw.texts.facts import rfc3339
from alarm_mw.texts.message import Message

#: https://developer.pagerduty.com/docs/send-alert-event
_SUMMARY = 1024
_EVENT = 512 * 1024
_SEVERITIES = {
    **dict.fromkeys(("critical", "fatal", "emergency", "page"), "critical"),
    **dict.fromkeys(("error", "high"), "error"),
    **dict.fromkeys(("warning", "warn", "medium"), "warning"),
    **dict.fromkeys(("info", "notice", "low", "debug"), "info"),
}

#: What is asked for by an incident's state; else a new alert, or one more event of it.
_ACTIONS = {"resolved": "resolve", "acknowledged": "acknowledge"}

#: https://docs.opsgenie.com/docs/alert-api#close-alert and #acknowledge-alert
_PATHS = {"resolved": "close", "acknowledged": "acknowledge"}
_NOTE = 25_000

#: https://docs.opsgenie.com/docs/alert-api#create-alert
_MESSAGE = 130
_DESCRIPTION = 15_000
_DETAILS = 8000
_TAGS = 20
_TAG = 50
_ENTITY = 512
_SOURCE = 100
_PRIORITIES = {"critical": "P1", "error": "P2", "warning": "P3", "info": "P4"}


def pagerduty(message: Message, routing_key: str) -> bytes:
    """Return an event of PagerDuty's Events API v2."""
    return neutral.fitted(lambda size: _event(message, routing_key, size), _EVENT)


def _severity(message: Message) -> str:
    """Return one of PagerDuty's four; of what is not known, that it is an error."""
    return _SEVERITIES.get(message.facts.severity.lower(), "error")


def _event(message: Message, routing_key: str, size: int) -> dict[str, object]:
    facts = message.facts
    payload = {
        "summary": neutral.line(message.title(), _SUMMARY),
        "source": facts.host or facts.app or "unknown",
        "severity": _severity(message),
        "timestamp": rfc3339(facts.time),
        "component": facts.app,
        "class": facts.rule,
        "custom_details": details(message, size),
    }
    event: dict[str, object] = {
        "routing_key": routing_key,
        "event_action": _ACTIONS.get(facts.status, "trigger"),
        "dedup_key": facts.dedup_key[:255],
        "payload": {name: value for name, value in payload.items() if value},
        "client": "alarm_mw",
    }
    if message.card.url:
        event |= {"client_url": message.card.url, "links": [{"href": message.card.url, "text": "Open"}]}
    return event


def details(message: Message, size: int) -> dict[str, str]:
    """Return what is known as names and values, each in at most `size` characters."""
    card = message.card
    if message.texts.text:
        return {"text": neutral.within(message.own_text(), size)}
    texts = {
        "remarks": "; ".join((*card.sentences, *card.notes)),
        "evidence": card.evidence,
        "context": card.context,
    }
    return {name: neutral.within(value, size) for name, value in (*card.facts, *texts.items()) if value}


def opsgenie(message: Message) -> bytes:
    """Return the body of Opsgenie's "create alert", or of what closes or acknowledges one."""
    facts = message.facts
    if opsgenie_path(message):
        user = facts.acknowledged_by if facts.status == "acknowledged" else ""
        parts = {"source": _source(message), "user": user[:_SOURCE], "note": neutral.within(message.text(), _NOTE)}
        return neutral.fitted(lambda _: {name: value for name, value in parts.items() if value}, _EVENT)
    body: dict[str, object] = {
        "message": neutral.line(message.title(), _MESSAGE),
        "alias": facts.dedup_key[:512],
        "description": neutral.within(message.text(), _DESCRIPTION),
        "details": _bounded(dict(message.card.facts)),
        "tags": [neutral.line(f"{name}:{value}", _TAG) for name, value in facts.labels.items()][:_TAGS],
        "entity": facts.origin[:_ENTITY],
        "source": _source(message),
        "priority": _PRIORITIES.get(_severity(message), "P3"),
    }
    return neutral.fitted(lambda _: {name: value for name, value in body.items() if value}, _EVENT)


def _source(message: Message) -> str:
    return (message.facts.host or "alarm_mw")[:_SOURCE]


def opsgenie_path(message: Message) -> str:
    """Return what stands behind the URL of alerts for a message about the state of one."""
    path = _PATHS.get(message.facts.status)
    return f"/{quote(message.facts.dedup_key[:512], safe='')}/{path}?identifierType=alias" if path else ""


def _bounded(details: dict[str, str]) -> dict[str, str]:
    """Return as many details as Opsgenie takes."""
    room, kept = _DETAILS, {}
    for name, value in details.items():
        short = neutral.line(value, 1000)
        room -= len(name) + len(short)
        if room < 0:
            break
        kept[name] = short
    return kept
