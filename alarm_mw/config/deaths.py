"""Tells whether a configuration asks for deaths of the server's processes."""

from __future__ import annotations

from collections.abc import Iterable

from alarm_mw import monitors
from alarm_mw.config.settings import Watch


def asks_for_deaths(watches: Iterable[Watch]) -> bool:
    """Return whether some monitor wants to hear of deaths; where none does, nothing is done to know of them."""
    return any(getattr(monitors.find(watch.monitor), "asks_for_deaths", False) for watch in watches)
