"""``alarm-mw drill``: sends the beginning and the end of a test incident through every alarm."""

from __future__ import annotations

import json
import os
import queue
import sys
import time
import urllib.parse
from collections.abc import Iterable, Iterator

import click
import msgspec
from msgspec import structs

from alarm_mw import signals
from alarm_mw.app.launch.state import running
from alarm_mw.cli.console import console, table
from alarm_mw.cli.options import BAD_CONFIG, ConfiguredCommand, config_options, loaded_or_exit, sources
from alarm_mw.cli.servers import find, placed
from alarm_mw.cli.trial.leaving import to_hub
from alarm_mw.config.settings import Settings
from alarm_mw.master.process import write_stderr
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import ActionError, NotRunningError
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing, IncidentOptions, Rule
from alarm_mw.transports.control import ask
from alarm_mw.transports.places import SOCKET_VARIABLE
from alarm_mw.transports.records import RecordMaker

#: The exit status if an alarm was not delivered.
NOT_DELIVERED = 1

#: Seconds to wait for each answer of a server that is to take note of the drill.
PATIENCE = 10.0

BEGIN = b"DRILL: this is a test of all alarms, nothing is wrong\n"
END = b"DRILL OVER: the test of all alarms has ended\n"

_STATUSES = ("firing", "resolved")


