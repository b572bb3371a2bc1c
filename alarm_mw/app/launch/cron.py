"""What is known of a cron job: its runs, what is wrong with them, and when it should have run.

The messages are records of the source ``cron``. A rule of the job's own makes incidents of them, one for each kind of
problem, so that receivers are notified when a problem is over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from alarm_mw.app.launch.origin import CronJob
from alarm_mw.config.settings import Settings
from alarm_mw.engine.flood_control.limits import span
from alarm_mw.model.types import IncidentOptions, Record, Rule, Where
from alarm_mw.system.forks import held_off
from alarm_mw.transports.records import RecordMaker, to_bytes

#: The source of the records.
SOURCE = "cron"

#: The files in a job's state directory: what is known of it, and what locks that.
STATE_NAME, LOCK_NAME = "job.json", "job.lock"

#: Seconds before a time of the schedule from which on a start counts for it.
EARLY = 60.0

Problem = Literal["failed", "overrun", "overlap", "absent"]
PROBLEMS: tuple[Problem, ...] = ("failed", "overrun", "overlap", "absent")

#: What the messages about problems begin with, behind the job's name; and what those begin with that end them.
_WRONG = r"failed|was killed|is still running|has not run|the run that began"
_OVER = r"succeeded|has run|ended"


class Run(msgspec.Struct, frozen=True):
    """A run that has not ended, as far as is known."""

    pid: int
    #: When the process was started, in the kernel's ticks: numbers of processes come again.
    ticks: int
    #: In seconds since the epoch.
    began: float


class JobState(msgspec.Struct):
    """What is known of a job's runs."""

    runs: list[Run] = []
    #: Something was wrong since the last success.
    has_problem: bool = False
    #: When it was started last, in seconds since the epoch.
    started: float = 0.0
    #: The expected start that was last reported as missed, in seconds since the epoch.
    told: float = 0.0


class JobFile:
    """The state of a job in its directory, for one process at a time."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / STATE_NAME
        self._lock = state_dir / LOCK_NAME

    def read(self) -> JobState:
        """Return what is known; an unreadable file is as none."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self._path.read_bytes(), type=JobState)
        return JobState()

    @contextlib.contextmanager
    def change(self) -> Iterator[JobState]:
        """Give the state, and write what becomes of it. Raises `OSError`."""
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.read()
            yield state
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(state))
            fresh.replace(self._path)
        finally:
            os.close(lock)


def this_run(now: float) -> Run:
    """Return the run of this process."""
    return Run(os.getpid(), _ticks(os.getpid()), now)


def is_running(run: Run) -> bool:
    """Return whether the process of a run is there."""
    return run.ticks != 0 and _ticks(run.pid) == run.ticks


