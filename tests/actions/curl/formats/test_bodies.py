"""What each format sends: the service takes it, whatever the values are, and a person reads what matters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from receivers import SCHEMAS, mentions, problem, strings

from alarm_mw.actions.curl.formats.chat import slack_message
from alarm_mw.actions.curl.formats.requests import body_of
from alarm_mw.model.types import (
    DEFAULT_TEXTS,
    FieldNames,
    Firing,
    IncidentNotice,
    Machines,
    Place,
    Record,
    Stated,
    Texts,
    Trigger,
)
from alarm_mw.patterns.fields.facts import understood
from alarm_mw.texts.human import card_of
from alarm_mw.texts.message import Message, message_of

KEY = "0123456789abcdef0123456789abcdef"
PLACE = Place("web-3", "shop", {"team": "payments"})

TRACEBACK = (
    "payment 42 failed: card declined\n"
    "Traceback (most recent call last):\n"
    '  File "shop/pay.py", line 88, in charge\n'
    "processor.Unreachable: timed out after 6 s\n"
)

#: What each service could read as something else than text.
PIECES = [
    "payment failed",
    '"', "\\", "'", "{", "}}", "{host}", "${HOME}", "%s",
    "\n", "\r\n", "\0", "\x1b[2J", "\t",
    "<!channel>", "<!here|x>", "<@U123>", "<#C1>", "<https://evil.example|click>", "<users/all>", "<at>all</at>",
    "@everyone", "@here", "@channel", "@all", "\\@everyone", "\\<@1>", "`@here`",
    "```", "``` @everyone", "`", "**bold**", "_x_", "~~x~~", "[click](https://evil.example)", "![x](y)", "# head",
    "> quoted", "- item", "1. item", "|a|b|", "<b>bold</b>", "<script>alert(1)</script>", "&amp;", "&lt;!channel&gt;",
    "\u202e\u2066\u2028\ufeff\uffff", "\U0001f4a5" * 3, "é" * 5, "x" * 400, "\n" * 40,
]  # fmt: skip

texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=10), max_size=12).map("".join)
raw = st.one_of(texts.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=60))


LABELS = st.just({"severity": "critical"}) | st.dictionaries(st.sampled_from(["severity", "app", "team"]), texts)
NOTICES = st.none() | st.builds(
    IncidentNotice,
    texts.map(lambda text: f"a7f3{text[:20]}"),
    st.sampled_from(["firing", "reminder", "escalated", "flapping", "acknowledged", "resolved"]),
    st.just(1),
    st.just("a7f3-1-1"),
    st.just(1.8e9),
    key=st.dictionaries(texts, texts, max_size=3),
    ended=st.sampled_from([None, 1.8e9 + 60]),
    ended_by=st.sampled_from(["", "line", "timeout", "operator", "removed"]),
    end=texts,
    acknowledged_by=texts,
    acknowledged_at=st.sampled_from([None, 1.8e9 + 30]),
    told=st.lists(texts, max_size=3).map(tuple),
)


MACHINES = st.none() | st.builds(
    Machines, st.lists(texts, max_size=20).map(tuple), st.integers(0, 10**6), is_unreachable=st.booleans()
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Messages whose values are all chosen by an attacker, but for what the configuration says."""
    names = st.sampled_from(["user", "path", "method", "status", "duration", "order_id"]) | texts
    record = Record(
        draw(raw),
        "logging",
        1.8e9,
        "key",
        draw(st.sampled_from([0, 812])),
        draw(st.sampled_from([None, 0, 10, 30, 40, 50])),
        draw(texts),
        draw(st.dictionaries(names, texts, max_size=40)),
        stated=draw(st.none() | st.builds(Stated, texts, texts, st.lists(names, max_size=3).map(tuple))),
        before=draw(raw),
        after=draw(raw),
    )
    trigger = draw(st.none() | st.builds(Trigger, st.just("payments"), LABELS, st.just(5), incident=NOTICES))
    firing = Firing(
        "id-1", "hook", record.message, record, 1.8e9, draw(texts), draw(st.integers(0, 20)), trigger=trigger
    )
    firing = structs.replace(firing, machines=draw(MACHINES))
    if draw(st.booleans()):
        firing = structs.replace(firing, held_since=1.7e9)
    own = Texts("{app}: {headline|truncate:80}", "{message}\n{fields.user} {logger}")
    message = message_of(firing, PLACE, draw(st.sampled_from([DEFAULT_TEXTS, own])))
    url = draw(st.sampled_from(["", "https://alarms.example.org/i/a7f3"]))
    card = structs.replace(message.card, url=url)
    return structs.replace(message, card=card, facts=structs.replace(message.facts, url=url))


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=examples(40), deadline=None)
@given(values=st.dictionaries(st.sampled_from(["event", "level", "logger", "exception", "time"]) | texts, texts))
def test_a_service_takes_every_line_in_json(name: str, values: dict[str, str]) -> None:
    """Nothing that a line states as its event, level, logger, traceback or field is more than text."""
    line = json.dumps(values).encode()
    record = understood(Record(line, "stdout", 1.8e9, "key", before=line, after=line), FieldNames())
    message = message_of(Firing("id-1", "hook", line, record, record.time), PLACE)
    assert problem(name, body_of(message, name, KEY, "").data) == ""


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=examples(60), deadline=None)
@given(message=messages())
def test_a_service_takes_every_message(name: str, message: Message) -> None:
    """Its schema and limits hold, nobody is mentioned and nothing is refused, whatever the values are."""
    body = body_of(message, name, KEY, "")
    path = body.suffix.partition("?")[0].rpartition("/")[2]
    assert problem(f"{name}/{path}" if path else name, body.data) == ""
    assert body.suffix.isascii()
    assert body.suffix.count("/") in {0, 2}
    if name == "slack":
        post = {"channel": "#a", **slack_message(message)}
        assert problem("slack/chat.postMessage", json.dumps(post).encode()) == ""


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("piece", ["x", "\U0001f4a5", "<&>", "*_`@a", "\n", "\0", '"\\'])
def test_a_megabyte_is_cut(name: str, piece: str) -> None:
    """A message and a field of a megabyte each are shortened to what the service takes."""
    huge = piece * (1_000_000 // len(piece))
    record = Record(f"failed\n{huge}".encode(), "logging", 1.8e9, "k", 1, 40, huge, {"user": huge, huge[:99]: huge})
    message = message_of(Firing("id", "hook", record.message, record, 1.8e9, huge), PLACE)
    assert problem(name, body_of(message, name, KEY, "").data) == ""
    own = structs.replace(message, texts=Texts("{message}", "{message}{fields.user}"))
    assert problem(name, body_of(own, name, KEY, "").data) == ""


def message_with(message: str = TRACEBACK, **facts: Any) -> Message:
    record = Record(message.encode(), "logging", 1.8e9, "k", 812, 40, "shop.pay", {"order": "4211"})
    trigger = Trigger("payments", {"severity": "critical"}, 5, 60.0)
    found = message_of(Firing("id-1", "hook", record.message, record, 1.8e9, "fail", 14, trigger=trigger), PLACE)
    changed = structs.replace(found.facts, **facts)
    return Message(changed, card_of(changed))


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_matters_is_said(name: str) -> None:
    """Application, machine, what happened, rule, logger and the end of the traceback are in every format."""
    said = "\n".join(strings(json.loads(body_of(message_with(), name, KEY, "").data))).replace("\\", "")
    for fact in ("shop", "web-3", "payment 42 failed: card declined", "payments", "shop.pay", "timed out after 6 s"):
        assert fact in said


def test_a_webhook_of_alertmanager_names_the_rule() -> None:
    """A receiver made for Alertmanager finds the rule as `alertname`, host, app and labels, and both annotations."""
    body = json.loads(body_of(message_with(), "json", "", "").data)
    (alert,) = body["alerts"]
    assert alert["labels"] == {
        "alertname": "payments",
        "alarm": "hook",
        "host": "web-3",
        "app": "shop",
        "severity": "critical",
        "logger": "shop.pay",
        "team": "payments",
    }
    assert alert["annotations"]["summary"] == "CRITICAL shop@web-3: payment 42 failed: card declined"
    assert "Unreachable" in alert["annotations"]["description"]
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert (body["receiver"], body["status"]) == ("hook", "firing")


def of_fleet() -> Message:
    record = Record(b"db lost\n", "logging", 1.8e9, "k")
    machines = Machines(("web-1", "web-2"), 100)
    return message_of(Firing("id-1", "hook", record.message, record, 1.8e9, machines=machines), PLACE)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_machines_of_a_fleet_are_said(name: str) -> None:
    """Every format says on how many machines it is, and names the first of them."""
    said = "\n".join(strings(json.loads(body_of(of_fleet(), name, KEY, "").data))).replace("\\", "")
    assert "100" in said
    assert "web-1, web-2, …" in said


def test_the_labels_of_a_fleets_alert_name_no_machine() -> None:
    """What identifies an alert stays the same whichever machines have it, and an annotation names them."""
    (alert,) = json.loads(body_of(of_fleet(), "json", "", "").data)["alerts"]
    assert alert["labels"] == {"alertname": "hook", "alarm": "hook", "app": "shop", "team": "payments"}
    assert (alert["annotations"]["machines"], alert["annotations"]["machine_count"]) == ("web-1, web-2, …", "100")


def test_labels_get_names_that_prometheus_takes() -> None:
    """Every other character of a label's name becomes an underscore, and a digit does not come first."""
    record = Record(b"x\n", "stdout", 1.8e9, "k")
    message = message_of(
        Firing("id", "hook", b"x\n", record, 1.8e9), Place("h", "", {"a-b.c": "1", "2x": "2", "e": ""})
    )
    labels = json.loads(body_of(message, "json", "", "").data)["alerts"][0]["labels"]
    assert labels == {"alertname": "hook", "alarm": "hook", "host": "h", "a_b_c": "1", "_2x": "2"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("json", ("resolved", "2027-01-15T08:01:00.000Z")),
        ("alertmanager", (None, "2027-01-15T08:01:00.000Z")),
    ],
)
def test_an_end_is_told_to_alertmanager(name: str, expected: tuple[str | None, str]) -> None:
    """What is over has an end."""
    body = json.loads(body_of(message_with(status="resolved", ended=1.8e9 + 60), name, "", "").data)
    alert = body["alerts"][0] if name == "json" else body[0]
    assert (alert.get("status"), alert["endsAt"]) == expected