class Outcome(msgspec.Struct):
    """What has become of the messages to one alarm: seconds until each was delivered, or why it was not."""

    alarm: str
    action: str
    firing: float | None = None
    resolved: float | None = None
    error: str = ""
    #: Whether it is notified of ends at all.
    wants_resolved: bool = True

    @property
    def is_delivered(self) -> bool:
        """Whether all messages that it is to get have arrived."""
        return self.firing is not None and (self.resolved is not None or not self.wants_resolved)


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to keep trying.")
@click.option("--only", multiple=True, metavar="ALARM", help="Only this alarm. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@placed
def drill(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    timeout: float,
    only: tuple[str, ...],
    as_json: bool,
    state_dir: str | None,
    socket_path: str | None,
) -> None:
    """Send a test incident through every alarm, its beginning and its end, and show how long each took.

    Run it once a week, before you need the alarms. The messages say that they are a drill. Running servers with this
    configuration file take note of it, for `warn_after` in the table [drill]. The exit status is 0 if every alarm was
    delivered, else 1.
    """
    loaded = loaded_or_exit(sources(toml_files, ini_files))
    settings = loaded.settings
    names = [alarm.name for alarm in settings.alarms]
    if unknown := [name for name in only if name not in names]:
        click.echo(f"alarm-mw: unknown alarm {unknown[0]!r}; there are: {', '.join(names)}", err=True)
        sys.exit(BAD_CONFIG)
    wanted = [alarm for alarm in settings.alarms if not only or alarm.name in only]
    outcomes = Drill(structs.replace(settings, alarms=tuple(wanted))).run(timeout)
    delivered = [outcome.alarm for outcome in outcomes if outcome.is_delivered]
    for problem in noted(delivered, loaded.files, state_dir, socket_path):
        click.echo(f"alarm-mw: no server has taken note of the drill: {printable(problem)}", err=True)
    if as_json:
        click.echo(json.dumps([structs.asdict(outcome) for outcome in outcomes], indent=2))
    else:
        shown = table("alarm", "action", *_STATUSES, "last error")
        for each in outcomes:
            shown.add_row(each.alarm, each.action, *_shown(each), printable(each.error))
        console().print(shown)
    sys.exit(0 if all(outcome.is_delivered for outcome in outcomes) else NOT_DELIVERED)


def noted(alarms: Iterable[str], files: Iterable[str], state_dir: str | None, socket_path: str | None) -> Iterator[str]:
    """Have servers note that these alarms work: the one that is named, or all running ones that have read the files.

    Yields why a server that is named cannot. May block.
    """
    is_named = bool(state_dir or socket_path or os.environ.get(SOCKET_VARIABLE))
    query = urllib.parse.urlencode([("alarm", alarm) for alarm in alarms])
    ours = {os.path.realpath(file) for file in files}
    for socket in [find(state_dir, socket_path)] if is_named else map(str, running(os.environ)):
        try:
            theirs = ask(socket, "/status", timeout=PATIENCE)["configuration"]["files"]
            if is_named or ours & {os.path.realpath(file) for file in theirs}:
                ask(socket, f"/drilled?{query}", method="POST", timeout=PATIENCE)
        except NotRunningError as error:
            if is_named:
                yield str(error)


def _shown(outcome: Outcome) -> Iterator[str]:
    for name in _STATUSES:
        seconds = getattr(outcome, name)
        missing = "not wanted" if name == "resolved" and not outcome.wants_resolved else "not delivered"
        yield missing if seconds is None else f"{seconds:.2f} s"


class Drill:
    """A master of its own, with one rule that fires all alarms."""

    def __init__(self, settings: Settings) -> None:
        alarms = tuple(alarm.name for alarm in settings.alarms)
        rule = Rule(BEGIN.decode().strip(), alarms, name="drill", incident=IncidentOptions())
        self._settings = structs.replace(
            settings,
            rules=(rule, Rule(END.decode().strip(), (), resolves="drill")),
            monitors=(),
            routes=(),
            inhibit_rules=(),
            own_alarms=(),
        )
        self._outcomes = {
            alarm.name: Outcome(alarm.name, alarm.plugin, wants_resolved=alarm.notify.send_resolved)
            for alarm in settings.alarms
        }
        self._reports: queue.SimpleQueue[tuple[str, str, ActionError | None]] = queue.SimpleQueue()
        self._dead: set[str] = set()

    def run(self, timeout: float) -> list[Outcome]:
        """Return what has become of each alarm within `timeout` seconds for the beginning, and for the end. Blocks."""
        runtime = Runtime(self._settings, write_log=write_stderr, hand_over=to_hub(self._settings))
        with signals.delivered.connected_to(self._note_delivered), signals.failed.connected_to(self._note_failed):
            runtime.start()
            try:
                for status, line in zip(_STATUSES, (BEGIN, END), strict=True):
                    record = RecordMaker().make(line, source="api")
                    runtime.worker.submit(Batch((Item(record),)))
                    self._wait(status, timeout)
            finally:
                runtime.stop(0.0)
        return list(self._outcomes.values())

    def _wait(self, status: str, timeout: float) -> None:
        """Wait until every alarm has got its message of this status, or never will."""
        begun = time.monotonic()
        while waiting := self._waiting(status):
            left = begun + timeout - time.monotonic()
            try:
                alarm, said, error = self._reports.get(timeout=max(left, 0.0))
            except queue.Empty:
                for name in waiting:
                    self._outcomes[name].error = self._outcomes[name].error or f"nothing within {timeout:g} seconds"
                return
            if error is None:
                setattr(self._outcomes[alarm], said, round(time.monotonic() - begun, 3))
            else:
                self._outcomes[alarm].error = str(error)

    def _waiting(self, status: str) -> list[str]:
        """Return the alarms that are to get a message of this status."""
        return [
            name
            for name, outcome in self._outcomes.items()
            if getattr(outcome, status) is None
            and name not in self._dead
            and (status == "firing" or (outcome.firing is not None and outcome.wants_resolved))
        ]

    def _note_delivered(self, alarm: str, firing: Firing) -> None:
        self._reports.put((alarm, _status(firing), None))

    def _note_failed(self, alarm: str, firing: Firing, error: ActionError, dead: bool) -> None:
        if dead:
            self._dead.add(alarm)
        self._reports.put((alarm, _status(firing), error))


def _status(firing: Firing) -> str:
    return "firing" if firing.trigger is None or firing.trigger.incident is None else firing.trigger.incident.status
