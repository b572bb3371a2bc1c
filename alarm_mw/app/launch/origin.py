"""Where the alarms of a state directory come from: kept in it, so that another command can deliver what is left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from alarm_mw.app.launch.state import ORIGIN_NAME
from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.sources import Sources


class CronJob(msgspec.Struct, frozen=True):
    """A job as the command line describes it. Times are in seconds."""

    name: str
    #: The alarms that it fires; empty: all.
    alarms: tuple[str, ...] = ()
    #: As in crontab; empty without one.
    schedule: str = ""
    #: Of the schedule; empty: the machine's.
    timezone: str = ""
    #: It runs at least so often; 0 where that is not known, or there is a schedule.
    every: float = 0.0
    #: How late a start may be.
    grace: float = 600.0
    #: It ends within this time; 0: at any time.
    max_time: float = 0.0


class Origin(msgspec.Struct, frozen=True):
    """The configuration that a run was started with, and where. It names files, and holds what flags say."""

    sources: Sources
    #: The working directory.
    directory: str
    #: The server's name; may be empty.
    name: str = ""
    #: The cron job that runs there; None for another program.
    cron: CronJob | None = None

    def write(self, state_dir: Path) -> None:
        """Replace what is known of a state directory. A failure costs only that others cannot deliver what is left."""
        fresh = state_dir / f"{ORIGIN_NAME}.new"
        with contextlib.suppress(OSError):
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  # of the descriptor
                file.write(msgspec.json.encode(self))
            fresh.replace(state_dir / ORIGIN_NAME)

    @classmethod
    def read(cls, state_dir: Path) -> Origin | None:
        """Return what is known of a state directory; None for nothing."""
        try:
            return msgspec.json.decode((state_dir / ORIGIN_NAME).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None

    def examine(self, environ: Mapping[str, str]) -> Examined:
        """Read the configuration again."""
        return examine(self.sources, environ)
