"""Debian's Chromium, driven by Playwright: pages that are logged in, and what a browser complains of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect
from waiting import LIMIT

#: What a browser and htmx say of connections that a killed master has cut, which is no mistake of a page.
_CUT = ("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING", "[object Event]")


AXE = (Path(__file__).parents[1] / "browser" / "axe.min.js").read_text(encoding="utf-8")

#: Success criteria of WCAG 2.2 up to the level AA.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Chromium:
    """A running browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @contextmanager
    def visit(self, login_url: str, **options: Any) -> Iterator[Visitor]:
        """Give a page of a fresh profile that a URL has logged in; fail where the browser complains of something."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(LIMIT * 1000)
        visitor = Visitor(context.new_page())
        try:
            visitor.page.goto(login_url)
            visitor.page.get_by_role("button", name="Log in").click()
            visitor.page.wait_for_selector("#main")
            yield visitor
        finally:
            context.close()
        assert visitor.complaints == [], visitor.complaints


class Visitor:
    """Somebody at a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        #: Errors in the console, with those of the content security policy; exceptions, and dialogs.
        self.complaints: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._answer)

    @property
    def base(self) -> str:
        """The page's address, without a path."""
        return "/".join(self.page.url.split("/")[:3])

    def go(self, path: str) -> None:
        """Go to a path, and wait until the page is there."""
        self.page.goto(self.base + path)

    def rows(self) -> list[str]:
        """Return the lines of the incidents that are listed."""
        return self.page.locator("ol.incidents > li .what a").all_inner_texts()

    def wait_for_rows(self, n: int) -> None:
        """Return when so many incidents are listed."""
        self.page.wait_for_load_state("load")  # keys do nothing before
        expect(self.page.locator("ol.incidents > li")).to_have_count(n, timeout=LIMIT * 1000)

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not any(each in text for each in _CUT):
            self.complaints.append(text)

    def _answer(self, dialog: Any) -> None:  # Playwright's Dialog
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def violations(page: Any, *rules: str) -> list[str]:
    """Return what axe finds, with the places; by all rules or these."""
    page.evaluate(AXE)
    only: Any = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": TAGS}
    found = page.evaluate("only => axe.run(document, {runOnly: only, resultTypes: ['violations']})", only)
    return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]
