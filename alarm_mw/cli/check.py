"""``alarm-mw check``: tells everything that is wrong with configuration files, and starts nothing."""

from __future__ import annotations

import os
from dataclasses import replace

import click

from alarm_mw.config.load import Examined, examine
from alarm_mw.config.sources import Sources
from alarm_mw.master.foreign import unmakable


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.pass_context
def check(context: click.Context, files: tuple[str, ...]) -> None:
    """Check configuration files and tell everything that is wrong.

    A FILE that ends in .ini is uWSGI's, one that ends in .toml is TOML; of any other the content decides. Several
    files are checked together, as they would be used together.

    Prints a line "file:line: …" for each mistake and "file:line: warning: …" for what should be looked at, then a
    summary. The exit status is 0 when the configuration can be used, else 2.
    """
    examined = examine(Sources.of_files(files), os.environ)
    if not examined.problems:
        examined = replace(examined, problems=unmakable(examined.settings))
    for problem in examined.problems:
        click.echo(str(problem))
    for warning in examined.warnings:
        click.echo(f"{warning.where}: warning: {warning.text}")
    click.echo(summary(examined))
    context.exit(2 if examined.problems else 0)


def summary(examined: Examined) -> str:
    """Return the last line: ``ok: 3 alarms, 5 rules``."""
    warnings = [_count(len(examined.warnings), "warning")] if examined.warnings else []
    if examined.problems:
        return ", ".join([_count(len(examined.problems), "problem"), *warnings])
    settings = examined.settings
    monitors = [_count(len(settings.monitors), "monitor")] if settings.monitors else []
    parts = [_count(len(settings.alarms), "alarm"), _count(len(settings.rules), "rule"), *monitors, *warnings]
    return f"ok: {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