def test_what_is_over_is_resolved_at_pagerduty() -> None:
    """The event has the key of the incident, by which PagerDuty finds what it began with."""
    first = json.loads(body_of(message_with(incident="a7f3"), "pagerduty", KEY, "").data)
    last = json.loads(body_of(message_with(incident="a7f3", status="resolved"), "pagerduty", KEY, "").data)
    assert (first["event_action"], last["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == last["dedup_key"] == "a7f3"


def test_equal_events_have_one_key_at_pagerduty() -> None:
    """The same line of the same alarm is one alert there, another line another one."""

    def key(message: str) -> str:
        return str(json.loads(body_of(message_with(message), "pagerduty", KEY, "").data)["dedup_key"])

    assert key("a failed") == key("a failed")
    assert key("a failed") != key("b failed")


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        ("critical", ("critical", "P1", 0xC62828)),
        ("error", ("error", "P2", 0xE5532D)),
        ("warning", ("warning", "P3", 0xF2A600)),
        ("info", ("info", "P4", 0x2D7FE5)),
        ("debug", ("info", "P4", 0x808080)),
        ("page", ("critical", "P1", 0xE5532D)),
        ("of my own", ("error", "P2", 0xE5532D)),
    ],
)
def test_how_bad_it_is_is_said_in_the_services_own_words(severity: str, expected: tuple[str, str, int]) -> None:
    """PagerDuty's severity, Opsgenie's priority and Discord's color follow the label `severity`."""
    message = message_with(labels={"severity": severity})
    pagerduty, opsgenie, discord = (
        json.loads(body_of(message, name, KEY, "").data) for name in ("pagerduty", "opsgenie", "discord")
    )
    found = pagerduty["payload"]["severity"], opsgenie["priority"], discord["embeds"][0]["color"]
    assert found == expected


