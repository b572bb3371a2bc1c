"""``alarm-mw route``: shows which rules match a line, which alarms would fire, and what they would send."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from alarm_mw.app.launch.state import OUTBOX_NAME, running
from alarm_mw.cli.options import ConfiguredCommand, config_options, settings_or_exit, sources
from alarm_mw.cli.servers import placed
from alarm_mw.cli.trial.test import preview_of
from alarm_mw.config.build import engine_of
from alarm_mw.config.settings import Settings
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.messages import rule_text
from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Reason, Record, Rule
from alarm_mw.transports.records import RecordMaker, to_bytes

#: The exit status if no alarm would fire.
NOTHING = 1


def level_number(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Return a level's number."""
    if text is None or re.fullmatch("[0-9]{1,9}", text):
        return None if text is None else int(text)
    levels = logging.getLevelNamesMapping()
    if text.upper() not in levels:
        raise click.BadParameter(f"expected a number or one of {', '.join(levels)}, got {text!r}")
    return levels[text.upper()]


def facts(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> dict[str, str]:
    """Return fields that are given as ``NAME=VALUE``."""
    for text in texts:
        if text.find("=") < 1:
            raise click.BadParameter(f"expected NAME=VALUE, got {text!r}")
    return dict(text.split("=", 1) for text in texts)


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--level", metavar="LEVEL", callback=level_number, help="Level of a log record, such as ERROR.")
@click.option("--logger", default="", metavar="NAME", help="Logger of a log record.")
@click.option(
    "--field", "fields", metavar="NAME=VALUE", multiple=True, callback=facts, help="A field of a record. Repeatable."
)
@placed
@click.argument("line")
def route(  # noqa: PLR0917  # the command line's options
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    level: int | None,
    logger: str,
    fields: dict[str, str],
    state_dir: str | None,
    socket_path: str | None,
    line: str,
) -> None:
    """Show which rules match LINE, which alarms would fire, what would hold them back, and what each would send.

    Nothing is sent or counted. LINE is a printed line, or a log record with --level, --logger or --field. Limits and
    silences are those of the server that is selected, or of the only one that is running; without one, nothing was
    sent before. Incidents count as if none were open, and rules on requests are not tried. The exit status is 0 if an
    alarm would fire, else 1.
    """
    settings = settings_or_exit(sources(toml_files, ini_files))
    is_record = level is not None or bool(logger or fields)
    record = RecordMaker().make(
        to_bytes(line) + b"\n",
        source="logging" if is_record else "stdout",
        level=level,
        logger=logger,
        fields=fields,
    )
    place, memory = _memory(state_dir, socket_path)
    rehearsal = Rehearsal(settings, record, memory)
    for text in rehearsal.report():
        click.echo(text)
    if place is not None:
        click.echo(f"limits and silences: as of now in {place}")
    sys.exit(0 if rehearsal.fired else NOTHING)


class Rehearsal:
    """What a record would lead to."""

    def __init__(self, settings: Settings, record: Record, memory: Memory | None) -> None:
        self._settings = settings
        self._record = record
        now, fresh = time.monotonic(), engine_of(settings)
        self._matching = fresh.matching(record)
        self._verdict = engine_of(settings, memory).evaluate(record, now)
        #: What would be sent if nothing held it back.
        self._firings = {firing.alarm: firing for firing in fresh.evaluate(record, now).firings}
        #: The alarms that would fire.
        self.fired = frozenset(firing.alarm for firing in self._verdict.firings)

    def report(self) -> Iterator[str]:
        """Yield lines for people."""
        untried = [rule for rule in self._settings.rules if rule.request is not None and not rule.request.access_log]
        yield from (f"{_named(rule)}: not tried: it is about requests" for rule in untried)
        for compiled in self._matching:
            yield from self._of_rule(compiled)
        if self._verdict.skipped is Reason.EXCLUDED or not self._matching:
            yield from self._nothing()
        held = {each.alarm: each.reason for each in self._verdict.held}
        for alarm in self._verdict.matched:
            yield ""
            yield f"{alarm}: {'fires' if alarm in self.fired else f'held back ({held[alarm]})'}"
            if alarm in self._firings:
                yield from (
                    f"    {text}".rstrip() for text in preview_of(self._settings, self._firings[alarm]).split("\n")
                )

    def _of_rule(self, compiled: CompiledRule) -> Iterator[str]:
        rule = compiled.rule
        yield f"{_named(rule)}: {printable(rule_text(rule))}"
        if rule.labels:
            yield f"    labels: {printable(' '.join(f'{name}={value}' for name, value in rule.labels))}"
        if rule.resolves:
            yield f"    resolves incidents of {printable(rule.resolves)}"
        else:
            yield f"    alarms: {', '.join(map(printable, rule.alarms)) or 'none'}"
        for each in self._routes(rule):
            yield f"    {each}"

    def _routes(self, rule: Rule) -> Iterator[str]:
        if not self._settings.routes:
            return
        from alarm_mw.engine.routes import Router  # noqa: PLC0415  # few configurations have routes

        for each in Router(self._settings.routes, dict(self._settings.labels)).routes_of(rule, self._record):
            match = printable(", ".join(each.match)) or "every rule"
            yield f"route at {each.where}: {match}: {printable(', '.join(each.alarms))}"

    def _nothing(self) -> Iterator[str]:
        excluding = (rule for rule in self._settings.rules if rule.excludes and _matches(rule, self._record))
        if (rule := next(excluding, None)) is not None:
            yield f"{_named(rule)}: excludes the line: {printable(rule_text(rule))}"
        else:
            yield "no rule matches"


def _named(rule: Rule) -> str:
    return f"rule {printable(rule.name)} at {rule.where}" if rule.name else f"rule at {rule.where}"


def _matches(rule: Rule, record: Record) -> bool:
    compiled = compile_rule(rule)
    return (not compiled.is_conditional or compiled.meets_conditions(record)) and compiled.search(record.message)


def _memory(state_dir: str | None, socket_path: str | None) -> tuple[Path | None, Memory | None]:
    """Return the state directory of the selected server, or of the only running one, and its engine's memory."""
    places = [Path(state_dir)] if state_dir else [Path(socket_path).parent] if socket_path else []
    if not places:
        places = [path.parent for path in running(os.environ)]
    if len(places) != 1:
        return None, None
    path = places[0] / OUTBOX_NAME
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT data FROM memory").fetchone()
        return places[0], None if row is None else Memory.loads(row[0], time.monotonic(), time.time())
    except (sqlite3.Error, ValueError) as error:
        raise click.ClickException(f"{path}: cannot be read: {error}") from None
