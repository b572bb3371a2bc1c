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
