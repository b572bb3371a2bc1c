"""A master for a moment, in this process, on the outbox of a state directory: fires and delivers, and ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from alarm_mw.app.launch.origin import Origin
from alarm_mw.app.launch.state import OUTBOX_NAME, StateDir, count_waiting
from alarm_mw.config.settings import Settings
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch
from alarm_mw.model.errors import Problem


class Delivered(NamedTuple):
    """What became of what waited in a state directory."""

    delivered: int
    left: int
    #: Why the rest could not be tried; empty where it was.
    problems: tuple[Problem, ...] = ()


def run_once(settings: Settings, state_dir: Path, name: str, wait: float, batches: Sequence[Batch] = ()) -> bool:
    """Process batches and deliver what waits, for at most `wait` seconds; return whether all was delivered.

    The caller has locked the directory.
    """
    runtime = Runtime(settings, outbox=state_dir / OUTBOX_NAME, write_log=_write_log, name=name)
    runtime.start()
    for batch in batches:
        runtime.worker.submit(batch)
    return runtime.stop(wait, waits=True)


def deliver(state_dir: Path, environ: Mapping[str, str], wait: float, settings: Settings | None = None) -> Delivered:
    """Deliver what waits in the directory of a stopped server, by these settings, or by those that it was started with.

    Nothing is done where a server has the directory. May block for `wait` seconds and a little longer.
    """
    waiting = count_waiting(state_dir)
    claimed = StateDir.claim(state_dir) if waiting else None
    if claimed is None:
        return Delivered(0, 0)
    try:
        origin = Origin.read(state_dir)
        if settings is None:
            if origin is None:
                return Delivered(0, waiting)
            examined = origin.examine(environ)
            problems = examined.problems or unmakable(examined.settings)
            if problems:
                return Delivered(0, waiting, problems)
            settings = examined.settings
        if origin is not None and not settings.execution.chdir:
            execution = structs.replace(settings.execution, chdir=_existing(origin.directory))
            settings = structs.replace(settings, execution=execution)
        run_once(settings, state_dir, "" if origin is None else origin.name, wait)
    finally:
        os.close(claimed.lock)
    left = count_waiting(state_dir)
    return Delivered(max(waiting - left, 0), left)


def _existing(folder: str) -> str:
    return folder if os.path.isdir(folder) else ""


def _write_log(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
