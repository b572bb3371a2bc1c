"""Pages for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from web_page import CONFIGURATION, Page, hashed

MakePage = Callable[..., Page]


@pytest.fixture
def make_page(tmp_path: Path) -> Iterator[MakePage]:
    """Give a maker of pages, with the configuration above or another one."""
    pages: list[Page] = []

    def make(configuration: str = CONFIGURATION) -> Page:
        folder = tmp_path / str(len(pages))
        folder.mkdir()
        pages.append(Page(folder, configuration.replace("{password}", hashed())))
        return pages[-1]

    yield make
    for page in pages:
        page.close()


@pytest.fixture
def page(make_page: MakePage) -> Page:
    return make_page()
