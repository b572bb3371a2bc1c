"""``alarm-mw cron``: runs a cron job, and reports how it went."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO, Literal
from zoneinfo import available_timezones

import click

from alarm_mw.app.launch.cron import JobFile, Messages, cron_settings, is_running, this_run
from alarm_mw.app.launch.one_off import deliver, run_once, to_deliver
from alarm_mw.app.launch.origin import CronJob, Origin
from alarm_mw.app.launch.state import StateDir, count_waiting, state_home
from alarm_mw.cli.options import (
    BAD_CONFIG,
    ConfiguredCommand,
    complain,
    config_options,
    loaded_or_exit,
    read_wait,
    sources,
)
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.config.tables.texts import SERVER_NAME, is_server_name
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import Record
from alarm_mw.supervisor.process import NOT_EXECUTABLE, NOT_FOUND
from alarm_mw.supervisor.supervisor import UNDELIVERED
from alarm_mw.system.directories import make_directory
from alarm_mw.system.log_lines import start_logging

#: Seconds for the delivery of what is fired.
WAIT = 60.0

#: How many lines and bytes of the output's end a message shows.
TAIL_LINES, TAIL_BYTES = 20, 4096

#: Seconds for output that others hold open after the end of the job.
DRAIN = 2.0

#: Seconds between two tries at locking the outbox.
PAUSE = 0.1


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--alarms", default="", metavar="NAME[,NAME]", help="The alarms that it fires. [default: all]")
@click.option("--schedule", default="", metavar="CRON", help='When it is started, as in the crontab: "0 3 * * *".')
@click.option("--timezone", default="", help="Time zone of --schedule. [default: the machine's]")
@click.option("--every", metavar="TIME", callback=read_wait, help="It is started at least so often, such as 1d.")
@click.option("--grace", metavar="TIME", callback=read_wait, help="How late a start may be. [default: 10m]")
@click.option("--max-time", metavar="TIME", callback=read_wait, help="It should have ended within this time.")
@click.option(
    "--overlap",
    type=click.Choice(["run", "skip"]),
    default="run",
    show_default=True,
    help="While the run before it has not ended, run it all the same, or skip it. Both are reported.",
)
@click.option("--report-success", is_flag=True, help="Also send a message for each success.")
@click.option("--tail", default=TAIL_LINES, show_default=True, help="Lines of output that a message shows.")
@click.option(
    "--wait", metavar="TIME", callback=read_wait, help="Deliver for up to this time, such as 60s. [default: 60s]"
)
@click.option(
    "--strict", "is_strict", is_flag=True, help="Exit with status 75 if it has succeeded and a message still waits."
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def cron(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    alarms: str,
    schedule: str,
    timezone: str,
    every: float | None,
    grace: float | None,
    max_time: float | None,
    overlap: Literal["run", "skip"],
    report_success: bool,
    tail: int,
    wait: float | None,
    is_strict: bool,
    name: str,
    command: tuple[str, ...],
) -> None:
    """Run a cron job, and report failures, overruns, overlapping runs and missing ones, each with its end.

    \b
    0 3 * * *  alarm-mw cron --schedule "0 3 * * *" --max-time 1h backup -- /srv/backup.sh

    The job's output passes through, and its exit status is returned. A message shows the end of the output. A missed
    start is detected by any alarm_mw process that runs then: another job, a server, or `alarm-mw deliver` in the
    crontab.
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    job = CronJob(
        name,
        tuple(filter(None, alarms.split(","))),
        schedule,
        timezone,
        every or 0.0,
        600.0 if grace is None else grace,
        max_time or 0.0,
    )
    _check(job)
    found = sources(toml_files, ini_files)
    loaded = loaded_or_exit(found)
    unknown = [each for each in job.alarms if each not in {alarm.name for alarm in loaded.settings.alarms}]
    if unknown:
        _refuse(f"--alarms: unknown alarm {unknown[0]!r}")
    reporter = Reporter(job, loaded.settings, found, WAIT if wait is None else wait)
    sys.exit(_run(reporter, command, overlap, tail, reports_success=report_success, is_strict=is_strict))