@pytest.mark.parametrize(
    ("status", "color", "title"),
    [
        ("firing", "#c62828", "\U0001f534 CRITICAL shop@web-3: "),
        ("reminder", "#c62828", "\U0001f534 REMINDER shop@web-3: "),
        ("acknowledged", "#7b5ea7", "\U0001f440 ACKNOWLEDGED shop@web-3: "),
        ("resolved", "#2e9e4f", "\u2705 RESOLVED shop@web-3: "),
    ],
)
def test_a_state_has_its_color_and_its_icon(status: str, color: str, title: str) -> None:
    """What is over is green, what somebody is on is violet, and all else has the color of its severity."""
    body = json.loads(body_of(message_with(status=status, labels={"severity": "critical"}), "slack", "", "").data)
    assert body["attachments"][0]["color"] == color
    assert body["text"].startswith(title)
    for name in ("discord", "teams", "mattermost", "googlechat"):
        shown = body_of(message_with(status=status, labels={"severity": "critical"}), name, "", "").data.decode()
        assert title[0] in json.dumps(json.loads(shown), ensure_ascii=False)


def test_a_button_opens_the_page() -> None:
    """Where there is a page, Slack, Teams, Discord, Mattermost, Google Chat and PagerDuty link to it."""
    url = "https://alarms.example.org/i/a7f3"
    message = message_with(url=url)
    for name in ("slack", "teams", "discord", "mattermost", "googlechat", "pagerduty", "json", "alertmanager"):
        assert url in list(strings(json.loads(body_of(message, name, KEY, "").data)))


