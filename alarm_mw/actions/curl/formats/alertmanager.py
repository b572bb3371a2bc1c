"""Alertmanager's two forms: the webhook that it sends (version 4), and the alerts that it receives (its API v2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from alarm_mw.actions.curl.formats import neutral
from alarm_mw.texts.facts import rfc3339
from alarm_mw.texts.message import Message

#: What Go writes for no time.
NO_TIME = "0001-01-01T00:00:00Z"

_LARGEST = 1024 * 1024
_SUMMARY = 1024
_ODD = re.compile("[^a-zA-Z0-9_]")


def labels_of(message: Message) -> dict[str, str]:
    """Return what identifies the alert: the rule's name as ``alertname``, where and how bad, and all labels."""
    facts = message.facts
    ours = {
        "alertname": facts.rule if facts.is_named else facts.alarm,
        "alarm": facts.alarm,
        "host": "" if facts.is_shared else facts.host,  # the label of an alert must not change
        "app": facts.app,
        "severity": facts.severity,
        "logger": facts.logger,
        "incident": facts.incident,
    }
    return {name: value for name, value in {**_valid(facts.labels), **ours}.items() if value}


def _valid(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels with names that every version of Prometheus's tools takes."""
    return {re.sub("^([0-9])", r"_\1", _ODD.sub("_", name)): value for name, value in labels.items()}


def _annotations(message: Message, size: int) -> dict[str, str]:
    told = {
        "summary": neutral.line(message.title(), _SUMMARY),
        "description": neutral.within(message.body(), size),
        "rule": message.facts.rule,
        "machines": message.facts.machine_names,
        "machine_count": str(message.facts.machine_count or ""),
    }
    return {name: value for name, value in told.items() if value}


def webhook(message: Message) -> bytes:
    """Return what Alertmanager's webhook sends, so that receivers made for it work.

    https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    """
    return neutral.fitted(lambda size: _webhook(message, size), _LARGEST)


def _webhook(message: Message, size: int) -> dict[str, object]:
    facts, labels, annotations = message.facts, labels_of(message), _annotations(message, size)
    status = "resolved" if facts.status == "resolved" else "firing"
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(facts.time if facts.started is None else facts.started),
        "endsAt": NO_TIME if facts.ended is None else rfc3339(facts.ended),
        "generatorURL": facts.url,
        "fingerprint": _fingerprint(labels),
    }
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{_quoted(labels["alertname"])}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": facts.alarm,
        "groupLabels": {"alertname": labels["alertname"]},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": facts.url,
        "alerts": [alert],
    }


def _fingerprint(labels: Mapping[str, str]) -> str:
    same = "\0".join(f"{name}\0{value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(same.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def alerts(message: Message) -> bytes:
    """Return what Alertmanager takes at ``/api/v2/alerts``.

    What is no incident is over for Alertmanager after its ``resolve_timeout``.
    """
    return neutral.fitted(lambda size: _alerts(message, size), _LARGEST)


def _alerts(message: Message, size: int) -> list[dict[str, object]]:
    facts = message.facts
    alert: dict[str, object] = {
        "labels": labels_of(message),
        "annotations": _annotations(message, size),
        "startsAt": rfc3339(facts.time if facts.started is None else facts.started),
    }
    if facts.ended is not None:
        alert["endsAt"] = rfc3339(facts.ended)
    if facts.url:
        alert["generatorURL"] = facts.url
    return [alert]
