"""Takes the pictures of the documentation: ``python examples/page/pictures.py [FOLDER]``, with Debian's Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import demo
from playwright.sync_api import Browser, Page, sync_playwright

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
        with _others(state.parent.parent), _all(state.parent.parent) as urls:
            for look, size in (("light", WIDE), ("dark", WIDE), ("phone", PHONE)):
                _take_all(browser, next(urls), folder, look, size)
        browser.close()


#: Other servers of the same user: their names, a rule each, and what they print.
OTHERS_OF_USER = {
    "blog": (
        'name = "slow"\npattern = "upstream \\\\S+ timed out"\nresolve_after = "1h"\nlabels = { severity = "error" }',
        "upstream search timed out after 30 s",
    ),
    "worker": ('name = "queue"\npattern = "jobs wait"\nresolve_after = "1h"', ""),
}


@contextmanager
def _others(home: Path) -> Iterator[None]:
    """Run the other servers of the user whose state is in this folder."""
    environ = {**os.environ, "XDG_STATE_HOME": str(home)}
    with ExitStack() as stack:
        for name, (rule, line) in OTHERS_OF_USER.items():
            config = home / f"{name}.toml"
            config.write_text(f'[alarms.mail]\naction = "log"\n[[rules]]\n{rule}\nalarms = ["mail"]\n')
            server = subprocess.Popen(
                [
                    demo.ALARM_MW,
                    "run",
                    "--config",
                    str(config),
                    "--name",
                    name,
                    "--",
                    "sh",
                    "-c",
                    f"echo {line}; exec sleep 600",
                ],
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(server.wait)
            stack.callback(server.terminate)
        yield


@contextmanager
def _all(home: Path) -> Iterator[Iterator[str]]:
    """Serve one page of all servers; give an endless row of URLs that log in."""
    urls: list[subprocess.Popen[str]] = []

    def offered() -> Iterator[str]:
        while True:  # each command has a page of its own
            page = subprocess.Popen(
                [demo.ALARM_MW, "web", "--all"],
                env={**os.environ, "XDG_STATE_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            urls.append(page)
            assert page.stdout is not None
            yield page.stdout.readline().strip()

    try:
        yield offered()
    finally:
        for page in urls:
            page.terminate()
            page.wait()


def _logged_in(browser: Browser, url: str, look: str, size: tuple[int, int]) -> Page:
    """Return a page in a context of its own, logged in by a link of `alarm-mw web`."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if look == "dark" else "light"
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="Log in").click()
    return page


def _take_all(browser: Browser, url: str, folder: Path, look: str, size: tuple[int, int]) -> None:
    page = _logged_in(browser, url, look, size)
    page.get_by_role("cell", name="blog", exact=True).wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=str(folder / f"all{'' if look == 'light' else f'-{look}'}.png"))
    page.context.close()


def _take(browser: Browser, url: str, folder: Path, look: str, size: tuple[int, int]) -> None:
    page = _logged_in(browser, url, look, size)
    page.wait_for_selector("#main")
    base = url.partition("/login")[0]
    link = page.locator("ol.incidents > li .what a").first.get_attribute("href") or "/"
    paths = {**PAGES, "incident": link, "silence": f"/silences/new?incident={link.removeprefix('/i/')}"}
    for name, path in paths.items():
        if look == "light" or name in OTHERS:
            page.goto(base + path)
            page.wait_for_timeout(500)
            page.screenshot(path=str(folder / f"{name}{'' if look == 'light' else f'-{look}'}.png"))
    page.context.close()


if __name__ == "__main__":
    main()
