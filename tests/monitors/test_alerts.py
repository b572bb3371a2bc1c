"""The options of the monitor `alerts`; the API and the engine do the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alarm_mw.model.errors import OptionError
from alarm_mw.model.measures import ExternalAlert, ExternalAlerts
from alarm_mw.monitors.alerts import AlertsMonitor, AlertsOptions


def test_what_is_taken() -> None:
    """Names and patterns; without any, only the alert that is called like the monitor."""
    measure = AlertsOptions(names=("NodeDown", "Target*")).measure()
    assert [measure.takes(name) for name in ("NodeDown", "TargetMissing", "nodedown", "Other")] == [
        True,
        True,
        False,
        False,
    ]
    assert not ExternalAlerts().takes("NodeDown")
    assert ExternalAlert({}, "x", 1.0).name == ""


def test_it_waits_for_nothing_by_itself(running: Any) -> None:
    """The monitor ends at once, and says nothing."""

    async def scenario() -> None:
        async with running((AlertsMonitor, AlertsOptions())) as stage:
            await stage.end()
            assert stage.fired.empty()

    asyncio.run(scenario())


def test_it_is_none_of_uwsgis() -> None:
    """The error says where it can be configured."""
    with pytest.raises(OptionError, match="uWSGI has no monitor 'alerts'"):
        AlertsMonitor.from_uwsgi("x")
