"""Helpers for tests of programs that use alarms; see also the pytest plugin."""

from __future__ import annotations

from alarm_mw.testing.alarms import Alarms, Firings
from alarm_mw.testing.recorder import Recorder, RecordingAction, RequestRecorder

__all__ = ["Alarms", "Firings", "Recorder", "RecordingAction", "RequestRecorder"]
