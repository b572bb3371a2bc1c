"""``alarm-mw test``: fires one alarm and waits for the outcome."""

from __future__ import annotations

import queue
import sys
import time

import click

from alarm_mw import actions, signals
from alarm_mw.cli.options import BAD_CONFIG, ConfiguredCommand, config_options, settings_or_exit, sources
from alarm_mw.cli.trial.leaving import to_hub
from alarm_mw.config.settings import Settings
from alarm_mw.engine.messages import named
from alarm_mw.master.process import write_stderr
from alarm_mw.master.runtime.making import place_of
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext, Previewed
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.printable import printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.transports.records import RecordMaker, to_bytes

#: The exit status if the alarm was not delivered.
NOT_DELIVERED = 1


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to keep trying.")
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
@click.argument("name", metavar="ALARM")
@click.argument("message", default="This is a test of the alarm, made by alarm-mw test.")
def test(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...], ini_files: tuple[str, ...], timeout: float, dry_run: bool, name: str, message: str
) -> None:
    """Fire ALARM with MESSAGE and wait for the outcome. The exit status is 0 if it was delivered, else 1."""
    settings = settings_or_exit(sources(toml_files, ini_files))
    names = [each.name for each in settings.alarms]
    if name not in names:
        known = f"there are: {', '.join(names)}" if names else "none is configured"
        click.echo(f"alarm-mw: unknown alarm {name!r}{did_you_mean(name, names)}; {known}", err=True)
        sys.exit(BAD_CONFIG)
    if dry_run:
        click.echo(preview(settings, name, message))
        return
    sys.exit(0 if TestFiring(settings, name).fire(message, timeout) else NOT_DELIVERED)


def preview(settings: Settings, name: str, message: str) -> str:
    """Return what an alarm would send for a message, with secrets masked."""
    record = RecordMaker().make(to_bytes(message) + b"\n", source="api")
    return preview_of(settings, Firing(f"{record.key}.{named(name)}", name, record.message, record, record.time))


def preview_of(settings: Settings, firing: Firing) -> str:
    """Return what an alarm would send for a firing, with secrets masked."""
    alarm = next(each for each in settings.alarms if each.name == firing.alarm)
    place = place_of(alarm, settings, settings.name)
    context = ActionContext(alarm.name, write_stderr, place=place, texts=alarm.texts)
    action = actions.find(alarm.plugin)(alarm.options, context)
    if isinstance(action, Previewed):
        return action.preview(firing)
    return "\n".join(printable_lines(firing.message))


class TestFiring:
    """Fires one alarm, and prints what happens."""

    def __init__(self, settings: Settings, alarm: str) -> None:
        self._alarm = alarm
        self._settings = settings
        self._outcomes: queue.SimpleQueue[ActionError | None] = queue.SimpleQueue()
        self._is_dead = False

    def fire(self, message: str, timeout: float) -> bool:
        """Return whether it was delivered within `timeout` seconds."""
        runtime = Runtime(self._settings, write_log=write_stderr, hand_over=to_hub(self._settings))
        with (
            signals.delivered.connected_to(self._note_delivered, sender=self._alarm),
            signals.failed.connected_to(self._note_failed, sender=self._alarm),
        ):
            runtime.start()
            try:
                record = RecordMaker().make(to_bytes(message) + b"\n", source="api")
                runtime.worker.submit(Batch((Item(record, self._alarm),)))
                return self._wait(time.monotonic() + timeout)
            finally:
                runtime.stop(0.0)

    def _wait(self, deadline: float) -> bool:
        last = ""
        while True:
            try:
                error = self._outcomes.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                click.echo(f"{self._alarm}: not delivered in time{last}", err=True)
                return False
            if error is None:
                click.echo(f"{self._alarm}: delivered")
                return True
            last = f": {error}"  # the log reports further attempts
            if self._is_dead:
                click.echo(f"{self._alarm}: not delivered{last}", err=True)
                return False

    def _note_delivered(self, _: str, firing: Firing) -> None:  # noqa: ARG002  # a receiver's signature
        self._outcomes.put(None)

    def _note_failed(self, _: str, firing: Firing, error: ActionError, dead: bool) -> None:  # noqa: ARG002  # see above
        self._is_dead = dead
        self._outcomes.put(error)
