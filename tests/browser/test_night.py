"""The ways of a night, in a real browser: from a message to the end of an incident."""

from __future__ import annotations

import os
import re
import signal

import pytest
from chromium import Chromium
from playwright.sync_api import expect
from web_server import Server

LIMIT_MS = 60_000

HOSTILE = (
    "payment <script>alert(1)</script> failed",
    'payment "><img/src=x/onerror=alert(1)> failed',
    "payment javascript:alert(1) failed",
    "payment \u202eevil\u202c failed",
    "payment \x1b[31m\x07 failed",
    "payment ${alert(1)}{{7*7}} failed",
    "payment 9 failed " + "x" * 1_000_000,
)


def test_from_the_message_to_the_end(chromium: Chromium, server: Server) -> None:
    """A link leads over the login to the incident; it is acknowledged, silenced and resolved there."""
    server.line("payment 42 failed: card declined")
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        visitor.wait_for_rows(1)
        expect(page).to_have_title("(1) Now · shop · " + os.uname().nodename)
        expect(page.locator("#favicon")).to_have_attribute("href", "/favicon.svg?n=1")
        page.get_by_role("link", name="payment 42 failed").click()
        page.get_by_label("Comment").fill("on it")
        page.get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_text("acknowledged by").first).to_be_visible()
        page.get_by_role("link", name="Silence like this…").click()
        expect(page.get_by_role("heading", name="Covers 1 of 1 open incident")).to_be_visible()
        page.get_by_label("Matchers, one a line").fill('rule="disk"')
        expect(page.get_by_role("heading", name="Covers 0 of 1 open incident")).to_be_visible()
        page.get_by_label("Matchers, one a line").fill('rule="payments"')
        page.get_by_label("Why").fill("known")
        page.get_by_role("button", name="Silence", exact=True).click()
        expect(page.get_by_role("cell", name="known")).to_be_visible()
        visitor.go("/")
        page.get_by_role("link", name="payment 42 failed").click()
        page.wait_for_url("**/i/*", wait_until="load")
        page.keyboard.press("r")
        page.get_by_role("button", name="Yes").click()
        expect(page.get_by_text("ended by hand")).to_be_visible()
        visitor.go("/")
        expect(page.get_by_text("No incident is open").first).to_be_visible()


def test_the_keyboard_is_enough(chromium: Chromium, server: Server) -> None:
    """J and k select, a acknowledges and gives back, / filters, ? shows the keys, Enter opens."""
    server.line("payment 42 failed", "disk /var full")
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        visitor.wait_for_rows(2)
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        page.keyboard.press("a")
        expect(page.get_by_role("button", name="Give back")).to_be_visible()
        page.keyboard.press("a")
        expect(page.get_by_role("button", name="Give back")).to_have_count(0)
        page.keyboard.press("?")
        expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("heading", name="Keyboard")).to_be_hidden()
        page.wait_for_function("!document.querySelector('dialog[open]')")
        page.keyboard.press("/")
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("disk")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=disk")
        assert visitor.rows() == ["disk /var full"]
        page.locator("#main").click(position={"x": 5, "y": 5})
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/i/*", wait_until="load")
        page.keyboard.press("s")
        page.wait_for_url("**/silences/new?incident=*")


def test_two_browsers_see_each_other(chromium: Chromium, server: Server) -> None:
    """What one does, the other sees without loading; both see a new incident and its end."""
    with chromium.visit(server.login_url()) as kim, chromium.visit(server.login_url()) as sam:
        server.line("payment 42 failed")
        for each in (kim, sam):
            each.wait_for_rows(1)
        kim.page.get_by_role("button", name="Ack").click()
        expect(sam.page.get_by_role("button", name="Give back")).to_be_visible(timeout=LIMIT_MS)
        sam.page.get_by_role("button", name="Give back").click()
        expect(kim.page.get_by_role("button", name="Ack")).to_be_visible(timeout=LIMIT_MS)
        kim.page.mouse.move(0, 0)
        server.line("payment 42 accepted")
        for each in (kim, sam):
            expect(each.page.get_by_text("No incident is open").first).to_be_visible(timeout=LIMIT_MS)


