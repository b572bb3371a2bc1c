"""Alertmanager's API v2, held against its OpenAPI document."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from starlette.testclient import TestClient
from waiting import wait_until
from web_configuration import ALARMS, KARMA, ROBOT, TOKENS, configuration
from web_page import HOSTS, Page

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "alertmanager.yaml").read_text(encoding="utf-8"))

INHIBITING = """
[[rules]]
name = "host"
pattern = 'host (?P<host>\\S+) down'
key = ["host"]
resolve_after = "1h"
labels = { severity = "critical" }
alarms = ["mail"]
[[rules]]
name = "disk"
pattern = 'disk of (?P<host>\\S+) full'
key = ["host"]
resolve_after = "1h"
labels = { severity = "warning" }
alarms = ["mail", "sms"]
[[inhibit_rules]]
source_matchers = ['rule="host"']
target_matchers = ['severity="warning"']
equal = ["host"]
"""

INHIBITED = configuration(TOKENS, ALARMS, INHIBITING, more=HOSTS)


@pytest.fixture
def client(page: Page) -> TestClient:
    """Give a program with a token, and a page with two incidents."""
    page.line("payment 42 failed: card declined", "disk full")
    client = page.client()
    client.headers.update(ROBOT)
    return client


def conforms(path: str, answer: Any, method: str = "get") -> Any:
    """Return the value of an answer that is as the document says."""
    assert answer.status_code == 200, answer.text
    schema = DOCUMENT["paths"][path][method]["responses"]["200"].get("schema")
    value = answer.json() if answer.content else None
    if schema is not None:
        jsonschema.validate(value, {**schema, "definitions": DOCUMENT["definitions"]}, format_checker=FORMATS)
    return value


FORMATS = jsonschema.FormatChecker()


@FORMATS.checks("date-time")
def _is_time(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


def silence(**values: Any) -> dict[str, Any]:
    now = time.time()
    made = {
        "matchers": [{"name": "alertname", "value": "disk", "isRegex": False, "isEqual": True}],
        "startsAt": datetime.fromtimestamp(now, UTC).isoformat(),
        "endsAt": datetime.fromtimestamp(now + 3600, UTC).isoformat(),
        "createdBy": "kim",
        "comment": "a new disk is on its way",
    }
    return {**made, **values}


def operations() -> Iterator[tuple[str, str]]:
    for path, methods in DOCUMENT["paths"].items():
        yield from ((path, method) for method in methods if method != "parameters")


@pytest.mark.parametrize(("path", "method"), list(operations()))
def test_every_operation_of_the_document_is_there(client: TestClient, path: str, method: str) -> None:
    """None is unknown, and none is done without a token."""
    url = "/api/v2" + path.replace("{silenceID}", "00000000-0000-0000-0000-000000000000")
    answer = client.request(method, url, json=[] if path == "/alerts" else {})
    assert answer.status_code != 405
    assert answer.status_code != 404 or "{silenceID}" in path
    client.headers.clear()
    assert client.request(method, url).status_code == 401


def test_open_incidents_are_alerts(client: TestClient) -> None:
    """With the rule as name, their labels, the line that says what happened, and the alarms as receivers."""
    disk, payment = sorted(
        conforms("/alerts", client.get("/api/v2/alerts")), key=lambda each: each["labels"]["alertname"]
    )
    assert payment["labels"] == {"alertname": "payments", "order": "42", "severity": "critical"}
    assert payment["annotations"]["summary"] == "payment 42 failed: card declined"
    assert payment["receivers"] == [{"name": "mail"}, {"name": "sms"}]
    assert payment["generatorURL"] == f"http://alarms.example.org/i/{payment['fingerprint']}"
    assert payment["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}
    assert datetime.fromisoformat(payment["startsAt"]).timestamp() == pytest.approx(time.time(), abs=60)
    assert datetime.fromisoformat(payment["endsAt"]).timestamp() > time.time()
    assert disk["labels"]["alertname"] == "disk"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["disk", "payments"]),
        ('filter=alertname="disk"', ["disk"]),
        ('filter=severity=~"crit.*"&filter=order="42"', ["payments"]),
        ('filter={alertname="disk",severity!="critical"}', ["disk"]),
        ("receiver=sms", ["payments"]),
        ("receiver=mai", []),
        ("receiver=mail|sms", ["disk", "payments"]),
        ("active=false", []),
        ("silenced=false&inhibited=false&unprocessed=false", ["disk", "payments"]),
    ],
)
def test_alerts_are_selected(client: TestClient, query: str, names: list[str]) -> None:
    """By matchers, receiver and state, in both forms of the list."""
    found = conforms("/alerts", client.get(f"/api/v2/alerts?{query}"))
    assert sorted(each["labels"]["alertname"] for each in found) == names
    groups = conforms("/alerts/groups", client.get(f"/api/v2/alerts/groups?{query}"))
    assert sorted({group["labels"]["alertname"] for group in groups}) == names


@pytest.mark.parametrize("query", ["filter=disk", 'filter=a=~"("', "receiver=(", "active=perhaps"])
def test_a_wrong_selection_is_refused(client: TestClient, query: str) -> None:
    """With a text that says what is wrong, as the document has it."""
    for path in ("alerts", "alerts/groups"):
        answer = client.get(f"/api/v2/{path}?{query}")
        assert answer.status_code == 400
        assert isinstance(answer.json(), str)


def test_groups_have_one_name_and_one_receiver(client: TestClient) -> None:
    """An alert of two receivers is in a group of each; one whose alerts are all silenced is left out on demand."""
    groups = conforms("/alerts/groups", client.get("/api/v2/alerts/groups"))
    found = [(group["receiver"]["name"], group["labels"]["alertname"], len(group["alerts"])) for group in groups]
    assert found == [("mail", "disk", 1), ("mail", "payments", 1), ("sms", "payments", 1)]
    only = conforms("/alerts/groups", client.get("/api/v2/alerts/groups?receiver=sms"))
    assert [group["receiver"]["name"] for group in only] == ["sms"]
    client.post("/api/v2/silences", json=silence()).raise_for_status()
    unmuted = conforms("/alerts/groups", client.get("/api/v2/alerts/groups?muted=false"))
    assert {group["labels"]["alertname"] for group in unmuted} == {"payments"}


def test_a_silence_lives_as_in_alertmanager(client: TestClient) -> None:
    """Created, listed, found by its id, updated, and expired; the alerts that it holds name it."""
    name = conforms("/silences", client.post("/api/v2/silences", json=silence()), "post")["silenceID"]
    (alert,) = conforms("/alerts", client.get('/api/v2/alerts?filter=alertname="disk"'))
    assert (alert["status"]["state"], alert["status"]["silencedBy"]) == ("suppressed", [name])
    assert conforms("/alerts", client.get('/api/v2/alerts?filter=alertname="disk"&silenced=false')) == []
    shown = conforms("/silence/{silenceID}", client.get(f"/api/v2/silence/{name}"))
    assert shown["status"] == {"state": "active"}
    assert (shown["createdBy"], shown["comment"]) == ("kim (robot)", "a new disk is on its way")
    assert shown["matchers"] == silence()["matchers"]
    later = {**shown, "endsAt": datetime.fromtimestamp(time.time() + 7200, UTC).isoformat()}
    again = conforms("/silences", client.post("/api/v2/silences", json=later), "post")["silenceID"]
    assert again == name
    (listed,) = conforms("/silences", client.get("/api/v2/silences"))
    assert listed["createdBy"] == "kim (robot)"
    assert client.delete(f"/api/v2/silence/{name}").status_code == 200
    assert client.delete(f"/api/v2/silence/{name}").status_code == 404
    (ended,) = conforms("/silences", client.get("/api/v2/silences"))
    assert ended["status"]["state"] == "expired"
    assert conforms("/silences", client.get("/api/v2/silences?expired=false")) == []
    assert client.get("/api/v2/silence/none").status_code == 404


def test_silences_are_selected_by_their_matchers(client: TestClient) -> None:
    """As Alertmanager does: a filter looks at the values of a silence's matchers."""
    other = [{"name": "order", "value": "4.*", "isRegex": True, "isEqual": False}]
    starts = datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
    client.post("/api/v2/silences", json=silence()).raise_for_status()
    client.post("/api/v2/silences", json=silence(matchers=[*silence()["matchers"], *other], startsAt=starts))
    found = conforms("/silences", client.get('/api/v2/silences?filter=alertname="disk"'))
    assert [each["status"]["state"] for each in found] == ["active", "pending"]
    (pending,) = conforms("/silences", client.get('/api/v2/silences?filter=order="4.*"'))
    assert other[0] in pending["matchers"]
    assert client.get("/api/v2/silences?filter=x").status_code == 400


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"endsAt": "2020-01-01T00:00:00Z"}, "end"),
        ({"endsAt": "2099-01-01T00:00:00Z"}, "30 days"),
        ({"matchers": []}, "matchers"),
        ({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "regexp"),
        ({"startsAt": "soon"}, "RFC3339"),
    ],
)
def test_a_wrong_silence_is_refused(client: TestClient, values: dict[str, Any], text: str) -> None:
    """With a text that says what is wrong; nothing is silenced."""
    answer = client.post("/api/v2/silences", json=silence(**values))
    assert answer.status_code == 400
    assert text in answer.json()
    assert client.post("/api/v2/silences", json=silence(id="none")).status_code == 404
    assert client.get("/api/v2/silences").json() == []


