"""The options that name a configuration, the same for every verb."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from alarm_mw.config.load import read
from alarm_mw.config.settings import Loaded, Settings
from alarm_mw.config.sources import Sources
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.model.errors import Problem

#: The exit status for a mistake in the configuration or on the command line.
BAD_CONFIG = 2

#: Seconds of silence before progress is shown, and between two updates.
QUIET, UPDATE = 1.0, 0.2

_FLAGS = "alarm_mw.flags"

#: uWSGI's options as flags, with what they take and what they do.
UWSGI_FLAGS = {
    "alarm": ("'NAME PLUGIN:OPTS'", "An alarm, as in uWSGI. Repeatable."),
    "log-alarm": ("'NAME[,NAME] REGEXP'", "Fire these alarms for lines that match. Repeatable."),
    "not-log-alarm": (
        "'NAME REGEXP'",
        "Stop the search at lines that match, in the order given. Repeatable.",
    ),
    "rules": ("'NAME[,NAME] SET'", "Fire these alarms by ready rules for a server: gunicorn, uvicorn, … Repeatable."),
    "alarm-freq": ("SECONDS", "Suppress an alarm's repeated message for this time (default 3)."),
    "alarm-msg-size": ("BYTES", "Truncate longer messages (default 8192)."),
    "mule": ("FILE_OR_MODULE", "Run this program as a mule, for alarms mule:N. Repeatable."),
    "alarm-fd": ("'NAME FD[:BYTES] MESSAGE'", "Fire when a descriptor or path becomes readable. Repeatable."),
    "alarm-backlog": ("NAME", "Fire when a listen queue of the server is full. Repeatable."),
    "alarm-segfault": ("NAME", "Fire when a process of the server crashes. Repeatable."),
    "metric-alarm": ("'key=…,value=…,alarm=NAME'", "Fire when a metric reaches a value. Repeatable."),
}

#: Flags that are about a server.
_OF_SERVERS = ("alarm-backlog", "alarm-segfault")

_CONFIG_HELP = (
    "A TOML file. Repeatable. [default, if no option configures alarms: the files named in the variable "
    "ALARM_MW_CONFIG, separated by commas, else alarm-mw.toml or uwsgi.ini in the working directory]"
)

F = TypeVar("F", bound=Callable[..., Any])


class ConfiguredCommand(click.Command):
    """A command with configuration options, which keeps the order of uWSGI's flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Save the flags in their order, then let click parse."""
        ctx.meta[_FLAGS] = tuple(self._ordered_flags(list(args)))
        return super().parse_args(ctx, args)

    def _ordered_flags(self, args: Sequence[str]) -> Iterator[tuple[str, str]]:
        options = [option for option in self.params if isinstance(option, click.Option)]
        takes_value = {name: not option.is_flag for option in options for name in option.opts}
        rest = iter(args)
        for arg in rest:
            name, has_value, value = arg.partition("=")
            if name not in takes_value:
                if arg == "--" or not self.allow_interspersed_args:
                    return
            elif takes_value[name]:
                value = value if has_value else next(rest, "")
                if name[2:] in UWSGI_FLAGS:
                    yield name[2:], value


def config_options(command: F) -> F:
    """Add --config, --ini and uWSGI's flags to a command."""
    return _config_options(command, UWSGI_FLAGS)


def config_options_without_server(command: F) -> F:
    """Add the same, but for the flags that are about a server."""
    return _config_options(command, {name: said for name, said in UWSGI_FLAGS.items() if name not in _OF_SERVERS})


def _config_options(command: F, flags: dict[str, tuple[str, str]]) -> F:
    for name, (metavar, text) in reversed(flags.items()):
        command = click.option(f"--{name}", metavar=metavar, multiple=True, expose_value=False, help=text)(command)
    files = click.Path(dir_okay=False)
    command = click.option("--ini", "ini_files", type=files, multiple=True, help="A uWSGI ini file. Repeatable.")(
        command
    )
    return click.option("--config", "toml_files", type=files, multiple=True, help=_CONFIG_HELP)(command)


def sources(toml_files: Sequence[str], ini_files: Sequence[str], *, is_strict: bool = False) -> Sources:
    """Return the sources on the command line, else those that are found, with absolute paths for a reload."""
    flags = click.get_current_context().meta.get(_FLAGS, ())
    if not (toml_files or ini_files or flags):
        return Sources.found(os.environ, str(Path.cwd()), is_strict=is_strict)
    return Sources(_absolute(toml_files), _absolute(ini_files), flags, is_strict)


def _absolute(files: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(os.path.abspath, files))


def settings_or_exit(found: Sources) -> Settings:
    """Return the settings; if there are problems, print all of them and exit with 2."""
    return loaded_or_exit(found).settings


def loaded_or_exit(found: Sources) -> Loaded:
    """Return the settings with their sources; if there are problems, print all of them and exit with 2."""
    examined, loaded = read(found, os.environ, time.time(), on_progress=RuleProgress())
    complain(examined.warnings, "warning: ")
    if problems := examined.problems or unmakable(examined.settings):
        complain(problems)
        sys.exit(BAD_CONFIG)
    return loaded


def read_wait(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of an option that takes a time (a callback of click)."""
    if value is None:
        return None
    try:
        return read_duration(float(value) if value.replace(".", "", 1).isdecimal() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def complain(problems: Sequence[Problem], kind: str = "") -> None:
    """Print problems to the standard error, one a line."""
    for problem in problems:
        click.echo(f"{problem.where}: {kind}{problem.text}", err=True)


class RuleProgress:
    """Shows on a terminal how many rules have been read, if reading them takes more than a second."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._next = clock() + QUIET
        self._is_shown = False

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` rules have been read; remove the line at the end."""
        if self._is_shown and done == total:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        elif done < total and self._clock() >= self._next and self._stream.isatty():
            self._stream.write(f"\rreading rules: {done:,} of {total:,}")
            self._stream.flush()
            self._is_shown, self._next = True, self._clock() + UPDATE
