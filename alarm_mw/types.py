"""The facts that plugins and signal handlers get."""

from __future__ import annotations

from alarm_mw.model.types import NOWHERE, Death, Firing, Held, Reason, Record, Stated, Where

__all__ = ["NOWHERE", "Death", "Firing", "Held", "Reason", "Record", "Stated", "Where"]