def test_an_inhibited_alert_names_what_inhibits_it(make_page: Callable[..., Page]) -> None:
    """By the fingerprint of that one; it is left out where inhibited alerts are not wanted."""
    page = make_page(INHIBITED)
    page.line("host eu-1 down", "disk of eu-1 full", "disk of us-1 full")
    client = page.client()
    client.headers.update(ROBOT)
    (source,) = conforms("/alerts", client.get('/api/v2/alerts?filter=alertname="host"'))
    (held,) = conforms("/alerts", client.get('/api/v2/alerts?filter=alertname="disk"&filter=host="eu-1"'))
    assert held["status"]["inhibitedBy"] == [source["fingerprint"]]
    assert held["status"]["state"] == "suppressed"
    free = conforms("/alerts", client.get('/api/v2/alerts?filter=alertname="disk"&inhibited=false'))
    assert [each["labels"]["host"] for each in free] == ["us-1"]


def test_a_silence_of_one_alarm_leaves_an_alert_active(client: TestClient) -> None:
    """Another alarm still sends it: it is suppressed only where every receiver is silenced."""
    alarm = [{"name": "alarm", "value": "sms", "isRegex": False, "isEqual": True}]
    client.post("/api/v2/silences", json=silence(matchers=alarm)).raise_for_status()
    (alert,) = conforms("/alerts", client.get('/api/v2/alerts?filter=alertname="payments"'))
    assert alert["status"]["state"] == "active"


