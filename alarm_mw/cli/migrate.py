"""``alarm-mw migrate``: converts a uWSGI ini file to TOML."""

from __future__ import annotations

import os
import sys

import click

from alarm_mw.cli.options import BAD_CONFIG, complain
from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources, split_section
from alarm_mw.config.toml.from_uwsgi import to_toml
from alarm_mw.model.errors import ConfigError


@click.command()
@click.argument("file", metavar="FILE[:SECTION]")
def migrate(file: str) -> None:
    """Convert the uWSGI ini FILE to equivalent TOML and print it.

    The output contains everything that the file says about alarms: alarms with their options, including passwords,
    rules, monitors, mules and numbers. `$(VARIABLE)`, `%(name)` and `@(file)` are replaced by their values. Regexps
    stay PCRE on bytes.

    If the file has mistakes, or contains something that TOML cannot represent, nothing is printed and the exit status
    is 2.
    """
    try:
        settings = load(Sources(ini_files=(file,)), os.environ)
        text = to_toml(settings, split_section(file)[0])
    except ConfigError as error:
        complain(error.problems)
        sys.exit(BAD_CONFIG)
    complain(settings.warnings, "warning: ")
    click.echo(text.encode(), nl=False)
