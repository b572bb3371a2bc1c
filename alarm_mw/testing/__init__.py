"""Helpers for tests of programs that use alarms."""

from __future__ import annotations

from alarm_mw.testing.recorder import Recorder, RecordingAction
from alarm_mw.testing.requests import RequestRecorder

__all__ = ["Recorder", "RecordingAction", "RequestRecorder"]
