"""Requests to services, by a server that refuses what they refuse; to a real Alertmanager."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import alertmanager_server
import httpx
import pytest
from msgspec import structs
from receivers import SCHEMAS, TOKEN, Services, serving
from waiting import until, wait_until

from alarm_mw.actions.curl import CurlAction, CurlOptions, open_alerts, slack_bot
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, IncidentNotice, Place, Record, Texts, Trigger

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with serving() as running:
        yield running


CONTEXT = ActionContext("hook", lambda _: None, place=Place("web-3", "shop"), texts=Texts())


def options(services: Services, name: str, **more: Any) -> CurlOptions:
    key = {"key": KEY} if name in {"pagerduty", "opsgenie"} else {}
    return CurlOptions(url=f"{services.url}/{name}", format=name, **{**key, **more})  # type: ignore[arg-type]


def firing(message: bytes = b"ERR x\n") -> Firing:
    return Firing("firing-1", "hook", message, Record(message, "stdout", 1.5e9, "key"), 1.5e9)


def deliver(chosen: CurlOptions, message: bytes = b"ERR x\n", context: ActionContext = CONTEXT) -> None:
    async def go() -> None:
        async with CurlAction(chosen, context) as action:
            await action.deliver(firing(message))

    asyncio.run(go())


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_service_takes_the_message(name: str, services: Services) -> None:
    """It is posted, and the service has it, with the firing's id as idempotency key."""
    deliver(options(services, name), b"payment 42 failed: <!channel> @everyone\n")
    headers, _ = services.taken[name][-1]
    assert headers["Content-Type"].startswith("application/")
    assert headers["Idempotency-Key"].startswith("firing-")


@pytest.mark.parametrize("name", ["slack", "pagerduty"])
def test_formats_work_in_an_ini_file_too(name: str, services: Services) -> None:
    """`curl:URL;format=slack` is enough."""
    chosen = CurlAction.from_uwsgi(f"{services.url}/{name};format={name};key={KEY}")
    assert isinstance(chosen, CurlOptions)
    deliver(chosen, context=ActionContext("hook", lambda _: None))
    assert services.taken[name]


def test_a_method_of_ones_own_is_used(services: Services) -> None:
    """With a format it is POST, without one PUT, unless the configuration says otherwise."""
    url = f"{services.url}/slack"
    assert CurlOptions(url=url).http_method == "PUT"
    assert CurlOptions(url=url, format="slack").http_method == "POST"
    assert CurlOptions(url=url, json={"a": 1}).http_method == "POST"
    assert CurlOptions(url=url, format="slack", method="PUT").http_method == "PUT"


