"""One page of all servers, in a real browser."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from chromium import Chromium, violations
from playwright.sync_api import expect
from ports import free_port
from web_configuration import ALARMS, DISKS, PAYMENTS, configuration
from web_server import Server

from alarm_mw.cli.web.serving import serving

LIMIT_MS = 60_000


def test_a_night_with_two_servers(chromium: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens on any server appears, is acknowledged by its button, and its page is one click away."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with ExitStack() as stack:
        servers = {}
        for name, table in (("shop", configuration(port=free_port())), ("blog", "")):
            folder = tmp_path / name
            folder.mkdir()
            state = tmp_path / "home" / "alarm-mw" / name
            servers[name] = Server(folder, f"{table}{ALARMS}{PAYMENTS}{DISKS}", state=state)
            stack.callback(servers[name].stop)
        offer = stack.enter_context(serving("", "act"))
        visitor = stack.enter_context(chromium.visit(offer(), color_scheme="light"))
        page = visitor.page
        servers["blog"].line("disk /var full")
        visitor.wait_for_rows(1)
        servers["shop"].line("payment 42 failed")
        visitor.wait_for_rows(2)
        assert visitor.rows() == ["payment 42 failed", "disk /var full"]
        assert page.locator(".tag.server").all_inner_texts() == ["shop", "blog"]
        assert violations(page) == []

        page.locator("ol.incidents > li", has_text="disk /var full").get_by_role("button", name="Ack").click()
        expect(page.get_by_role("button", name="Give back")).to_be_visible(timeout=LIMIT_MS)
        assert servers["blog"].incidents()[0]["acknowledged_by"]
        assert not servers["shop"].incidents()[0]["acknowledged_by"]

        page.get_by_role("link", name="disk /var full").click()
        expect(page.get_by_role("heading", name="What happened")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("link", name="Silence like this…").click()
        expect(page.get_by_role("heading", name="New silence on blog")).to_be_visible()
        expect(page.get_by_role("heading", name="Covers 1 of 1 open incident")).to_be_visible()
        page.get_by_label("Matchers, one a line").fill('rule="payments"')
        expect(page.get_by_role("heading", name="Covers 0 of 1 open incident")).to_be_visible()
        assert violations(page) == []

        visitor.go("/")
        visitor.wait_for_rows(2)
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("link", name="Open its page").click()
        page.get_by_role("button", name="Log in").click()
        visitor.wait_for_rows(1)
        assert visitor.rows() == ["payment 42 failed"]
