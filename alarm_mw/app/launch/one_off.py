"""A master for a moment, in this process, on the outbox of a state directory: fires and delivers, and ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from alarm_mw.app.launch.cron import JobFile, Messages, cron_settings, missed_start
from alarm_mw.app.launch.origin import CronJob, Origin
from alarm_mw.app.launch.state import OUTBOX_NAME, StateDir, count_waiting, stopped_dirs
from alarm_mw.config.settings import Settings
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
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


def to_deliver(environ: Mapping[str, str], own: Path | None = None) -> Iterator[Path]:
    """Yield the default state directories of stopped programs in which something waits, or whose job did not come.

    `own` is left out.
    """
    for path in stopped_dirs(environ, own):
        if count_waiting(path) or _missed(path) is not None:
            yield path


def has_jobs(environ: Mapping[str, str]) -> bool:
    """Return whether there are cron jobs that are expected at some time."""
    origins = map(Origin.read, stopped_dirs(environ))
    return any(found and found.cron and (found.cron.schedule or found.cron.every) for found in origins)


def _missed(state_dir: Path) -> float | None:
    """Return when the job of a directory should have been started, and was not."""
    origin = Origin.read(state_dir)
    if origin is None or origin.cron is None:
        return None
    return missed_start(origin.cron, JobFile(state_dir).read(), time.time())


def deliver(state_dir: Path, environ: Mapping[str, str], wait: float, settings: Settings | None = None) -> Delivered:
    """Deliver what waits in the directory of a stopped server, by these settings, or by those that it was started with.

    A job that did not come is reported. Nothing is done where a server has the directory. May block for `wait` seconds
    and a little longer.
    """
    waiting = count_waiting(state_dir)
    claimed = StateDir.claim(state_dir) if waiting or _missed(state_dir) is not None else None
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
        batches = []
        if origin is not None:
            settings = _placed(settings, origin)
            if origin.cron is not None:
                settings = cron_settings(settings, origin.cron)
                batches = _absence(state_dir, origin.cron)
        run_once(settings, state_dir, "" if origin is None else origin.name, wait, batches)
    finally:
        os.close(claimed.lock)
    left = count_waiting(state_dir)
    return Delivered(max(waiting + len(batches) - left, 0), left)


def _absence(state_dir: Path, job: CronJob) -> list[Batch]:
    """Return what is to be said about a start that did not come, once."""
    with JobFile(state_dir).change() as state:
        expected = missed_start(job, state, time.time())
        if expected is None:
            return []
        state.told, state.has_problem = expected, True
        return [Batch([Item(Messages(job).absent(expected, state.started))])]


def _placed(settings: Settings, origin: Origin) -> Settings:
    """Return settings whose commands run in the directory in which the program was started."""
    if settings.execution.chdir or not os.path.isdir(origin.directory):
        return settings
    return structs.replace(settings, execution=structs.replace(settings.execution, chdir=origin.directory))


def _write_log(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
