"""The action `airbrake`: reports to Airbrake and Errbit."""

from alarm_mw.actions.airbrake.action import AirbrakeAction, AirbrakeOptions

__all__ = ["AirbrakeAction", "AirbrakeOptions"]
