"""How long the ways through the program are, as `docs/architecture.md` shows them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

#: No change may make a way longer. The goal for a printed line is 30 functions.
FUNCTIONS_OF_A_PRINT, MODULES_OF_A_PRINT = 31, 16
FUNCTIONS_OF_A_LOG_CALL = 15


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "_ext"))
    return importlib.import_module("ways")


def test_a_printed_line_goes_straight_to_the_request(ways: ModuleType) -> None:
    """A printed line passes a bounded number of functions and modules from the pipe to the webhook's request."""
    way = ways.way_of_a_print()
    assert len(way) <= FUNCTIONS_OF_A_PRINT, "\n".join(way)
    assert len({*ways.modules_of(way)}) <= MODULES_OF_A_PRINT, "\n".join(way)


def test_a_log_call_goes_straight_to_the_worker(ways: ModuleType) -> None:
    """A log call passes a bounded number of functions from the handler to the master's worker thread."""
    way = ways.way_of_a_log_call()
    assert len(way) <= FUNCTIONS_OF_A_LOG_CALL, "\n".join(way)