def test_nothing_moves_under_the_pointer(chromium: Chromium, server: Server) -> None:
    """While somebody is at the list a worse incident is only announced; a click shows it where it belongs."""
    server.line("disk /var full")
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        visitor.wait_for_rows(1)
        row = page.locator("ol.incidents > li").first
        row.hover()
        before = row.bounding_box()
        server.line("payment 42 failed")
        page.get_by_role("button", name="1 new").wait_for()
        assert row.bounding_box() == before
        assert visitor.rows() == ["disk /var full"]
        page.get_by_role("button", name="1 new").click()
        visitor.wait_for_rows(2)
        assert visitor.rows() == ["payment 42 failed", "disk /var full"]


def test_a_killed_master_comes_back_by_itself(chromium: Chromium, server: Server) -> None:
    """The open page goes on with the next master: what happens there appears without loading."""
    server.line("payment 42 failed")
    with chromium.visit(server.login_url()) as visitor:
        visitor.wait_for_rows(1)
        os.kill(server.master(), signal.SIGKILL)
        server.line("payment 43 failed")
        visitor.wait_for_rows(2)


def test_hostile_lines_are_text(chromium: Chromium, server: Server) -> None:
    """No script runs, no image is loaded, and the content security policy has nothing to report, on any page."""
    server.line(*HOSTILE)
    with chromium.visit(server.login_url()) as visitor:
        visitor.wait_for_rows(len(HOSTILE))
        paths = [f"/i/{each['id']}" for each in server.incidents()]
        others = [f"/silences/new?incident={each['id']}" for each in server.incidents()]
        for path in (*paths, *others, "/history", "/rules", "/delivery", "/silences", "/ledger", "/configuration"):
            visitor.go(path)
            assert visitor.page.evaluate("document.querySelectorAll('img:not(.brand img), main script').length") == 0


def test_without_a_script(chromium: Chromium, server: Server) -> None:
    """Logging in, filtering, acknowledging, and silencing work with JavaScript turned off."""
    server.line("payment 42 failed", "disk /var full")
    with chromium.visit(server.login_url(), java_script_enabled=False) as visitor:
        page = visitor.page
        page.reload()
        page.get_by_placeholder("Filter").fill("disk")
        page.get_by_placeholder("Filter").press("Enter")
        page.wait_for_url("**/?q=disk")
        page.get_by_role("button", name="Ack").click()
        expect(page.get_by_text("acknowledged by")).to_be_visible()
        page.wait_for_url("**/?q=disk")
        page.get_by_role("link", name="disk /var full").click()
        page.get_by_role("link", name="Silence like this…").click()
        page.get_by_role("button", name="Silence", exact=True).click()
        expect(page.get_by_role("button", name="End")).to_be_visible()


def test_a_flood_does_not_fill_the_page(chromium: Chromium, server: Server) -> None:
    """A thousand incidents are counted, a hundred are listed, and the page answers the keyboard."""
    with chromium.visit(server.login_url()) as visitor:
        server.line(*(f"payment {n} failed" for n in range(1000)))
        expect(visitor.page).to_have_title(re.compile(r"\(1000\) "), timeout=LIMIT_MS)
        visitor.wait_for_rows(100)
        visitor.page.keyboard.press("?")
        expect(visitor.page.get_by_role("heading", name="Keyboard")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light_can_be_chosen(chromium: Chromium, server: Server, scheme: str) -> None:
    """The button turns what the system says into the other one, and pages that follow begin with it."""
    with chromium.visit(server.login_url(), color_scheme=scheme) as visitor:
        ground = "getComputedStyle(document.body).backgroundColor"
        before = visitor.page.evaluate(ground)
        visitor.page.get_by_role("button", name="Dark or light").click()
        after = visitor.page.evaluate(ground)
        assert after != before
        visitor.go("/rules")
        assert visitor.page.evaluate(ground) == after
