"""The options of the monitor `heartbeat`; the engine does the rest."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alarm_mw.model.errors import OptionError
from alarm_mw.model.measures import Heartbeat
from alarm_mw.monitors.heartbeat import HeartbeatMonitor, HeartbeatOptions


def test_what_is_measured() -> None:
    """Times are read as everywhere; a heartbeat may be a minute late by default."""
    assert HeartbeatOptions(every="5m", names=("a", "b*")).measure() == Heartbeat(300.0, 60.0, ("a", "b*"))
    assert HeartbeatOptions(every=5, grace="1h").measure() == Heartbeat(5.0, 3600.0)


def test_names_and_patterns() -> None:
    """A name is expected from the start, a pattern is not; without any, each name is taken."""
    measure = Heartbeat(1.0, 1.0, ("backup", "worker-?"))
    assert [measure.takes(name) for name in ("backup", "worker-1", "worker-10", "Backup")] == [True, True, False, False]
    assert measure.expected() == ("backup",)
    assert Heartbeat(1.0, 1.0).takes("anything")


@pytest.mark.parametrize("times", [{"every": "soon"}, {"every": "5m", "grace": 0}])
def test_a_time_that_is_none(times: dict[str, Any]) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match=f"{[*times][-1]}: expected a time"):
        HeartbeatOptions(**times)


def test_it_waits_for_nothing_by_itself(running: Any) -> None:
    """The monitor ends at once, and says nothing."""

    async def scenario() -> None:
        async with running((HeartbeatMonitor, HeartbeatOptions(every="5m"))) as stage:
            await stage.end()
            assert stage.fired.empty()

    asyncio.run(scenario())


def test_it_is_none_of_uwsgis() -> None:
    """The error says where it can be configured."""
    with pytest.raises(OptionError, match="uWSGI has no monitor 'heartbeat'"):
        HeartbeatMonitor.from_uwsgi("x")
