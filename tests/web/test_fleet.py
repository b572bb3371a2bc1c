"""The page of one machine shows what is firing on all machines of its fleet."""

from __future__ import annotations

import dataclasses
import html
import re
import time

import pytest
from msgspec import structs
from starlette.testclient import TestClient
from web_page import Page

from alarm_mw.model.fleet import FleetHistory, FleetIncident, FleetNotification, FleetOverview, FleetRecord
from alarm_mw.web.app import make_app
from alarm_mw.web.incidents import open_incidents
from alarm_mw.web.site import Site

THERE = FleetIncident(
    "0123456789",
    "db",
    1.8e9,
    30,
    tuple(f"web-{n}" for n in range(20)),
    key={"db": "us"},
    labels={"severity": "critical"},
    text="lost <us>",
    count=1234,
    alarms={"mail": FleetNotification(told_at=1.8e9, told_by="web-1"), "sms": FleetNotification("web-2")},
    acknowledged_by="lou",
)


@pytest.fixture
def client(page: Page) -> TestClient:
    """Give a browser with a session at a master that is in a fleet: one incident is here as well, one is not."""
    page.line("disk full")
    (row,) = open_incidents(page.master).rows
    here = FleetIncident(row.id, row.rule, row.started, 2, ("web-1", "web-2"), key=row.key)
    overview = FleetOverview("shop", "web-1", "connected", incidents=(here, THERE))
    page.master = dataclasses.replace(page.master, fleet=lambda: overview)
    page.site = Site.of(page.master, page.settings.web, page.store)
    page.app = make_app(page.site)
    return page.logged_in()


def test_now_shows_on_which_machines_it_is(client: TestClient) -> None:
    """An incident has its machines; one of other machines is shown, and can be acknowledged."""
    text = client.get("/").text
    assert "on 2 machines: <bdi>web-1, web-2</bdi>" in text
    assert "on 30 machines: <bdi>web-0, web-1," in text
    assert "web-19, …" in text
    assert "lost &lt;us&gt;" in text
    assert 'href="/i/0123456789"' in text
    assert 'formaction="/i/0123456789/unack"' in text
    assert "acknowledged by <bdi>lou</bdi>" in text
    assert "sent by another machine" in text
    assert "2 open incidents" in text


@pytest.mark.parametrize(("query", "expected"), [("web-19", 1), ("web-1", 2), ("db=us", 1), ("web-99", 0)])
def test_the_filter_finds_machines(client: TestClient, query: str, expected: int) -> None:
    """The names of machines are among what the filter looks at."""
    assert client.get("/", params={"q": query}).text.count("<li id=") == expected


NOW = time.time()

#: An incident of other machines that is over, and one that is open there.
OVER = FleetIncident(
    "aaaaaaaaaa",
    "db",
    NOW - 7200.0,
    2,
    ("web-2", "web-3"),
    key={"db": "eu"},
    labels={"severity": "critical", "team": "blue"},
    text="lost <eu>",
    count=77,
    alarms={"mail": FleetNotification("", NOW - 7190.0, "web-2", NOW - 7190.0, "web-2", NOW - 3600.0, "web-3", 2)},
    acknowledged_by="lou",
    acknowledged_at=NOW - 7000.0,
    episode=5,
    ended=NOW - 3600.0,
    ended_by="operator",
    resolved_by="kim",
)
OPEN = structs.replace(
    OVER,
    id="bbbbbbbbbb",
    text="lost us",
    started=NOW - 600.0,
    alarms={"mail": FleetNotification("", NOW - 590.0, "web-2", NOW - 590.0, "web-2", messages=1)},
    acknowledged_by="",
    acknowledged_at=None,
    episode=9,
    ended=None,
    ended_by="",
    resolved_by="",
)


class Shared:
    """A fleet that knows what it is told."""

    def __init__(self) -> None:
        self.history = FleetHistory(machine="web-1")
        self.pages = {"web-2": "https://web-2.example.org"}

    def knows(self, *incidents: FleetIncident) -> None:
        self.history = structs.replace(self.history, incidents=incidents)

    def incident(self, name: str) -> FleetRecord | None:
        if self.history.error:
            return None
        return FleetRecord(tuple(each for each in self.history.incidents if each.id == name), self.pages)

    def join(self, page: Page) -> TestClient:
        page.master = dataclasses.replace(
            page.master, fleet_history=lambda _: self.history, fleet_incident=self.incident
        )
        page.site = Site.of(page.master, page.settings.web, page.store)
        page.app = make_app(page.site)
        return page.logged_in()


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def browser(page: Page, shared: Shared) -> TestClient:
    return shared.join(page)


def rows_of(text: str) -> list[str]:
    """Return the lines of the history, the newest first."""
    return re.findall(r'class="plain-link"[^>]*><bdi>(.*?)</bdi>', text)


def test_the_history_has_the_whole_fleet(page: Page, browser: TestClient, shared: Shared) -> None:
    """Episodes of other machines stand among those of this one, with their machines, and lead to pages of their own."""
    page.line("disk full")
    shared.knows(OVER, OPEN)
    text = browser.get("/history").text
    assert rows_of(text) == ["disk full", "lost us", "lost &lt;eu&gt;"]
    assert "3 episodes in 7 days" in text
    assert text.count("on 2 machines: <bdi>web-2, web-3</bdi>") == 2
    assert 'href="/i/aaaaaaaaaa?episode=5"' in text
    assert 'href="/i/bbbbbbbbbb"' in text
    assert "<bdi>lou</bdi>" in text


