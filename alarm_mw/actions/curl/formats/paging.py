"""What pages a person: PagerDuty and Opsgenie. Equal events are one alert there, by a key that they have in common."""

from __future__ import annotations

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
    resolved = facts.status == "resolved"
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
        "event_action": "resolve" if resolved else "trigger",
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
    """Return the body of Opsgenie's "create alert"."""
    facts = message.facts
    body: dict[str, object] = {
        "message": neutral.line(message.title(), _MESSAGE),
        "alias": facts.dedup_key[:512],
        "description": neutral.within(message.text(), _DESCRIPTION),
        "details": _bounded(dict(message.card.facts)),
        "tags": [neutral.line(f"{name}:{value}", _TAG) for name, value in facts.labels.items()][:_TAGS],
        "entity": facts.origin[:_ENTITY],
        "source": (facts.host or "alarm_mw")[:_SOURCE],
        "priority": _PRIORITIES.get(_severity(message), "P3"),
    }
    return neutral.fitted(lambda _: {name: value for name, value in body.items() if value}, _EVENT)


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