def _check(job: CronJob) -> None:
    if not is_server_name(job.name):
        _refuse(f"{SERVER_NAME}, got {job.name!r} as the job's name")
    if job.schedule and job.every:
        _refuse("both --schedule and --every, expected one of them")
    if job.timezone and job.timezone not in available_timezones():
        _refuse(f"--timezone: unknown time zone {job.timezone!r}")
    if job.schedule:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  # few jobs have one

        try:
            next(CronSim(job.schedule, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            _refuse(f"--schedule: expected five fields as in the crontab, got {job.schedule!r}: {error}")


def _refuse(text: str) -> None:
    click.echo(f"alarm-mw: {text}", err=True)
    sys.exit(BAD_CONFIG)


class Reporter:
    """Fires what is to be said about a job, one message after the other, and delivers it."""

    def __init__(self, job: CronJob, settings: Settings, found: Sources, wait: float) -> None:
        self.job = job
        self.messages = Messages(job)
        self.state_dir = state_home(os.environ) / f"cron-{job.name}"
        make_directory(self.state_dir)
        self.file = JobFile(self.state_dir)
        self._settings = cron_settings(settings, job)
        self._wait = wait
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []
        Origin(found, os.getcwd(), settings.name, job).write(self.state_dir)

    def report(self, *records: Record, alarms: Sequence[str] = ()) -> None:
        """Judge records by the job's rule, or fire alarms with them, and deliver; blocks until that is done."""
        items = [Item(record) for record in records] if not alarms else [Item(records[0], each) for each in alarms]
        with self._turn:
            deadline = time.monotonic() + self._wait
            claimed = StateDir.claim(self.state_dir)
            while claimed is None and time.monotonic() < deadline:
                time.sleep(PAUSE)
                claimed = StateDir.claim(self.state_dir)
            if claimed is None:
                text = records[0].text
                click.echo(f"alarm-mw: {self.state_dir} is in use, and this is not reported: {text}", err=True)
                return
            try:
                run_once(self._settings, self.state_dir, self._settings.name, self._wait, [Batch(items)])
            finally:
                os.close(claimed.lock)

    def report_soon(self, *records: Record) -> None:
        """Report in a thread: the job goes on."""
        if records:
            thread = threading.Thread(target=self.report, args=records, name="alarm-mw-report")
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Wait for what is being reported."""
        for thread in self._threads:
            thread.join()

    @property
    def all_alarms(self) -> Sequence[str]:
        """The alarms that the job fires."""
        return self._settings.rules[0].alarms


def _run(
    reporter: Reporter,
    command: Sequence[str],
    overlap: str,
    lines: int,
    *,
    reports_success: bool,
    is_strict: bool,
) -> int:
    start_logging("ERROR")
    own = this_run(time.time())
    with reporter.file.change() as state:
        running = [run for run in state.runs if is_running(run)]
        records = [reporter.messages.vanished(run) for run in state.runs if run not in running]
        is_skipped = bool(running) and overlap == "skip"
        records += [reporter.messages.overlaps(run, is_skipped=is_skipped) for run in running[-1:]]
        state.runs = running if is_skipped else [*running, own]
        state.started = own.began if not is_skipped else state.started
        state.has_problem |= bool(records)
    if is_skipped:
        reporter.report(*records)
        return os.EX_TEMPFAIL
    reporter.report_soon(*records)
    began = time.monotonic()
    status, tail = Process(reporter, lines).run(command)
    seconds = time.monotonic() - began
    reporter.join()
    _report_end(reporter, own.pid, status, seconds, tail, reports_success=reports_success)
    for folder in to_deliver(os.environ, reporter.state_dir):
        complain(deliver(folder, os.environ, WAIT).problems)
    if is_strict and status == 0 and count_waiting(reporter.state_dir):
        return UNDELIVERED
    return status if status >= 0 else 128 - status


def _report_end(
    reporter: Reporter, pid: int, status: int, seconds: float, tail: bytes, *, reports_success: bool
) -> None:
    with reporter.file.change() as state:
        state.runs = [run for run in state.runs if run.pid != pid]
        is_news, state.has_problem = state.has_problem or status != 0, status != 0
    if is_news:
        reporter.report(*reporter.messages.ended(status, seconds, tail))
    if status == 0 and reports_success:
        reporter.report(reporter.messages.success(seconds, tail), alarms=reporter.all_alarms)
    elif not is_news and count_waiting(reporter.state_dir):
        deliver(reporter.state_dir, os.environ, WAIT)


class Process:
    """The job's process: its output passes through, and its end is remembered."""

    def __init__(self, reporter: Reporter, lines: int) -> None:
        self._reporter = reporter
        self._tail: deque[bytes] = deque(maxlen=max(lines, 0))
        self._lock = threading.Lock()

    def run(self, command: Sequence[str]) -> tuple[int, bytes]:
        """Run it to its end; return its exit status, or a signal's number below zero, and the end of its output."""
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        except OSError as error:
            click.echo(f"alarm-mw: {command[0]}: {error.strerror}", err=True)
            status = NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else NOT_EXECUTABLE
            return status, f"{command[0]}: {error.strerror}\n".encode()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        for number in (signal.SIGINT, signal.SIGQUIT):  # the terminal sends them to the job as well
            signal.signal(number, lambda *_: None)
        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            threading.Thread(target=self._pump, args=(source, sink), daemon=True)
            for source, sink in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer))
        ]
        for pump in pumps:
            pump.start()
        self._await(process)
        for pump in pumps:
            pump.join(DRAIN)
        return process.returncode, self._end()

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        limit = self._reporter.job.max_time
        try:
            process.wait(limit or None)
        except subprocess.TimeoutExpired:
            with self._reporter.file.change() as state:
                state.has_problem = True
            self._reporter.report_soon(self._reporter.messages.overran(self._end()))
            process.wait()

    def _pump(self, source: IO[bytes], sink: IO[bytes]) -> None:
        rest = b""
        while data := source.read(65_536):
            with contextlib.suppress(OSError):  # nobody reads it: the job goes on as it would
                sink.write(data)
                sink.flush()
            *whole, rest = (rest + data).split(b"\n")
            with self._lock:
                self._tail.extend(line[-TAIL_BYTES:] + b"\n" for line in whole)
            rest = rest[-TAIL_BYTES:]
        if rest:
            with self._lock:
                self._tail.append(rest)

    def _end(self) -> bytes:
        with self._lock:
            return b"".join(self._tail)[-TAIL_BYTES:]
