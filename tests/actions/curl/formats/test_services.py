"""Requests to services, by a server that refuses what they refuse; to a real Alertmanager."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import alertmanager_server
import httpx
import pytest
from receivers import SCHEMAS, Services, serving

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Place, Record, Texts

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


def test_alertmanagers_own_complaint_is_the_error(alertmanager: str) -> None:
    """What it refuses is said in its words, and is not tried again."""
    chosen = CurlOptions(url=f"{alertmanager}/api/v2/alerts", format="slack")
    with pytest.raises(ActionError, match="HTTP 400: ") as error:
        deliver(chosen)
    assert not error.value.retry
