"""``alarm-mw migrate``: prints the TOML that means the same as uWSGI's ini file."""

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
    """Print the TOML that means the same as uWSGI's ini FILE.

    All that the file says of alarms is there: alarms with their options, passwords too, rules, monitors, mules and
    numbers. What `$(VARIABLE)`, `%(name)` and `@(file)` stand for is written out. Regexps go on being PCRE on bytes.

    Nothing is printed and the exit status is 2 where the file has mistakes, or something that TOML cannot hold.
    """
    try:
        settings = load(Sources(ini_files=(file,)), os.environ)
        text = to_toml(settings, split_section(file)[0])
    except ConfigError as error:
        complain(error.problems)
        sys.exit(BAD_CONFIG)
    complain(settings.warnings, "warning: ")
    click.echo(text.encode(), nl=False)