def test_opsgenie_gets_its_key_in_a_header() -> None:
    """The key is in no body; without one the headers of the configuration are left to say it."""
    body = body_of(message_with(), "opsgenie", "secret-key", "")
    assert body.headers == {"Authorization": "GenieKey secret-key"}
    assert b"secret-key" not in body.data
    assert body_of(message_with(), "opsgenie", "", "").headers == {}


def test_text_is_for_people() -> None:
    """`format = "text"` is the default text as UTF-8."""
    body = body_of(message_with("é failed"), "text", "", "")
    assert body.content_type == "text/plain; charset=utf-8"
    assert body.data.decode().startswith("CRITICAL shop@web-3: é failed\n5 matches within 1 min (threshold 5)\n")


# JSON of one's own

WRITTEN = {"text": "{host}: {message}", "blocks": [{"n": 1, "on": True, "x": None, "user": "{fields.order}"}]}


@pytest.mark.parametrize("written", [WRITTEN, json.dumps(WRITTEN)])
def test_json_of_ones_own_has_the_facts_in_its_strings(written: dict[str, object] | str) -> None:
    """A table, or JSON as text: its strings are templates, the rest stays."""
    body = json.loads(body_of(message_with("failed"), "json", "", written).data)
    assert body == {"text": "web-3: failed", "blocks": [{"n": 1, "on": True, "x": None, "user": "4211"}]}


@settings(max_examples=examples(200), deadline=None)
@given(messages(), st.sampled_from(["", "json", "slack", "discord", "teams", "mattermost", "googlechat"]))
def test_no_value_changes_json_of_ones_own(message: Message, name: str) -> None:
    """A value is one string, exactly where its name stands; beside a chat's format, or none, it mentions nobody."""
    written: dict[str, object] = {"a": "{message}", "b": ["{fields.user|upper}", "{logger}"], "c": 1}
    body = json.loads(body_of(message, name, "", written).data)
    assert list(body) == ["a", "b", "c"]
    assert [type(each) for each in (body["a"], *body["b"], body["c"])] == [str, str, str, int]
    if name == "json":
        assert body["a"] == message.facts.message
    else:
        assert not any(mentions(name or "mattermost", said) for said in strings(body))
