"""The package's public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import alarm_mw


def test_every_public_name_is_there() -> None:
    """What `__all__` names can be used, and `dir` shows it."""
    for name in alarm_mw.__all__:
        assert getattr(alarm_mw, name) is not None
        assert name in dir(alarm_mw)


def test_other_names_are_errors() -> None:
    """A name that does not exist is an AttributeError, as everywhere."""
    with pytest.raises(AttributeError, match="no attribute 'alram'"):
        _ = alarm_mw.alram


def test_importing_loads_nothing() -> None:
    """`import alarm_mw` costs next to nothing until a name is used."""
    program = "import sys, alarm_mw; print(*(name for name in sys.modules if name.startswith('alarm_mw')))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "alarm_mw\n"


def test_the_start_of_a_server_waits_for_nothing_that_it_does_not_need() -> None:
    """What `alarm-mw run` loads before it starts the server is neither the event loop nor what delivers alarms."""
    heavy = ["asyncio", "importlib.metadata", "httpx", "rich", "slixmpp", "starlette"]
    actions = "for name in ('cmd', 'curl', 'log'): registry.find(name)"
    program = f"import sys, alarm_mw.cli.run; from alarm_mw.actions import registry\n{actions}\n"
    shown = f"print(*(name for name in {heavy} if name in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program + shown], text=True) == "\n"
