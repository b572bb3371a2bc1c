"""Our own API, held against the OpenAPI document that is made from its code."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import jsonschema
import pytest
from openapi_client import Api, use_every_operation
from web_configuration import HEARTBEATS, KARMA, ROBOT
from web_page import CONFIGURATION, Page


@pytest.fixture
def page(make_page: Callable[..., Page]) -> Page:
    page = make_page(CONFIGURATION + HEARTBEATS)
    page.line("payment 42 failed: card declined", "disk full")
    return page


@pytest.fixture
def api(page: Page) -> Api:
    return client_of(page, ROBOT)


def client_of(page: Page, headers: dict[str, str]) -> Api:
    client = page.client()
    document = client.get("/api/1/openapi.json", headers=ROBOT).content

    def send(method: str, url: str, body: bytes) -> tuple[int, bytes]:
        if url == "/api/1/openapi.json":
            return 200, document
        answer = client.request(method, url, content=body, headers=headers)
        return answer.status_code, answer.content

    return Api(send)


def test_the_document_is_valid_and_names_everything(api: Api) -> None:
    """Each operation has a name of its own, a summary, and no reference leads nowhere."""
    document = api.document
    assert document["openapi"] == "3.1.0"
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len({*names}) == len(names)
    assert all(operation["summary"].endswith((".", ":")) or operation["summary"] for operation in operations)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = re.findall(r"'#/components/schemas/(\w+)'", str(document))
    assert {*references} <= {*document["components"]["schemas"]}


def test_every_operation_is_used(api: Api) -> None:
    """Each answer is as documented."""
    use_every_operation(api)


@pytest.mark.parametrize(
    ("asked", "body", "status", "text"),
    [
        ("GET /api/1/incidents?al=1", None, 400, "unknown field `al`"),
        ("GET /api/1/incidents?all=perhaps", None, 400, "bool"),
        ("GET /api/1/incidents/none", None, 404, "there is no incident 'none'"),
        ("GET /api/1/history?since=-1", None, 400, ">= 0"),
        ("POST /api/1/incidents/ack", {"ids": []}, 400, "length >= 1"),
        ("POST /api/1/incidents/ack", {"ids": ["x"], "second": 1}, 400, "second"),
        ("POST /api/1/letters/drop", {}, 400, "no letters selected"),
        ("POST /api/1/letters/drop", {"ids": [1], "all": True}, 400, "expected one of them"),
        ("POST /api/1/silences", {"targets": ["disc"], "seconds": 60}, 404, "unknown alarm 'disc'"),
        ("POST /api/1/silences", {"targets": ["mail"], "seconds": 1e9}, 400, "30 days"),
        ("POST /api/1/silences/expire", {"targets": ["none"]}, 404, "there is no silence 'none'"),
        ("POST /api/1/silences/expire", {}, 400, "give targets, or all"),
        ("POST /api/1/delivery/fax/test", None, 404, "there is no alarm 'fax'"),
        ("POST /api/1/delivery/fax/retry", None, 404, "there is no alarm 'fax'"),
        ("POST /ping/stranger", None, 404, "expects 'stranger'"),
        ("POST /ping/backup?every=soon", None, 400, "expected a time"),
    ],
)
def test_what_is_wrong_is_refused(api: Api, asked: str, body: object, status: int, text: str) -> None:
    """With a sentence for people, as documented; nothing is done."""
    method, url = asked.split(maxsplit=1)
    assert text in api(method, url, status, json=body)["error"]


def test_roles_and_tokens(page: Page, api: Api) -> None:
    """Without a token nothing is shown; who may look may not act."""
    reader, stranger = client_of(page, KARMA), client_of(page, {})
    for method, path in api.operations:
        url = path.replace("{", "").replace("}", "")
        stranger(method, url, 401)
        if method != "GET":
            reader(method, url, 403)


def test_a_body_has_a_bound(page: Page) -> None:
    """More than a megabyte is not read."""
    answer = page.client().post("/api/1/incidents/ack", content=b"[" * 10_000_000, headers=ROBOT)
    assert answer.status_code == 413


def test_the_page_shows_each_operation_and_type(page: Page, api: Api) -> None:
    """Made of the same document; nothing is loaded from elsewhere."""
    text = page.logged_in().get("/api").text
    assert all(f"{method} {path}" in text for method, path in api.operations)
    for name in api.document["components"]["schemas"]:
        assert name in text
    assert not re.search(r'(?:src|href)="https?://', text)
    assert page.client().get("/api").status_code == 303


def test_times_are_since_the_epoch(api: Api) -> None:
    """Of the machine's clock, whatever clock incidents go by."""
    (disk,) = api("GET", "/api/1/incidents?filter=disk")
    assert disk["started"] == pytest.approx(time.time(), abs=60)
    assert disk["acknowledged_until"] is None
    api("POST", "/api/1/incidents/ack", json={"ids": [disk["id"]], "seconds": 3600})
    (disk,) = api("GET", "/api/1/incidents?filter=disk")
    assert disk["acknowledged_until"] == pytest.approx(time.time() + 3600, abs=60)


@pytest.mark.parametrize(
    ("target", "covers", "doubts"),
    [
        ("rule=payments", 1, []),
        ("sms", 1, []),
        ("order=~.+", 1, []),
        ("alarm=smss", 0, ["there is no alarm 'smss' (did you mean 'sms'?)"]),
        ("rul=payments", 0, ["no rule has the label 'rul' (did you mean 'rule'?)"]),
        ("rule=payment", 0, ["there is no rule 'payment' (did you mean 'payments'?)"]),
    ],
)
def test_a_silence_says_what_it_covers(api: Api, target: str, covers: int, doubts: list[str]) -> None:
    """A misspelled matcher is accepted, since it may be meant for later, and named."""
    silence = api("POST", "/api/1/silences", json={"targets": [target], "seconds": 60})
    is_open = len(api("GET", "/api/1/incidents"))
    assert (silence["covers"], silence["open"], silence["doubts"]) == (covers, is_open, doubts)


def test_a_silence_is_ended_by_what_is_at_hand(api: Api) -> None:
    """The beginning of its id is enough if it is unique; so are its matchers, in any order."""

    def expire(*targets: str) -> list[str]:
        return [each["id"] for each in api("POST", "/api/1/silences/expire", json={"targets": targets})]

    def put(*targets: str) -> str:
        return str(api("POST", "/api/1/silences", json={"targets": targets, "seconds": 60})["id"])

    name, other = put("rule=payments", 'order=~"4.*"'), put("rule=disk")
    assert expire('order=~"4.*"', 'rule="payments"') == [name]
    assert expire(other[:8]) == [other]
    begun: dict[str, str] = {}
    while (name := put(f"order={len(begun)}"))[0] not in begun:
        begun[name[0]] = name
    for target, text in (
        (name[0], "several silences begin with"),
        ("rule=disk", 'there is no silence rule="disk" in force'),
        ("rule=", "expected a value"),
        ("none", "there is no silence 'none' in force"),
    ):
        assert text in api("POST", "/api/1/silences/expire", 404, json={"targets": [target]})["error"]
