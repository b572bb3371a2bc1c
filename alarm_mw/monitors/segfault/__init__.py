"""The monitor `segfault`: fires when a process of the server dies of a fatal signal."""

from alarm_mw.monitors.segfault.monitor import SegfaultMonitor, SegfaultOptions

__all__ = ["SegfaultMonitor", "SegfaultOptions"]