TAKING = (
    INHIBITED.split("[[inhibit_rules]]", maxsplit=1)[0]
    + """
[[monitors]]
monitor = "alerts"
name = "prometheus"
names = ["Node*", "Target*"]
alarms = ["mail"]
[[monitors]]
monitor = "alerts"
name = "NodeDown"
labels = { team = "ops" }
alarms = ["sms"]
"""
)


@pytest.fixture
def taking(make_page: Callable[..., Page]) -> TestClient:
    """Give a program with a token, and a page whose monitors take alerts."""
    client = make_page(TAKING).client()
    client.headers.update(ROBOT)
    return client


def posted(name: str, seconds: float | None = None, **labels: str) -> dict[str, Any]:
    """Return an alert that ends in so many seconds, as Prometheus posts it."""
    now = time.time()
    times = {"startsAt": datetime.fromtimestamp(now - 60, UTC).isoformat()}
    if seconds is not None:
        times["endsAt"] = datetime.fromtimestamp(now + seconds, UTC).isoformat()
    annotations = {"summary": f"{name} of {labels.get('instance')}", "runbook": "https://wiki.example.org/x"}
    made = {"labels": {"alertname": name, **labels}, "annotations": annotations}
    return {**made, **times, "generatorURL": "http://prometheus.example.org/graph"}


def test_posted_alerts_are_incidents(taking: TestClient) -> None:
    """Each with its labels; that of a monitor's own name goes there, others to where their names fit; then they end."""
    full, other = posted("NodeFull", 300, instance="a"), posted("NodeFull", instance="b")
    conforms(
        "/alerts", taking.post("/api/v2/alerts", json=[full, other, posted("NodeDown", 300, instance="a")]), "post"
    )
    found = conforms("/alerts", taking.get("/api/v2/alerts"))
    shown = [(each["labels"]["alertname"], each["labels"]["instance"], each["receivers"]) for each in found]
    assert sorted(shown, key=str) == [
        ("NodeDown", "a", [{"name": "sms"}]),
        ("NodeFull", "a", [{"name": "mail"}]),
        ("NodeFull", "b", [{"name": "mail"}]),
    ]
    (down,) = conforms("/alerts", taking.get("/api/v2/alerts?filter=alertname=NodeDown"))
    assert down["labels"] == {"alertname": "NodeDown", "instance": "a", "team": "ops"}
    assert down["annotations"]["summary"] == "NodeDown of a"
    assert down["annotations"]["runbook"] == "https://wiki.example.org/x"
    over = [posted("NodeFull", -1, instance="a"), posted("NodeDown", -1, instance="a")]
    taking.post("/api/v2/alerts", json=over).raise_for_status()
    (left,) = conforms("/alerts", taking.get("/api/v2/alerts"))
    assert left["labels"]["instance"] == "b"


