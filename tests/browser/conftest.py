"""Debian's Chromium, and servers with pages for it."""

from __future__ import annotations

import functools
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from chromium import Chromium
from playwright.sync_api import sync_playwright
from ports import free_port
from web_configuration import ALARMS, DISKS, PAYMENTS, configuration
from web_server import Server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Run Chromium for the tests of a module."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("please install: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield Chromium(browser)
        finally:
            browser.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Run a server with a page, whose program prints what the test has it print."""
    server = Server(tmp_path, configuration(ALARMS, PAYMENTS, DISKS, port=free_port(), name="shop"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def week() -> Iterator[Callable[[], str]]:
    """Run the demo with a week that is made up; give what returns URLs that log in."""
    folder = Path(__file__).parents[2] / "examples" / "page"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        demo: ModuleType = importlib.import_module("demo")
    with demo.serving(f"127.0.0.1:{free_port()}") as state:
        yield functools.partial(demo.login_url, state)
