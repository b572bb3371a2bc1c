"""Services that take alarms, as a web server on this machine: each refuses what the real one refuses.

The schemas are written down from what the services publish; lengths are counted as JavaScript counts them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend


def _max_length(_validator: object, limit: int, value: object, _schema: object) -> Iterator[ValidationError]:
    if isinstance(value, str) and len(value.encode("utf-16-le")) // 2 > limit:
        yield ValidationError(f"Must be {limit} or fewer in length.")


def text(limit: int, least: int = 1) -> dict[str, object]:
    return {"type": "string", "minLength": least, "maxLength": limit}


def exactly(required: Mapping[str, object], **optional: object) -> dict[str, object]:
    """Return the schema of an object with these properties and no others."""
    properties = {**required, **optional}
    return {"type": "object", "required": [*required], "properties": properties, "additionalProperties": False}


# https://docs.slack.dev/reference/block-kit/blocks/section-block and .../composition-objects/text-object
_PLAIN = exactly({"type": {"const": "plain_text"}, "text": text(2000)}, emoji={"type": "boolean"})
_MRKDWN = exactly({"type": {"const": "mrkdwn"}, "text": text(3000)}, verbatim={"type": "boolean"})
_SECTION = {
    **exactly(
        {"type": {"const": "section"}},
        text={"anyOf": [_MRKDWN, _PLAIN]},
        fields={"type": "array", "minItems": 1, "maxItems": 10, "items": _PLAIN},
    ),
    "anyOf": [{"required": ["text"]}, {"required": ["fields"]}],
}
_BUTTON = exactly({"type": {"const": "button"}, "text": {"type": "object"}, "url": text(3000)})
_ACTIONS = exactly({"type": {"const": "actions"}, "elements": {"type": "array", "maxItems": 25, "items": _BUTTON}})
_BLOCKS = {"type": "array", "minItems": 1, "maxItems": 50, "items": {"anyOf": [_SECTION, _ACTIONS]}}
SLACK = exactly(
    {"text": text(40_000)},
    attachments={
        "type": "array",
        "items": exactly({"blocks": _BLOCKS, "color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}}),
    },
)

# https://discord.com/developers/docs/resources/message
_EMBED = exactly(
    {},
    title=text(256),
    url={"type": "string", "pattern": "^https?://"},
    description=text(4096),
    color={"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
    timestamp={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
    fields={
        "type": "array",
        "maxItems": 25,
        "items": exactly({"name": text(256), "value": text(1024)}, inline={"type": "boolean"}),
    },
)
DISCORD = exactly(
    {"allowed_mentions": {"const": {"parse": []}}},
    content=text(2000),
    embeds={"type": "array", "maxItems": 10, "items": _EMBED},
)

# https://adaptivecards.io/schemas/adaptive-card.json, version 1.4, as far as it is used
_RUN = exactly(
    {"type": {"const": "TextRun"}, "text": {"type": "string", "minLength": 1}},
    color={"enum": ["default", "dark", "light", "accent", "good", "warning", "attention"]},
    size={"enum": ["default", "small", "medium", "large", "extraLarge"]},
    weight={"enum": ["default", "lighter", "bolder"]},
    fontType={"enum": ["default", "monospace"]},
)
_RICH = exactly(
    {"type": {"const": "RichTextBlock"}, "inlines": {"type": "array", "items": _RUN}}, separator={"type": "boolean"}
)
_TEXT_BLOCK = exactly({"type": {"const": "TextBlock"}, "text": {"type": "string"}}, wrap={"type": "boolean"})
_FACT = exactly({"title": {"type": "string"}, "value": {"type": "string"}})
_FACTS = exactly({"type": {"const": "FactSet"}, "facts": {"type": "array", "items": _FACT}})
_OPEN = exactly({"type": {"const": "Action.OpenUrl"}, "url": {"type": "string"}}, title={"type": "string"})
_CARD = exactly(
    {"type": {"const": "AdaptiveCard"}, "version": {"const": "1.4"}},
    **{"$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"}},
    msteams={"const": {"width": "Full"}},
    body={"type": "array", "minItems": 1, "items": {"anyOf": [_RICH, _TEXT_BLOCK, _FACTS]}},
    actions={"type": "array", "items": _OPEN},
)
TEAMS = exactly(
    {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "items": exactly(
                {"contentType": {"const": "application/vnd.microsoft.card.adaptive"}, "content": _CARD},
                contentUrl={"type": "null"},
            ),
        },
    }
)

# https://developers.mattermost.com/integrate/reference/message-attachments/
MATTERMOST = exactly(
    {"text": text(16_383)},
    attachments={
        "type": "array",
        "items": exactly(
            {"fallback": {"type": "string"}},
            color={"type": "string", "pattern": "^#[0-9a-f]{6}$"},
            text=text(16_383, 0),
            title={"type": "string"},
            title_link={"type": "string"},
            fields={
                "type": "array",
                "items": exactly({"title": {"type": "string"}, "value": {"type": "string"}}, short={"type": "boolean"}),
            },
        ),
    },
)

# https://developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages and .../cards/v2
_DECORATED = exactly({"text": text(4096)}, topLabel={"type": "string"}, wrapText={"type": "boolean"})
_WIDGET = {"anyOf": [exactly({"decoratedText": _DECORATED}), exactly({"buttonList": {"type": "object"}})]}
_GOOGLE_SECTION = exactly({"widgets": {"type": "array", "minItems": 1, "maxItems": 100, "items": _WIDGET}})
_GOOGLE_CARD = exactly({"sections": {"type": "array", "items": _GOOGLE_SECTION}})
GOOGLE = exactly(
    {},
    text=text(4096),
    cardsV2={"type": "array", "items": exactly({"cardId": {"type": "string"}, "card": _GOOGLE_CARD})},
)

# https://github.com/PagerDuty/api-schema/blob/main/reference/events-v2/openapiv3.json
PAGERDUTY = exactly(
    {
        "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "payload": exactly(
            {
                "summary": text(1024),
                "source": text(1024),
                "severity": {"enum": ["critical", "warning", "error", "info"]},
            },
            timestamp={"type": "string", "format": "date-time"},
            component={"type": "string"},
            group={"type": "string"},
            **{"class": {"type": "string"}},
            custom_details={"type": "object"},
        ),
    },
    dedup_key=text(255),
    client={"type": "string"},
    client_url={"type": "string"},
    links={"type": "array", "items": exactly({"href": {"type": "string"}}, text={"type": "string"})},
)

# https://docs.opsgenie.com/docs/alert-api#create-alert
OPSGENIE = exactly(
    {"message": text(130)},
    alias=text(512),
    description=text(15_000),
    details={"type": "object", "additionalProperties": {"type": "string"}},
    tags={"type": "array", "maxItems": 20, "items": text(50)},
    entity=text(512),
    source=text(100),
    priority={"enum": ["P1", "P2", "P3", "P4", "P5"]},
)

# https://docs.opsgenie.com/docs/alert-api#close-alert and #acknowledge-alert
OPSGENIE_STATE = exactly({}, user=text(100), source=text(100), note=text(25_000))

# https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
WEBHOOK = exactly(
    {
        "version": {"const": "4"},
        "groupKey": text(100_000),
        "truncatedAlerts": {"type": "integer"},
        "status": {"enum": ["firing", "resolved"]},
        "receiver": text(1000),
        "groupLabels": _STRINGS,
        "commonLabels": _STRINGS,
        "commonAnnotations": _STRINGS,
        "externalURL": {"type": "string"},
        "alerts": {
            "type": "array",
            "minItems": 1,
            "items": exactly(
                {
                    "status": {"enum": ["firing", "resolved"]},
                    "labels": {**_STRINGS, "required": ["alertname"]},
                    "annotations": _STRINGS,
                    "startsAt": _TIME,
                    "endsAt": _TIME,
                    "generatorURL": {"type": "string"},
                    "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                }
            ),
        },
    }
)

# https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
_VALUE = {"anyOf": [exactly({"stringValue": {"type": "string"}}), exactly({"intValue": {"type": "string"}})]}
_ATTRIBUTES = {"type": "array", "items": exactly({"key": text(100_000), "value": _VALUE})}
_NANOSECONDS = {"type": "string", "pattern": "^[0-9]+$"}
OTLP = exactly(
    {
        "resourceLogs": {
            "type": "array",
            "minItems": 1,
            "items": exactly(
                {
                    "resource": exactly({"attributes": _ATTRIBUTES}),
                    "scopeLogs": {
                        "type": "array",
                        "items": exactly(
                            {
                                "scope": exactly({"name": text(100)}, version=text(100)),
                                "logRecords": {
                                    "type": "array",
                                    "items": exactly(
                                        {"timeUnixNano": _NANOSECONDS, "body": _VALUE},
                                        observedTimeUnixNano=_NANOSECONDS,
                                        severityNumber={"type": "integer", "minimum": 1, "maximum": 24},
                                        severityText={"type": "string"},
                                        attributes=_ATTRIBUTES,
                                    ),
                                },
                            }
                        ),
                    },
                }
            ),
        }
    }
)

# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/cloudevents.json
CLOUDEVENTS = exactly(
    {
        "specversion": {"const": "1.0"},
        "id": text(1000),
        "source": {"type": "string", "pattern": r"^/[A-Za-z0-9._~%/-]*$"},
        "type": text(1000),
    },
    subject=text(100_000),
    time=_TIME,
    datacontenttype={"const": "application/json"},
    data={"type": "object"},
)

SCHEMAS: dict[str, dict[str, object]] = {
    "slack": SLACK,
    "discord": DISCORD,
    "teams": TEAMS,
    "mattermost": MATTERMOST,
    "googlechat": GOOGLE,
    "pagerduty": PAGERDUTY,
    "opsgenie": OPSGENIE,
    "json": WEBHOOK,
    "otlp": OTLP,
    "cloudevents": CLOUDEVENTS,
}

# https://docs.slack.dev/reference/methods/chat.postMessage and .../chat.update
_ATTACHMENTS = cast("Any", SLACK)["properties"]["attachments"]
SLACK_POST = exactly(
    {"channel": text(100), "text": text(40_000)},
    attachments=_ATTACHMENTS,
    thread_ts=text(20),
    reply_broadcast={"type": "boolean"},
)
SLACK_UPDATE = exactly({"channel": text(100), "ts": text(20), "text": text(40_000)}, attachments=_ATTACHMENTS)

#: What is asked for below the URL of a service.
METHODS: dict[str, Any] = {
    "alertmanager": {"type": "array", "items": {"type": "object", "required": ["labels", "endsAt"]}},
    "opsgenie/close": OPSGENIE_STATE,
    "opsgenie/acknowledge": OPSGENIE_STATE,
    "slack/chat.postMessage": SLACK_POST,
    "slack/chat.update": SLACK_UPDATE,
}

_VALIDATORS: dict[str, Any] = {
    name: extend(Draft202012Validator, {"maxLength": _max_length})(schema)  # type: ignore[no-untyped-call]
    for name, schema in {**SCHEMAS, **METHODS}.items()
}

#: The largest request of each, in bytes.
SIZES = {"teams": 28 * 1024, "googlechat": 32_000, "pagerduty": 512 * 1024}


def strings(value: object) -> Iterator[str]:
    """Yield every string in a JSON value, names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (name, *strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def problem(service: str, data: bytes) -> str:
    """Return what the service has against a request's body; empty where it takes it."""
    try:
        body = json.loads(data.decode())
    except ValueError as error:
        return f"not JSON: {error}"
    check = _VALIDATORS[service]
    for wrong in check.iter_errors(body):
        return f"{'/'.join(map(str, wrong.absolute_path))}: {wrong.message[:500]}"
    if len(data) > SIZES.get(service, 1024 * 1024):
        return "the request is too large"
    return _together(service, body)


def _together(service: str, body: Any) -> str:
    """Return what is against it beyond the schema: sums, and what mentions somebody."""
    if service == "discord":
        for embed in body.get("embeds", ()):
            fields = [part for field in embed["fields"] for part in (field["name"], field["value"])]
            if sum(map(len, (embed.get("title", ""), embed.get("description", ""), *fields))) > 6000:
                return "Embed size exceeds maximum size of 6000"
    if service == "opsgenie" and sum(map(len, strings(body.get("details", {})))) > 8000:
        return "details must be 8000 characters or fewer"
    found = next((said for said in strings(_parsed(body)) if mentions(service, said)), None)
    return f"it mentions somebody: {found!a}" if found else ""


def _parsed(body: Any) -> Any:
    """Return a body without what Slack does not look for markup in."""
    if isinstance(body, list):
        return [_parsed(each) for each in body]
    if not isinstance(body, dict):
        return body
    return {} if body.get("type") == "plain_text" else {name: _parsed(each) for name, each in body.items()}


#: What notifies people when it stands in a message.
_MENTIONS = {
    "slack": re.compile(r"<[!@#]"),
    "discord": re.compile(r"(?<!\\)<(@[!&]?|#)\w|@(everyone|here)\b"),
    "mattermost": re.compile(r"@(all|channel|here)\b"),
    "googlechat": re.compile(r"<users/"),
}


def mentions(service: str, said: str) -> bool:
    return service in _MENTIONS and _MENTIONS[service].search(said) is not None


#: How each says that a request is wrong.
REFUSALS: dict[str, Callable[[str], tuple[int, object]]] = {
    "slack": lambda _: (400, "invalid_payload"),
    "discord": lambda why: (
        400,
        {"message": "Invalid Form Body", "code": 50035, "errors": {"content": {"_errors": [{"message": why}]}}},
    ),
    "teams": lambda why: (400, {"error": {"code": "TriggerInputSchemaMismatch", "message": why}}),
    "mattermost": lambda why: (400, {"id": "web.incoming_webhook.parse.app_error", "message": why, "status_code": 400}),
    "googlechat": lambda why: (400, {"error": {"code": 400, "message": why, "status": "INVALID_ARGUMENT"}}),
    "pagerduty": lambda why: (
        400,
        {"status": "invalid event", "message": "Event object is invalid", "errors": [why]},
    ),
    "opsgenie": lambda why: (422, {"message": "Request body is not processable.", "errors": {"message": why}}),
}


def _plainly(why: str) -> tuple[int, object]:
    return 400, why


#: The token of Slack's bot.
TOKEN = "xoxb-0123456789"

#: How each says that it has taken one, where that is not 200 without a body.
THANKS: dict[str, tuple[int, object]] = {
    "slack": (200, "ok"),
    "discord": (204, ""),
    "teams": (202, ""),
    "mattermost": (200, "ok"),
    "pagerduty": (202, {"status": "success", "message": "Event processed", "dedup_key": "key"}),
    "opsgenie": (202, {"result": "Request will be processed", "took": 0.1, "requestId": "1"}),
}


class Services(ThreadingHTTPServer):
    """All of them, each under a path of its name."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        #: What each has taken, with the request's headers.
        self.taken: dict[str, list[tuple[Mapping[str, str], Any]]] = {name: [] for name in (*SCHEMAS, *METHODS)}
        #: The alias in the path of each request to Opsgenie about the state of an alert.
        self.aliases: list[str] = []
        #: Messages of Slack that somebody has deleted.
        self.deleted: set[str] = set()
        #: Answers that come before any look at a request: status, headers, body.
        self.next_answers: list[tuple[int, Mapping[str, str], object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        services, path = cast("Services", self.server), urlsplit(self.path)
        service, *rest = path.path.strip("/").split("/")
        if rest:
            service = f"{service}/{rest[-1]}"
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if services.next_answers:
            self._answer(*services.next_answers.pop(0))
        elif why := problem(service, data):
            status, said = REFUSALS.get(service, _plainly)(why)
            self._answer(status, {}, said)
        else:
            services.taken[service].append((dict(self.headers), json.loads(data)))
            status, said = THANKS.get(service.partition("/")[0], (200, ""))
            if service.startswith("slack/"):
                said = self._slack(services, service, json.loads(data))
            elif service.startswith("opsgenie/"):
                assert path.query == "identifierType=alias"
                services.aliases.append(unquote(rest[0]))
            self._answer(status, {}, said)

    def _slack(self, services: Services, method: str, body: Any) -> object:
        """Return what Slack's API answers: where a message stands, or that there is no such message."""
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        place = f"1700000000.{len(services.taken['slack/chat.postMessage']):06}"
        if method == "slack/chat.update":
            place = body["ts"]
            if place in services.deleted:
                return {"ok": False, "error": "message_not_found"}
        return {"ok": True, "channel": "C024BE91L", "ts": place}

    def _answer(self, status: int, headers: Mapping[str, str], said: object) -> None:
        body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Services]:
    """Run all services."""
    services = Services()
    thread = threading.Thread(target=services.serve_forever, args=(0.01,), name="services")
    thread.start()
    try:
        yield services
    finally:
        services.shutdown()
        services.server_close()
        thread.join(10)
