"""How monitors are found."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from alarm_mw import monitors
from alarm_mw.model.errors import OptionError


@pytest.mark.parametrize("name", monitors.names())
def test_every_name_is_a_monitor(name: str) -> None:
    """What is listed can be used, and each of its options is explained."""
    monitor = monitors.find(name)
    assert inspect.iscoroutinefunction(monitor.run)
    for field in msgspec.structs.fields(monitor.Options):
        info = msgspec.inspect.type_info(field.type)
        assert isinstance(info, msgspec.inspect.Metadata)
        assert (info.extra_json_schema or {})["description"]


def test_the_monitors_that_ship_are_listed() -> None:
    """`names()` has them in alphabetical order."""
    assert {"backlog", "fd", "heartbeat", "metric", "process", "segfault"} <= set(monitors.names())
    assert list(monitors.names()) == sorted(monitors.names())


def test_a_misspelt_name_gets_a_suggestion() -> None:
    """The error names the monitor that was probably meant."""
    with pytest.raises(OptionError, match=r"unknown monitor 'backlock' \(did you mean 'backlog'\?\); there are: "):
        monitors.find("backlock")


@pytest.mark.parametrize("name", ["registry", "sock_diag", "", "../fd"])
def test_what_serves_monitors_is_none(name: str) -> None:
    """Modules beside the monitors, and nonsense, cannot be named as one."""
    with pytest.raises(OptionError, match="unknown monitor"):
        monitors.find(name)
