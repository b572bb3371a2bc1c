"""The page of one machine shows what is firing on all machines of its fleet."""

from __future__ import annotations

import dataclasses

import pytest
from starlette.testclient import TestClient
from web_page import Page

from alarm_mw.model.fleet import FleetIncident, FleetNotification, FleetOverview
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
    assert '/i/0123456789"' not in text
    assert 'formaction="/i/0123456789/unack"' in text
    assert "acknowledged by <bdi>lou</bdi>" in text
    assert "sent by another machine" in text
    assert "2 open incidents" in text


@pytest.mark.parametrize(("query", "expected"), [("web-19", 1), ("web-1", 2), ("db=us", 1), ("web-99", 0)])
def test_the_filter_finds_machines(client: TestClient, query: str, expected: int) -> None:
    """The names of machines are among what the filter looks at."""
    assert client.get("/", params={"q": query}).text.count("<li id=") == expected
