"""Takes the pictures of the documentation: ``python examples/page/pictures.py [FOLDER]``, with Debian's Chromium."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import demo
from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).parents[2] / "docs" / "page"

#: What is looked at: the picture's name, and the path.
PAGES = {
    "now": "/",
    "history": "/history",
    "rules": "/rules",
    "rule": "/rules/slow-search",
    "delivery": "/delivery",
    "ledger": "/ledger",
    "configuration": "/configuration",
}

#: Width and height of a window, and the pages of which there is a picture in the dark and on a phone as well.
WIDE, PHONE = (1280, 800), (390, 844)
OTHERS = ("now", "incident")


def main() -> None:
    """Take them all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(exist_ok=True)
    with demo.serving("127.0.0.1:8429") as state, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        _take(browser, demo.login_url(state), folder, "light", WIDE)
        _take(browser, demo.login_url(state), folder, "dark", WIDE)
        _take(browser, demo.login_url(state), folder, "phone", PHONE)
        browser.close()


def _take(browser: Browser, url: str, folder: Path, look: str, size: tuple[int, int]) -> None:
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if look == "dark" else "light"
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("#main")
    base = url.partition("/login")[0]
    link = page.locator("ol.incidents > li .what a").first.get_attribute("href") or "/"
    paths = {**PAGES, "incident": link, "silence": f"/silences/new?incident={link.removeprefix('/i/')}"}
    for name, path in paths.items():
        if look == "light" or name in OTHERS:
            page.goto(base + path)
            page.wait_for_timeout(500)
            page.screenshot(path=str(folder / f"{name}{'' if look == 'light' else f'-{look}'}.png"))
    context.close()


if __name__ == "__main__":
    main()
