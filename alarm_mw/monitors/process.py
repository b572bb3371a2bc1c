"""``monitor = "process"``: waits for a process of the server to be missing for a time."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Annotated, ClassVar

import msgspec

from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.system.exits import command
from alarm_mw.system.processes import family


class ProcessOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `process`."""

    is_always_incident: ClassVar[bool] = True

    command: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="a text that the command line of the process contains, such as `celery worker`; its first 200 "
            "characters are looked at",
        ),
    ]
    at_least: Annotated[int, msgspec.Meta(ge=1, le=10_000, description="how many such processes must be running")] = 1
    missing_for: Annotated[
        str | float,
        msgspec.Meta(description="how long fewer are running before it fires: seconds, or a text such as `30s`"),
    ] = 10.0
    interval: Annotated[float, msgspec.Meta(ge=0.01, le=3600, description="seconds between two checks")] = 1.0

    def __post_init__(self) -> None:
        """Check the time."""
        try:
            read_duration(self.missing_for)
        except ValueError as error:
            raise ValueError(f"missing_for: {error}") from None

    @property
    def seconds(self) -> float:
        """How long fewer are running before it fires."""
        return read_duration(self.missing_for)

    def knows_end(self) -> bool:
        """Return True: it is over when the process is running again."""
        return True


class ProcessMonitor:
    """Fires when too few processes with a command are running among those that the server has started.

    In process, those that this process has started count. It is over when enough are running again.
    """

    Options: ClassVar[type[PluginOptions]] = ProcessOptions

    def __init__(self, options: ProcessOptions, context: MonitorContext) -> None:
        self._options = options
        self._context = context
        self._in_process = context.server_pid() is None
        self._absence = Absence(options)

    @classmethod
    def from_uwsgi(cls, args: str) -> ProcessOptions:
        """Raise `OptionError`: uWSGI has no such monitor."""
        raise OptionError(f"uWSGI has no monitor 'process' (got {args!r}); write it as [[monitors]] in a TOML file")

    async def run(self) -> None:
        """Count the processes periodically."""
        while True:
            root = os.getpid() if self._in_process else self._context.server_pid()
            found = 0 if root is None else self._count(root)
            is_missing = self._absence.look(found, time.monotonic())
            if self._context.report is not None and is_missing is not None:
                text = self._absence.describe(found).encode("utf-8", "surrogateescape")
                self._context.report({"": text} if is_missing else {}, {"": text})
            await asyncio.sleep(self._options.interval)

    def _count(self, root: int) -> int:
        return sum(self._options.command in command(pid) for pid in family(root) if pid != root)


class Absence:
    """Decides when processes have been missing for too long. Pure: number and time come in."""

    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        self._since: float | None = None

    def look(self, found: int, now: float) -> bool | None:
        """Return whether too few have been running for too long; None while that may be the case soon.

        `now` is in seconds of a clock that never goes back.
        """
        if found >= self._options.at_least:
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        return True if now - self._since >= self._options.seconds else None

    def describe(self, found: int) -> str:
        """Return how many processes are running."""
        expected = self._options.at_least
        state = "are running" if found >= expected else f"are running, {expected} expected"
        return f"{found} processes with {self._options.command!r} in their command {state}"
