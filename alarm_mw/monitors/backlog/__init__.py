"""The monitor `backlog`: waits for a listen queue to fill."""

from alarm_mw.monitors.backlog.monitor import BacklogMonitor, BacklogOptions

__all__ = ["BacklogMonitor", "BacklogOptions"]
