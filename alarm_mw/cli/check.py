"""``alarm-mw check``: reports every mistake in configuration files, and starts nothing."""

from __future__ import annotations

import json
import os

import click
from msgspec import structs

from alarm_mw.cli.options import RuleProgress
from alarm_mw.config.lint.suspicions import with_suspicions
from alarm_mw.config.load import examine
from alarm_mw.config.report import diagnostics, format_report, github_commands
from alarm_mw.config.sources import DEFAULT_FILES, Sources
from alarm_mw.master.runtime.making import unmakable


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]…")
@click.option("--strict", is_flag=True, help="Exit with status 2 if there are warnings, too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="How to print: `json` is an array of diagnostics as in the Language Server Protocol, each with its `file`; "
    "`github` annotates the lines of a pull request when run by GitHub Actions.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.pass_context
def check(context: click.Context, files: tuple[str, ...], form: str, *, strict: bool) -> None:
    """Check configuration files and report every mistake.

    A FILE that ends in .ini is read as uWSGI's, one that ends in .toml as TOML; for any other file the content decides.
    Several files are checked together, as they would be used together. Without one, those are checked that
    `alarm-mw run` finds: the files that the variable ALARM_MW_CONFIG names, else alarm-mw.toml or uwsgi.ini.

    Prints a line "file:line: …" for each mistake and "file:line: warning: …" for each warning, then a summary. The exit
    status is 0 if the configuration can be used, else 2.
    """
    sources = Sources.of_files(files, is_strict=True) if files else Sources.found(os.environ, is_strict=True)
    if not (sources.toml_files or sources.ini_files):
        raise click.UsageError(f"no FILE given, and {' and '.join(DEFAULT_FILES)} are not in this directory")
    examined = examine(sources, os.environ, on_progress=RuleProgress())
    if not examined.problems:
        examined = structs.replace(with_suspicions(examined, os.environ), problems=unmakable(examined.settings))
    if form == "json":
        click.echo(json.dumps(diagnostics(examined), indent=2, ensure_ascii=False))
    else:
        for line in github_commands(examined) if form == "github" else format_report(examined):
            click.echo(line)
    context.exit(2 if examined.problems or (strict and examined.warnings) else 0)
