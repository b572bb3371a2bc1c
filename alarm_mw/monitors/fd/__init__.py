"""The monitor `fd`: waits for a descriptor to be readable."""

from alarm_mw.monitors.fd.monitor import FdMonitor, FdOptions

__all__ = ["FdMonitor", "FdOptions"]
