"""What a request to a service is: its headers and its body, by the name of the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from alarm_mw.actions.curl.formats import alertmanager, chat, custom, events, neutral, paging
from alarm_mw.texts.message import Message

_JSON = "application/json"


class Body(NamedTuple):
    """What is sent."""

    content_type: str
    data: bytes
    headers: Mapping[str, str] = {}
    #: What stands behind the path of the URL.
    suffix: str = ""


#: Formats that need nothing but the message.
_PLAIN: dict[str, Callable[[Message], bytes]] = {
    "json": alertmanager.webhook,
    "slack": chat.slack,
    "discord": chat.discord,
    "teams": chat.teams,
    "mattermost": chat.mattermost,
    "googlechat": chat.googlechat,
    "alertmanager": alertmanager.alerts,
    "otlp": events.otlp,
}


#: How values are made safe in JSON of the configuration's own, by the format that stands beside it. Without one, at
#: least nobody is mentioned; beside `json` they are exactly what they are.
ESCAPES: dict[str, Callable[[str], str]] = {
    "": neutral.unmentioned,
    "json": str,
    "slack": neutral.slack,
    "discord": neutral.markdown,
    "teams": neutral.markdown,
    "mattermost": neutral.mattermost,
    "googlechat": neutral.google,
}


def body_of(message: Message, name: str, key: str, written: custom.Written) -> Body:
    """Return what is sent in the format `name`, with the service's `key`; `written` is JSON of the configuration's."""
    if written:
        return Body(_JSON, custom.body(message, written, ESCAPES[name]))
    match name:
        case "text":
            return Body("text/plain; charset=utf-8", message.text().encode() + b"\n")
        case "pagerduty":
            return Body(_JSON, paging.pagerduty(message, key))
        case "opsgenie":
            authorization = {"Authorization": f"GenieKey {key}"} if key else {}
            return Body(_JSON, paging.opsgenie(message), authorization, paging.opsgenie_path(message))
        case "cloudevents":
            return Body("application/cloudevents+json", events.cloudevents(message))
        case _:
            return Body(_JSON, _PLAIN[name](message))
