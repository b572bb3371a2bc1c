"""``alarm-mw check``: reports every mistake in configuration files, and starts nothing."""

from __future__ import annotations

import os

import click
from msgspec import structs

from alarm_mw.cli.options import RuleProgress
from alarm_mw.config.lint.suspicions import suspicions
from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.load import examine
from alarm_mw.config.report import format_report
from alarm_mw.config.sources import Sources
from alarm_mw.master.runtime.making import unmakable


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.pass_context
def check(context: click.Context, files: tuple[str, ...]) -> None:
    """Check configuration files and report every mistake.

    A FILE that ends in .ini is read as uWSGI's, one that ends in .toml as TOML; for any other file the content decides.
    Several files are checked together, as they would be used together.

    Prints a line "file:line: …" for each mistake and "file:line: warning: …" for each warning, then a summary. The exit
    status is 0 if the configuration can be used, else 2.
    """
    examined = examine(Sources.of_files(files, is_strict=True), os.environ, on_progress=RuleProgress())
    if not examined.problems:
        warnings = (*examined.warnings, *suspicions(examined.settings, LiteralCache.of_user(os.environ)))
        examined = structs.replace(examined, problems=unmakable(examined.settings), warnings=warnings)
    for line in format_report(examined):
        click.echo(line)
    context.exit(2 if examined.problems else 0)
