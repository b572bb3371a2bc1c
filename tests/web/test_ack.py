"""Links in messages that acknowledge: they ask who looks, and work for nobody who has made one up."""

from __future__ import annotations

import time

import pytest
from web_page import Page

from alarm_mw.texts.links import VALID, ack_link
from alarm_mw.web.incidents import open_incidents


def link_of(page: Page, until: float | None = None, episode: int = 1) -> str:
    """Return the link of the one open incident, as its message has it."""
    (row,) = open_incidents(page.master).rows
    key = page.master.link_key()
    return ack_link("", key, row.id, episode, time.time() + VALID if until is None else until)


def is_acknowledged(page: Page) -> bool:
    return bool(open_incidents(page.master).rows[0].acknowledged_by)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_changes_nothing(page: Page, method: str) -> None:
    """A mail scanner may follow the link fifty times; the button acknowledges, without a login."""
    page.line("payment 42 failed: card declined")
    link, stranger = link_of(page), page.client()
    assert {stranger.request(method, link).status_code for _ in range(50)} == {200}
    assert not is_acknowledged(page)
    assert "card declined" in stranger.get(link).text
    assert stranger.post(link, data={"name": "kim", "comment": "on it"}).status_code == 200
    (row,) = open_incidents(page.master).rows
    assert (row.acknowledged_by, row.comment) == ("kim (by link)", "on it")


def test_who_is_logged_in_is_named(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    """A session counts more than a name that is typed in; without either it is the link."""
    page.line("payment 42 failed")
    link = link_of(page)
    assert page.logged_in().post(link, data={"name": "somebody"}).status_code == 200
    assert open_incidents(page.master).rows[0].acknowledged_by == "kay"
    assert page.client().post(link).status_code == 200
    assert open_incidents(page.master).rows[0].acknowledged_by == "link"
    assert [text for text in caplog.messages if text.startswith("link from testclient acknowledged incident")]


def test_forged_links(page: Page) -> None:
    """Another incident, episode, time or signature is refused, whatever is asked."""
    page.line("payment 42 failed")
    link, stranger = link_of(page), page.client()
    name, episode, until, signature = link.removeprefix("/a/").split("/")
    for forged in (
        f"/a/{name}/{episode}/{until}/{'0' * 32}",
        f"/a/{name}/2/{until}/{signature}",
        f"/a/{name}/{episode}/{int(until) + 1}/{signature}",
        f"/a/{name[::-1]}/{episode}/{until}/{signature}",
        f"/a/{name}/{episode}/{'9' * 400}/{signature}",
        f"/a/{name}/x/{until}/{signature}",
        ack_link("", page.master.link_key(), "nothing", 1, time.time() + VALID),
    ):
        assert stranger.get(forged).status_code == 404
        assert stranger.post(forged).status_code == 404
    assert not is_acknowledged(page)


def test_links_end(page: Page) -> None:
    """With their time, with the incident, and with the episode."""
    page.line("payment 42 failed")
    stranger = page.client()
    assert stranger.post(link_of(page, time.time() - 1)).status_code == 410
    link = link_of(page)
    page.line("payment 42 accepted")
    assert stranger.post(link).status_code == 409
    page.line("payment 42 failed")
    assert stranger.get(link).status_code == 409
    assert not is_acknowledged(page)
    assert stranger.post(link_of(page, episode=2)).status_code == 200


def test_another_site_cannot_press_the_button(page: Page) -> None:
    """Nor can a page that knows the link."""
    page.line("payment 42 failed")
    answer = page.client().post(link_of(page), headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert not is_acknowledged(page)