def test_headers_of_ones_own_win(services: Services) -> None:
    """A Content-Type of the configuration is the only one that is sent."""
    deliver(options(services, "json", headers={"content-type": "application/x"}))
    assert services.taken["json"][-1][0]["content-type"] == "application/x"


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("slack", (400, {}, "invalid_payload"), "HTTP 400: invalid_payload"),
        ("slack", (404, {}, "no_service"), "HTTP 404: no_service"),
        (
            "discord",
            (400, {}, {"message": "Invalid Form Body", "errors": {"content": {"_errors": [{"message": "Too long."}]}}}),
            "HTTP 400: Invalid Form Body; content: Too long.",
        ),
        (
            "pagerduty",
            (400, {}, {"status": "invalid event", "message": "Event object is invalid", "errors": ["no source"]}),
            "HTTP 400: Event object is invalid; no source",
        ),
        ("otlp", (200, {}, {"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "no"}}), "rejected: no"),
        ("slack", (200, {}, {"ok": False, "error": "channel_not_found"}), "channel_not_found"),
    ],
)
def test_what_a_service_complains_of_is_the_error(
    name: str,
    answer: tuple[int, dict[str, str], object],
    expected: str,
    services: Services,
) -> None:
    """A dead letter says what was wrong in the service's own words; trying again cannot help."""
    services.next_answers.append(answer)
    with pytest.raises(ActionError) as error:
        deliver(options(services, name))
    assert str(error.value).endswith(expected)
    assert not error.value.retry


@pytest.mark.parametrize(
    ("headers", "said", "seconds"),
    [
        ({}, {"message": "You are being rate limited.", "retry_after": 0.65, "global": False}, 0.65),
        ({"Retry-After": "30"}, "", 30.0),
        ({"Retry-After": "30"}, {"retry_after": 1}, 30.0),
        ({}, {"retry_after": 1e9}, 3600.0),
        ({}, "slow down", None),
    ],
)
def test_a_service_is_left_alone_for_as_long_as_it_asks(
    headers: dict[str, str],
    said: object,
    seconds: float | None,
    services: Services,
) -> None:
    """429 is tried again, after the seconds in the header or else in the JSON body, an hour at most."""
    services.next_answers.append((429, headers, said))
    with pytest.raises(ActionError) as error:
        deliver(options(services, "discord"))
    assert (error.value.retry, error.value.after) == (True, seconds)


def test_the_key_is_shown_nowhere(services: Services) -> None:
    """A service that echoes the request does not get the key into an error, and a preview has stars for it."""
    services.next_answers.append((400, {}, {"message": f"bad key {KEY}"}))
    with pytest.raises(ActionError) as error:
        deliver(options(services, "pagerduty"))
    assert KEY not in str(error.value)
    for name in ("pagerduty", "opsgenie"):
        chosen = options(services, name)
        assert KEY not in repr(chosen)
        assert KEY not in CurlAction(chosen, CONTEXT).preview(firing())


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"url": "smtp://h", "mail_to": ("a@example.org",), "format": "slack"}, "format and json are for http://"),
        ({"url": "https://h", "format": "pagerduty"}, "needs the routing key"),
        ({"url": "https://h", "format": "opsgenie"}, "needs the key of an API integration"),
        ({"url": "https://h", "format": "opsgenie", "key": "é"}, "key is not printable ASCII"),
        ({"url": "https://h", "format": "otlp", "json": {"a": "b"}}, 'json beside format = "otlp"'),
        ({"url": "https://h", "format": "teams", "channel": "#a"}, 'channel is for format = "slack"'),
        ({"url": "https://h", "format": "slack", "channel": "#a"}, "channel needs the token of a bot"),
        ({"url": "https://h", "format": "slack", "channel": "#a", "key": "k"}, "channel needs url = "),
        ({"url": "https://h", "json": "{"}, "json: not JSON"),
        ({"url": "https://h", "json": '"x"'}, "json: expected a table or an array"),
        ({"url": "https://h", "json": {"a": ["{hots}", "{x"]}}, "unknown name 'hots' (did you mean 'host'?)"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(more: dict[str, Any], problem: str) -> None:
    """Keys that are missing, formats of what is no web server, templates that mean nothing."""
    with pytest.raises(ValueError, match=problem.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        CurlOptions(**more)


def test_a_key_in_the_headers_is_enough_for_opsgenie() -> None:
    """Whoever writes the header does not need `key`."""
    assert CurlOptions(url="https://h", format="opsgenie", headers={"Authorization": "GenieKey x"}).key == ""


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with alertmanager_server.serving(tmp_path_factory.mktemp("alertmanager")) as url:
        yield url


def test_alertmanager_takes_an_alert(alertmanager: str) -> None:
    """The real one has the alert, with its labels and annotations, and it is active."""
    chosen = CurlOptions(url=f"{alertmanager}/api/v2/alerts", format="alertmanager")
    deliver(chosen, b'payment 42 "failed"\\ <b>\n')
    (alert,) = httpx.get(f"{alertmanager}/api/v2/alerts", timeout=5).json()
    assert alert["labels"] == {"alertname": "hook", "alarm": "hook", "app": "shop", "host": "web-3"}
    assert alert["annotations"]["summary"] == 'shop@web-3: payment 42 "failed"\\ <b>'
    assert alert["status"]["state"] in {"unprocessed", "active"}


# What follows from the state of an incident


def about(status: str, n: int = 1, **facts: Any) -> Firing:
    """Return the nth message about an incident."""
    ended = {"ended": 1.5e9 + 700, "ended_by": "line", "end": "processor is back"} if status == "resolved" else {}
    notice = IncidentNotice("a7f3", status, 1, "a7f3-1-1", 1.5e9, count=212, **{**ended, **facts})
    record = Record(b"payment failed\n", "stdout", 1.5e9, "key")
    trigger = Trigger("payments", {"severity": "critical"}, incident=notice)
    return Firing(f"a7f3-1-1-{n}.hook", "hook", record.message, record, 1.5e9 + n, "failed", trigger=trigger)


def deliver_all(chosen: CurlOptions, *firings: Firing, then: Callable[[], Awaitable[None]] | None = None) -> None:
    async def go() -> None:
        async with CurlAction(chosen, CONTEXT) as action:
            for each in firings:
                await action.deliver(each)
            if then is not None:
                await then()

    asyncio.run(go())


ACKNOWLEDGED = {"acknowledged_by": "kim", "acknowledged_at": 1.5e9 + 120}
LIFE = (
    about("firing"),
    about("reminder", 2),
    about("acknowledged", 3, **ACKNOWLEDGED),
    about("resolved", 4, **ACKNOWLEDGED),
)


def test_pagerduty_follows_an_incident(services: Services) -> None:
    """Its alert is triggered, acknowledged and resolved, by one key."""
    services.taken["pagerduty"].clear()
    deliver_all(options(services, "pagerduty"), *LIFE)
    taken = [body for _, body in services.taken["pagerduty"]]
    assert [body["event_action"] for body in taken] == ["trigger", "trigger", "acknowledge", "resolve"]
    assert {body["dedup_key"] for body in taken} == {"a7f3"}
    assert taken[-1]["payload"]["summary"] == "RESOLVED shop@web-3: payment failed"


def test_opsgenie_follows_an_incident(services: Services) -> None:
    """Its alert is created, acknowledged by somebody, and closed, by its alias in the path."""
    services.aliases.clear()
    deliver_all(options(services, "opsgenie"), *LIFE)
    assert [body["alias"] for _, body in services.taken["opsgenie"][-2:]] == ["a7f3", "a7f3"]
    (headers, acknowledged), (_, closed) = (services.taken[f"opsgenie/{path}"][-1] for path in ("acknowledge", "close"))
    assert headers["Authorization"] == f"GenieKey {KEY}"
    assert (acknowledged["user"], acknowledged["source"]) == ("kim", "web-3")
    assert closed["note"].startswith("RESOLVED shop@web-3: payment failed\nlasted 11 min 40 s, 212 matches, ")
    assert services.aliases == ["a7f3", "a7f3"]


def test_a_bot_of_slack_changes_its_message(services: Services) -> None:
    """One message follows the incident's state by color and title, and what a person must learn is in its thread."""
    posts, updates = (services.taken[f"slack/{method}"] for method in ("chat.postMessage", "chat.update"))
    posts.clear()
    deliver_all(bot(services), *LIFE)
    (_, first), (_, reminder), (_, end) = posts
    assert first["channel"] == "#alarms"
    assert "CRITICAL shop@web-3: " in first["text"]
    assert [each["thread_ts"] for each in (reminder, end)] == ["1700000000.000001"] * 2
    assert end["text"] == "\u2705 RESOLVED shop@web-3: payment failed"
    assert [(body["channel"], body["ts"]) for _, body in updates] == [("C024BE91L", "1700000000.000001")] * 3
    assert [body["text"].split(" ")[1] for _, body in updates] == ["REMINDER", "ACKNOWLEDGED", "RESOLVED"]
    assert updates[-1][1]["attachments"][0]["color"] == "#2e9e4f"


def test_a_message_that_was_deleted_is_posted_anew(services: Services) -> None:
    """Nobody misses the end because somebody has tidied up."""
    posts = services.taken["slack/chat.postMessage"]
    posts.clear()
    services.deleted.add("1700000000.000001")
    try:
        deliver_all(bot(services), LIFE[0], LIFE[3])
    finally:
        services.deleted.clear()
    assert [body["text"].split(" ")[1] for _, body in posts] == ["CRITICAL", "RESOLVED"]


def test_a_bot_posts_what_is_no_incident(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is one of its own; how many are remembered is bounded; a wrong token is refused for good."""
    posts, updates = (services.taken[f"slack/{method}"] for method in ("chat.postMessage", "chat.update"))
    posts.clear()
    updates.clear()
    monkeypatch.setattr(slack_bot, "MOST", 1)
    other = structs.replace(LIFE[0], trigger=Trigger(incident=IncidentNotice("b", "firing", 1, "b-1-1", 1.5e9)))
    deliver_all(bot(services), firing(), firing(), LIFE[0], other, LIFE[1])
    assert (len(posts), len(updates)) == (5, 0)
    with pytest.raises(ActionError, match="invalid_auth") as error:
        deliver_all(bot(services, key="xoxb-wrong"), firing())
    assert not error.value.retry
    services.next_answers += [(200, {}, {"ok": True, "ts": "1", "channel": "C1"}), (500, {}, "")]
    with pytest.raises(ActionError, match="HTTP 500"):
        deliver_all(bot(services), LIFE[0], LIFE[1])


def bot(services: Services, key: str = TOKEN) -> CurlOptions:
    return CurlOptions(url=f"{services.url}/slack/chat.postMessage", format="slack", key=key, channel="#alarms")


def alerts_of(alertmanager: str, name: str) -> list[dict[str, Any]]:
    found = httpx.get(f"{alertmanager}/api/v2/alerts", timeout=5).json()
    return [alert for alert in found if alert["labels"]["alertname"] == name]


def test_alertmanager_has_an_open_incident_until_it_is_over(alertmanager: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one is sent it again before it would forget it, and is told of its end."""
    monkeypatch.setattr(open_alerts, "REFRESH", 0.05)
    monkeypatch.setattr(open_alerts, "LASTS", 5.0)
    ends: list[str] = []

    async def refreshed() -> None:
        def newer() -> bool:
            (alert,) = alerts_of(alertmanager, "payments")
            ends.append(alert["endsAt"])
            return len({*ends}) > 2  # sent again, and again

        await until(newer)

    chosen = CurlOptions(url=f"{alertmanager}/api/v2/alerts", format="alertmanager")
    deliver_all(chosen, *LIFE[:3], then=refreshed)
    (alert,) = alerts_of(alertmanager, "payments")
    assert alert["labels"]["incident"] == "a7f3"
    assert alert["startsAt"] == "2017-07-14T02:40:00.000Z"
    deliver_all(chosen, LIFE[3])
    wait_until(lambda: alerts_of(alertmanager, "payments") == [])


def test_alertmanager_is_told_of_the_end_last(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is over is not sent again, and what could not be sent again is tried later; the log says so once."""
    monkeypatch.setattr(open_alerts, "REFRESH", 0.01)
    monkeypatch.setattr(open_alerts, "MOST", 1)
    monkeypatch.setattr(open_alerts, "AT_ONCE", 1)
    taken = services.taken["alertmanager"]
    taken.clear()
    services.next_answers += [(200, {}, ""), (200, {}, ""), (503, {}, "busy"), (503, {}, "busy")]
    other = structs.replace(LIFE[0], trigger=Trigger(incident=IncidentNotice("b", "firing", 1, "b-1-1", 1.5e9)))

    async def go() -> None:
        async with CurlAction(options(services, "alertmanager"), CONTEXT) as action:
            await action.deliver(other)
            await action.deliver(LIFE[0])
            await until(lambda: len(taken) >= 2)  # after the failures
            await action.deliver(LIFE[3])

    with caplog.at_level("WARNING", "alarm_mw.actions.curl.open_alerts"):
        asyncio.run(go())
    *again, last = [body for _, body in taken]
    assert {alert["labels"]["incident"] for body in again for alert in body} == {"a7f3"}
    assert last[0]["endsAt"] == "2017-07-14T02:51:40.000Z"
    assert [record.message for record in caplog.records] == [
        f"alarm hook: open alerts could not be sent again: {services.url}: HTTP 503: busy"
    ]


def test_alertmanagers_own_complaint_is_the_error(alertmanager: str) -> None:
    """What it refuses is said in its words, and is not tried again."""
    chosen = CurlOptions(url=f"{alertmanager}/api/v2/alerts", format="slack")
    with pytest.raises(ActionError, match="HTTP 400: ") as error:
        deliver(chosen)
    assert not error.value.retry