@pytest.mark.parametrize(("query", "expected"), [("web-3", 2), ("team=blue us", 1), ("db=eu", 2), ("x", 0)])
def test_the_history_is_filtered(page: Page, browser: TestClient, shared: Shared, query: str, expected: int) -> None:
    """The filter finds words, labels and machines of all episodes."""
    page.line("disk full")
    shared.knows(OVER, OPEN)
    assert len(rows_of(browser.get("/history", params={"q": query}).text)) == expected


def test_what_is_here_and_there_is_one_row(page: Page, browser: TestClient, shared: Shared) -> None:
    """An episode that this machine and others have is shown once, with its machines, and open while it is there."""
    page.line("disk full")
    (row,) = open_incidents(page.master).rows
    both = structs.replace(OPEN, id=row.id, rule=row.rule, started=row.started - 60.0, machines=("web-1", "web-2"))
    shared.knows(both)
    text = browser.get("/history").text
    assert rows_of(text) == ["disk full"]
    assert "on 2 machines: <bdi>web-1, web-2</bdi>" in text
    page.master.order("resolve", (row.id,), "kim", None, "")
    text = browser.get("/history").text
    assert rows_of(text) == ["disk full"]
    assert '<span class="pill bad">open</span>' in text
    assert 'title="Open on web-2"' in browser.get(f"/i/{row.id}").text
    shared.knows(structs.replace(both, machines=("web-1",), machine_count=1))
    assert '<span class="pill bad">open</span>' not in browser.get("/history").text


def test_parts_of_the_history_keep_their_places(browser: TestClient, shared: Shared) -> None:
    """Each episode is on one part, although times by the fleet's clock differ a little each time."""
    episodes = [structs.replace(OVER, id=f"{n:010x}", started=NOW - 8000.0 - n / 1000) for n in range(250)]
    shared.knows(*episodes)
    seen, path = [], "/history"
    for n in range(3):
        text = browser.get(path).text
        seen += re.findall(r'href="/i/(\w+)\?episode', text)
        older = re.search(r'rel="next" href="([^"]*)"', text)
        path = html.unescape(older[1]) if older else ""
        shared.knows(*(structs.replace(each, started=each.started + (-1) ** n * 0.02) for each in episodes))
    assert path == ""
    assert seen == [each.id for each in episodes]


def test_without_the_fleet_the_history_is_this_machine_s(page: Page, browser: TestClient, shared: Shared) -> None:
    """The page says why the rest is missing."""
    page.line("disk full")
    shared.history = FleetHistory(error="no answer from Redis within 2 s")
    text = browser.get("/history").text
    assert rows_of(text) == ["disk full"]
    assert "The history of the fleet is not available: no answer from Redis within 2 s." in text
    answer = browser.get("/api/1/history?fleet=1")
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        "the history of the fleet is not available: no answer from Redis within 2 s",
    )
    assert len(browser.get("/api/1/history").json()) > 0


def test_an_incident_of_other_machines_has_a_page(browser: TestClient, shared: Shared) -> None:
    """It shows what the fleet knows: what happened when, by which machine, the line, and where it is open."""
    shared.knows(OPEN, structs.replace(OVER, id=OPEN.id))
    text = browser.get("/i/bbbbbbbbbb").text
    shown = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())
    assert re.search(r"critical open lost us Open for \d+ ?min", shown)
    assert "77 matches." in shown
    assert "told mail by web-2" in shown
    assert '<a href="https://web-2.example.org/i/bbbbbbbbbb"' in text
    assert "Machines web-2 ( its page ), web-3" in shown
    assert 'action="/i/bbbbbbbbbb/ack"' in text
    assert 'formaction="/i/bbbbbbbbbb/resolve"' in text
    assert "/silences/new" not in text
    assert 'href="/rules/' not in text
    assert 'href="/i/bbbbbbbbbb?episode=5"' in text
    former = browser.get("/i/bbbbbbbbbb?episode=5").text
    assert "ended by hand: “<bdi>kim</bdi>”" in former
    assert "lost &lt;eu&gt;" in former
    assert "told the end" in former
    assert "acknowledged by" in former
    assert "resolved" in browser.get("/i/bbbbbbbbbb.md?episode=5").text
    assert [browser.get(f"/i/bbbbbbbbbb?episode={n}").status_code for n in ("7", "x", "9" * 20)] == [404, 200, 200]
    assert browser.get("/i/cccccccccc").status_code == 404


def test_the_api_knows_incidents_of_other_machines(page: Page, browser: TestClient, shared: Shared) -> None:
    """One incident, and with `fleet` the history, are as the fleet knows them."""
    page.line("disk full")
    shared.knows(OVER, OPEN)
    one = browser.get("/api/1/incidents/bbbbbbbbbb").json()
    assert (one["incident"]["state"], one["incident"]["machines"]) == ("firing", ["web-2", "web-3"])
    assert [(each["kind"], each["machine"]) for each in one["events"]] == [
        ("opened", ""),
        ("firing", "web-2"),
    ]
    plain = browser.get("/api/1/history").json()
    whole = browser.get("/api/1/history?fleet=1").json()
    assert [each for each in whole if each["rule"] == "disk"] == plain
    assert [each["kind"] for each in whole if each["incident"] == OVER.id] == [
        "opened",
        "firing",
        "acknowledged",
        "resolved",
        "resolved",
    ]
    assert {each["incident"] for each in browser.get(f"/api/1/history?fleet=1&incident={OVER.id}").json()} == {OVER.id}
