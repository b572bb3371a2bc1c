"""How commands and mules run, and which mules: the tables and options that say so, from TOML and from uWSGI."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from alarm_mw.actions.mule import MuleOptions
from alarm_mw.config.parts import Entry
from alarm_mw.config.report import Report
from alarm_mw.config.settings import Settings
from alarm_mw.config.tables.tree import Table, kind_of, read_struct
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Execution
from alarm_mw.model.types import Where


def read_execution_table(root: Table) -> Execution | None:
    """Return the table ``[execution]``, or None where there is none, or a wrong one."""
    table = root.table("execution", "execution")
    execution = None if table is None else read_struct(Execution, table)
    if table is None or execution is None:
        return None
    for key, text in unusable(execution):
        table.wrong(f"{key}: {text}", key)
    for key, text in ineffective(execution):
        table.origin.report.warn(table.where(key), f"{table.name}: {key}: {text}")
    return execution


def unusable(execution: Execution) -> Iterator[tuple[str, str]]:
    """Yield the key and a sentence for each value with which no process can be started."""
    for key, (value, find) in _accounts(execution).items():
        try:
            find()
        except KeyError:
            yield key, f"there is no {value!r} on this system"
    if execution.chdir and not os.path.isdir(execution.chdir):
        yield "chdir", f"there is no directory {execution.chdir!r}"


def ineffective(execution: Execution) -> Iterator[tuple[str, str]]:
    """Yield the same for values that are ignored: only root can change user and group."""
    if os.geteuid():
        for key, (value, _) in _accounts(execution).items():
            if value:
                yield key, "only root can change it, so commands and mules run as this user"


def _accounts(execution: Execution) -> Mapping[str, tuple[str, Callable[[], int | None]]]:
    return {
        "uid": (execution.uid, lambda: execution.user),
        "gid": (execution.gid, lambda: execution.group),
    }


MULE_OPTIONS = frozenset({"mule", "mules"})

#: Maximum number of mules in ``mules = N``.
MAX_MULES = 1000

_NUMBER = re.compile("[0-9]{1,9}")


def read_mule_option(entry: Entry, report: Report, folder: str = "") -> list[str]:
    """Return the programs of ``mule = PROGRAM`` or ``mules = N``: an empty one is a mule without a program.

    `folder` is where they run.
    """
    if entry.option == "mule":
        program = "" if entry.value == "true" else entry.value
        _look_for(program, entry.where, report, folder)
        return [program]
    if not _NUMBER.fullmatch(entry.value) or int(entry.value) > MAX_MULES:
        report.wrong(entry.where, f"{entry.key}: expected a number of mules, 0 to {MAX_MULES}, got {entry.value!r}")
        return []
    programs = [""] * int(entry.value)
    for program in programs[:1]:
        _look_for(program, entry.where, report, folder)
    return programs


def read_mule_table(root: Table, folder: str = "") -> list[str]:
    """Return the programs of ``mules = ["file.py", …]``; `folder` is where they run."""
    value = root.values.get("mules", [])
    if root.is_broken("mules"):
        return []
    if not isinstance(value, list | tuple):
        root.wrong(f"mules: expected an array of files or modules, got {kind_of(value)}", "mules")
        return []
    for index, program in enumerate(value):
        if isinstance(program, str):
            _look_for(program, root.where("mules", index), root.origin.report, folder)
        else:
            root.wrong(f"mules: expected a file or a module, got {kind_of(program)}", "mules", index)
    return [program for program in value if isinstance(program, str)]


def refuse_mules(settings: Settings) -> None:
    """Raise `OptionError` where an alarm sends to mules, for a program that has no master to start them."""
    for alarm in settings.alarms:
        if isinstance(alarm.options, MuleOptions):
            raise OptionError(f"alarm {alarm.name!r} needs a mule, and alarm-mw run --mule FILE is what starts mules")


def _look_for(program: str, where: Where, report: Report, folder: str) -> None:
    if not program:
        report.warn(where, "a mule without a program handles no message and no signal here: name a file or a module")
    elif program.endswith(".py") and not os.path.isfile(Path(folder, program)):
        report.warn(where, f"there is no file {program!r} yet, which is to run as a mule")


#: The options whose last value counts.
_SINGLE = frozenset({"uid", "gid", "chdir", "umask"})

PROCESS_OPTIONS = _SINGLE | {"env", "unenv"}


def read_execution(entries: Iterable[Entry], report: Report) -> Execution:
    """Return how commands and mules run; mistakes go to `report`."""
    values: dict[str, str] = {}
    places: dict[str, Where] = {}
    #: None for a variable that is removed.
    variables: dict[str, str | None] = {}
    for entry in entries:
        name, equals, value = entry.value.partition("=")
        if entry.option == "umask" and not re.fullmatch("[0-7]{1,4}", entry.value):
            report.wrong(entry.where, f"{entry.key}: expected an octal number such as 027, got {entry.value!r}")
        elif entry.option in _SINGLE:
            values[entry.option] = os.path.abspath(entry.value) if entry.option == "chdir" else entry.value
            places[entry.option] = entry.where
        elif entry.option == "env":
            variables[name] = value if equals else None
        elif entry.option == "unenv":
            variables[entry.value] = None
    execution = Execution(
        **values,
        env={name: value for name, value in variables.items() if value is not None},
        unenv=tuple(name for name, value in variables.items() if value is None),
    )
    for key, text in unusable(execution):
        report.wrong(places[key], f"{key}: {text}")
    for key, text in ineffective(execution):
        report.warn(places[key], f"{key}: {text}")
    return execution
