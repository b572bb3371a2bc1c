"""What pages look like, measured: contrast and names by axe, and no page that is wider than its window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chromium import Chromium, violations

PATHS = (
    *("/", "/history", "/rules", "/rules/slow-search", "/delivery"),
    *("/silences", "/silences/new", "/ledger", "/configuration", "/api"),
)

WIDTHS = (360, 390, 768, 1024, 1440, 2560)


def paths_of(page: Any) -> list[str]:
    """Return the paths of all pages, with that of an incident."""
    return [*PATHS, str(page.locator("ol.incidents > li .what a").first.get_attribute("href"))]


def test_everybody_can_use_every_page(chromium: Chromium, week: Callable[[], str]) -> None:
    """Axe has no violation to report, neither on a page nor on those before the login."""
    with chromium.visit(week(), color_scheme="light") as visitor:
        for path in paths_of(visitor.page):
            visitor.go(path)
            assert violations(visitor.page) == [], path
        visitor.page.goto(week())
        assert violations(visitor.page) == []
        visitor.page.context.clear_cookies()
        visitor.go("/login")
        assert violations(visitor.page) == []


def test_the_dark_has_contrast(chromium: Chromium, week: Callable[[], str]) -> None:
    """Each text can be read on its ground in the dark as well."""
    with chromium.visit(week(), color_scheme="dark") as visitor:
        for path in paths_of(visitor.page):
            visitor.go(path)
            assert violations(visitor.page, "color-contrast") == [], path


def test_no_page_is_wider_than_its_window(chromium: Chromium, week: Callable[[], str]) -> None:
    """From a small phone to a wall: only tables scroll, in their own frame."""
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    with chromium.visit(week()) as visitor:
        for path in paths_of(visitor.page):
            visitor.go(path)
            for width in WIDTHS:
                visitor.page.set_viewport_size({"width": width, "height": 800})
                assert visitor.page.evaluate(overflow) <= 0, (path, width)
