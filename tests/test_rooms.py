"""The rooms of the package and the ways through it, as `docs/architecture.md` shows them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

#: No change may make a way longer than this.
FUNCTIONS_OF_A_PRINT, MODULES_OF_A_PRINT = 30, 16
FUNCTIONS_OF_A_LOG_CALL = 15

#: The most entries that a room may have, so that a newcomer finds a behavior at one look, and the most small modules.
ENTRIES, ENTRIES_OF_CLI, SMALL_MODULES = 14, 20, 15


def report_on(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module that the documentation is built with."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "_ext"))
    return importlib.import_module(name)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return report_on("ways", monkeypatch)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    return report_on("rooms", monkeypatch).Package()


def test_no_module_imports_itself_over_others(package: Any) -> None:
    """There is no circle of imports, type checking included."""
    assert package.circles() == []


def test_no_room_is_crowded(package: Any) -> None:
    """A room has few entries, each worth opening; the root has what an application imports, and the rooms."""
    most = {"alarm_mw/cli": ENTRIES_OF_CLI}
    rooms = {room: n for room, n in package.rooms().items() if room != "alarm_mw"}
    assert {room: n for room, n in rooms.items() if n > most.get(room, ENTRIES)} == {}


def test_few_modules_are_too_small_to_look_for(package: Any) -> None:
    """What serves one other module only stands in that module, unless it is looked for by its name."""
    assert len(package.small()) <= SMALL_MODULES


def test_a_printed_line_goes_straight_to_the_request(ways: ModuleType) -> None:
    """A printed line passes a bounded number of functions and modules from the pipe to the webhook's request."""
    way = ways.way_of_a_print()
    assert len(way) <= FUNCTIONS_OF_A_PRINT, "\n".join(way)
    assert len({*ways.modules_of(way)}) <= MODULES_OF_A_PRINT, "\n".join(way)


def test_a_log_call_goes_straight_to_the_worker(ways: ModuleType) -> None:
    """A log call passes a bounded number of functions from the handler to the master's worker thread."""
    way = ways.way_of_a_log_call()
    assert len(way) <= FUNCTIONS_OF_A_LOG_CALL, "\n".join(way)