def _ticks(pid: int) -> int:
    """Return when a process was started, in ticks since the machine's start; 0 for none (proc(5))."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def expected_start(job: CronJob, state: JobState) -> float | None:
    """Return when the job should have been started next after its last start; None where that is not known."""
    if not state.started or not (job.schedule or job.every):
        return None
    if job.every:
        return state.started + job.every
    with held_off():
        from zoneinfo import ZoneInfo  # noqa: PLC0415  # few jobs are looked at

        from cronsim import CronSim  # noqa: PLC0415  # as above

    zone = ZoneInfo(job.timezone) if job.timezone else None
    begin = datetime.fromtimestamp(state.started + min(EARLY, job.grace), zone).astimezone(zone)
    found: datetime | None = next(CronSim(job.schedule, begin), None)
    return None if found is None else found.timestamp()


def missed_start(job: CronJob, state: JobState, now: float) -> float | None:
    """Return the expected start that did not come in time and was not reported yet."""
    if any(map(is_running, state.runs)):
        return None
    expected = expected_start(job, state)
    is_missed = expected is not None and now > expected + job.grace and expected > state.told
    return expected if is_missed else None


# Messages


class Messages:
    """Makes the records about a job."""

    def __init__(self, job: CronJob) -> None:
        self._job = job
        self._records = RecordMaker()

    def ended(self, status: int, seconds: float, tail: bytes) -> list[Record]:
        """Return the records about the end of a run; a negative status is a signal's number."""
        took = span(seconds)
        facts = {"exit_status": str(status), "duration": f"{seconds:.3f}"}
        if status == 0:
            return [self._over(each, "succeeded", took, facts, tail) for each in PROBLEMS]
        how = f"failed with exit status {status}" if status > 0 else f"was killed by signal {-status}"
        over = [
            self._over(each, f"has run, with exit status {status}", took, facts)
            for each in PROBLEMS
            if each != "failed"
        ]
        return [*over, self._make(f"{how} after {took}", "failed", facts, tail)]

    def _over(self, problem: Problem, how: str, took: str, facts: Mapping[str, str], tail: bytes = b"") -> Record:
        """Return the record with which a problem is over; of a run that took too long it says how long."""
        is_overrun = problem == "overrun" and self._job.max_time
        text = f"ended after {took} (limit {span(self._job.max_time)})" if is_overrun else f"{how} after {took}"
        return self._make(text, problem, facts, tail)

    def success(self, seconds: float, tail: bytes) -> Record:
        """Return the record for those who want to hear of each success."""
        facts = {"exit_status": "0", "duration": f"{seconds:.3f}"}
        return self._make(f"succeeded after {span(seconds)}", None, facts, tail)

    def overran(self, tail: bytes) -> Record:
        """Return the record about a run that takes too long."""
        limit = span(self._job.max_time)
        return self._make(f"is still running after {limit}, which is its limit", "overrun", {}, tail)

    def overlaps(self, run: Run, *, is_skipped: bool) -> Record:
        """Return the record about a start while another run has not ended."""
        what = "this one was not started" if is_skipped else "another one was started"
        text = f"the run that began at {_clock(run.began)} (process {run.pid}) has not ended, and {what}"
        return self._make(text, "overlap", {})

    def vanished(self, run: Run) -> Record:
        """Return the record about a run of which nobody has seen the end."""
        text = f"the run that began at {_clock(run.began)} did not end by itself: it was killed, or the machine was off"
        return self._make(text, "failed", {})

    def absent(self, expected: float, started: float) -> Record:
        """Return the record about a start that did not come."""
        job = self._job
        when = f"schedule {job.schedule}" if job.schedule else f"every {span(job.every)}"
        text = (
            f"has not run: it was expected at {_clock(expected)} ({when}, grace {span(job.grace)}), "
            f"and was started last at {_clock(started)}"
        )
        return self._make(text, "absent", {})

    def _make(self, text: str, problem: Problem | None, facts: Mapping[str, str], tail: bytes = b"") -> Record:
        fields = {"job": self._job.name, **facts, **({} if problem is None else {"problem": problem})}
        message = to_bytes(f"cron {self._job.name}: {text}\n")
        record = self._records.make(message, source=SOURCE, fields=fields, context=tail)
        return structs.replace(record, pid=0)  # ours means nothing to anybody


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def cron_settings(settings: Settings, job: CronJob) -> Settings:
    """Return the settings with which the records of a job are judged: by a rule of its own, and no other."""
    name = f"cron {job.name}"
    alarms = job.alarms or tuple(alarm.name for alarm in settings.alarms)
    where = Where(f"alarm-mw cron {job.name}")
    start = f"^cron {re.escape(job.name)}: "
    options = IncidentOptions(key=("problem",), ends_with_line=True)
    wrong = Rule(f"{start}(?:{_WRONG})", alarms, where=where, name=name, incident=options)
    over = Rule(f"{start}(?:{_OVER})", (), where=where, resolves=name)
    return structs.replace(settings, rules=(wrong, over), monitors=(), mules=(), follow=())