def test_an_alert_that_is_not_posted_again_ends(taking: TestClient) -> None:
    """At the time that its last posting said, as when Prometheus has gone."""
    taking.post("/api/v2/alerts", json=[posted("NodeFull", 2.0, instance="a")]).raise_for_status()
    assert len(taking.get("/api/v2/alerts").json()) == 1
    wait_until(lambda: taking.get("/api/v2/alerts").json() == [])


def test_silences_know_posted_alerts_by_their_own_names(taking: TestClient) -> None:
    """The label `alertname` is the alert's, whatever monitor took it."""
    matchers = [{"name": "alertname", "value": "NodeFull", "isRegex": False}]
    taking.post("/api/v2/silences", json=silence(matchers=matchers)).raise_for_status()
    taking.post("/api/v2/alerts", json=[posted("NodeFull", 300), posted("TargetDown", 300)]).raise_for_status()
    states = {each["labels"]["alertname"]: each["status"]["state"] for each in taking.get("/api/v2/alerts").json()}
    assert states == {"NodeFull": "suppressed", "TargetDown": "active"}


@pytest.mark.parametrize(
    ("alerts", "text"),
    [
        ([posted("Other", 300)], "takes Other"),
        ([{"labels": {"instance": "a"}}], "alertname"),
        ([{"labels": {"alertname": "NodeFull", **{f"l{n}": "x" for n in range(64)}}}], "64 labels"),
        ({"labels": {}}, "Expected `array`"),
    ],
)
def test_a_wrong_posting_is_refused(taking: TestClient, alerts: Any, text: str) -> None:
    """With a text that says why; one that is taken in part is accepted."""
    answer = taking.post("/api/v2/alerts", json=alerts)
    assert answer.status_code == 400
    assert text in answer.json()
    assert taking.get("/api/v2/alerts").json() == []
    both = [posted("Other", 300), posted("NodeFull", 300)]
    taking.post("/api/v2/alerts", json=both).raise_for_status()
    assert len(taking.get("/api/v2/alerts").json()) == 1


def test_a_posting_has_a_bound(taking: TestClient) -> None:
    """More than a megabyte is not read."""
    assert taking.post("/api/v2/alerts", content=b"[" * 10_000_000).status_code == 413


def test_who_may_look_may_not_change_anything(client: TestClient) -> None:
    """A token with the role `read` sees alerts and silences, and neither creates nor ends one."""
    client.headers.update(KARMA)
    assert client.get("/api/v2/alerts").status_code == 200
    assert client.post("/api/v2/silences", json=silence()).status_code == 403
    assert client.delete("/api/v2/silence/x").status_code == 403


def test_status_and_receivers(client: TestClient) -> None:
    """The version, since when it runs, and the alarms; the configuration shows nothing else of ours."""
    status = conforms("/status", client.get("/api/v2/status"))
    assert status["cluster"]["status"] == "disabled"
    assert re.match(r"alarm_mw \d", status["versionInfo"]["version"])
    assert [each["name"] for each in yaml.safe_load(status["config"]["original"])["receivers"]] == ["mail", "sms"]
    assert datetime.fromisoformat(status["uptime"]).timestamp() == pytest.approx(time.time(), abs=120)
    assert conforms("/receivers", client.get("/api/v2/receivers")) == [{"name": "mail"}, {"name": "sms"}]


def test_health_needs_no_login_and_metrics_do(page: Page, client: TestClient) -> None:
    """Probes have no token; metrics name alarms and rules."""
    stranger = page.client()
    assert stranger.get("/-/healthy").status_code == stranger.get("/-/ready").status_code == 200
    assert stranger.get("/metrics").status_code == 401
    assert 'alarm_mw_incidents{rule="disk"} 1.0' in client.get("/metrics").text
