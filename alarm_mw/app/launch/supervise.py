"""``alarm-mw run`` from inside: a program restarts itself under the supervisor.

For a server whose command cannot be changed. The supervisor replaces this process and keeps its pid; the program runs
again as its child, and finds the master in the environment.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from alarm_mw.app.launch.launch import Places, RefusedError, become_supervisor
from alarm_mw.config.load import read
from alarm_mw.config.sources import CONFIG_VARIABLE, DEFAULT_FILES, Sources
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.model.errors import ConfigError
from alarm_mw.transports.places import SOCKET_VARIABLE

Files: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: The exit status if the configuration is wrong, as that of ``alarm-mw run``.
REFUSED: Final = 2

#: Modules whose presence shows that the process belongs to uWSGI or pytest and must not be restarted.
_HOSTS: Final = frozenset({"uwsgi", "alarm_mw.pytest_plugin"})

_READ_ONCE: Final = (
    "a program that is typed in, or read from the standard input, cannot be restarted: "
    "put it into a file, or call alarm_mw.init() instead"
)

#: "Forked, but didn't exec" (`PF_FORKNOEXEC` in Linux' include/linux/sched.h).
_FORKED: Final = 0x40


def supervise(
    config: Files | None = None, *, state_dir: str | os.PathLike[str] | None = None, required: bool = True
) -> None:
    """Restart this program under ``alarm-mw run``, unless it is running there already; call it first in a main program.

    `config` is the path of a TOML or uWSGI ini file, or several; by default those in the variable ``ALARM_MW_CONFIG``,
    separated by commas, else ``alarm-mw.toml`` or ``uwsgi.ini`` in the working directory. `state_dir` is where the
    outbox is kept, by default a folder of its own in the XDG state directory. The process id stays the same; what this
    process has opened or started is lost. Does nothing in a process that has a master already, in forked children, in
    those of `multiprocessing`, inside uWSGI, and in pytest.

    If the program cannot be supervised, as in a thread other than the main one or in a program that is typed in, the
    reason is printed to the standard error and the process exits with status 2. If alarms are not `required`, it
    continues without them.
    """
    if may_restart():
        restart(config, state_dir=state_dir, required=required)


def may_restart() -> bool:
    """Return whether this process has no master and was started by a command that can be run again."""
    if SOCKET_VARIABLE in os.environ or not sys.orig_argv or not _HOSTS.isdisjoint(sys.modules):
        return False
    return multiprocessing.parent_process() is None and not _is_forked()


def _is_read_once() -> bool:
    """Return whether the program comes through the standard input, or is typed into a shell or a notebook."""
    return sys.argv[:1] in ([""], ["-"]) or hasattr(sys, "ps1")


def restart(config: Files | None, *, state_dir: str | os.PathLike[str] | None, required: bool) -> None:
    """Do what `supervise` does, in a process where `may_restart` is true."""
    places = Places(None if state_dir is None else os.fspath(state_dir))
    try:
        _restart(config, places)
    except (ConfigError, RefusedError) as error:
        complain(str(error))
        if required:
            sys.exit(REFUSED)
        complain("this server runs without alarms")


def complain(text: str) -> None:
    """Print what is wrong to the standard error."""
    for line in text.splitlines():
        print(f"alarm-mw: {line}", file=sys.stderr, flush=True)  # noqa: T201  # the server has no log yet


def _restart(config: Files | None, places: Places) -> NoReturn:
    if _is_read_once():
        raise RefusedError(_READ_ONCE)
    sources = _sources(config)
    examined, loaded = read(sources, os.environ, time.time())
    for warning in examined.warnings:
        complain(f"{warning.where}: warning: {warning.text}")
    if problems := examined.problems or unmakable(examined.settings):
        raise ConfigError(problems)
    become_supervisor(loaded, [sys.executable, *sys.orig_argv[1:]], places)


def _sources(config: Files | None) -> Sources:
    if config is not None:
        files = [config] if isinstance(config, (str, os.PathLike)) else config
        return Sources.of_files(map(os.path.abspath, files))
    found = Sources.found(os.environ, os.getcwd())
    if not (found.toml_files or found.ini_files):
        wanted = " or ".join(DEFAULT_FILES)
        raise RefusedError(f"no configuration: there is no {wanted} in {Path.cwd()}, and {CONFIG_VARIABLE} is not set")
    return found


def _is_forked() -> bool:
    """Return whether this process is the copy of another one, as a server's worker is."""
    try:
        stat = Path("/proc/self/stat").read_bytes()
    except OSError:  # unknown without /proc; such a process is not restarted
        return True
    return bool(int(stat.rpartition(b")")[2].split()[6]) & _FORKED)
