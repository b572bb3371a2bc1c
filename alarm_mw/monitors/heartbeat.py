"""``monitor = "heartbeat"``: waits for heartbeats to be overdue."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.model.measures import HEARTBEAT, Heartbeat


class HeartbeatOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `heartbeat`."""

    incident_key: ClassVar[str] = HEARTBEAT
    is_always_incident: ClassVar[bool] = True

    every: Annotated[
        str | float,
        msgspec.Meta(
            description="how often one is expected: seconds, or a text such as `5m`; a heartbeat can bring its own time"
        ),
    ]
    grace: Annotated[str | float, msgspec.Meta(description="how late it may be")] = "1m"
    names: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="the heartbeats. A name is expected from the start; one with `*`, `?` or `[…]` stands for all "
            "that match it, each expected from its first heartbeat on. By default, all names"
        ),
    ] = ()

    def __post_init__(self) -> None:
        """Check the times."""
        for name in ("every", "grace"):
            try:
                read_duration(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    def knows_end(self) -> bool:
        """Return True: it is over with the next heartbeat."""
        return True

    def measure(self) -> Heartbeat:
        """Return what the engine measures."""
        return Heartbeat(read_duration(self.every), read_duration(self.grace), self.names)


class HeartbeatMonitor:
    """Fires when a heartbeat is overdue, or reports a failure. The next one ends the incident.

    Heartbeats come from `alarm_mw.heartbeat` and from ``alarm-mw heartbeat``. While no master is running, none is
    missed: only time during which it could have arrived counts.
    """

    Options: ClassVar[type[PluginOptions]] = HeartbeatOptions

    def __init__(self, options: HeartbeatOptions, context: MonitorContext) -> None:
        pass

    @classmethod
    def from_uwsgi(cls, args: str) -> HeartbeatOptions:
        """Raise `OptionError`: uWSGI has no such monitor."""
        raise OptionError(f"uWSGI has no monitor 'heartbeat' (got {args!r}); write it as [[monitors]] in a TOML file")

    async def run(self) -> None:
        """Return: the engine knows when heartbeats come, and when they are overdue."""
