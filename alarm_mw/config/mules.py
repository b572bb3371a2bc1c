"""The mules of a configuration: uWSGI's options ``mule`` and ``mules``, TOML's ``mules``, and who sends to them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import structs

from alarm_mw.actions.mule import MuleOptions
from alarm_mw.config.part import Declared
from alarm_mw.config.report import Report
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.config.tables.tree import Table, kind_of
from alarm_mw.config.uwsgi.entry import Entry
from alarm_mw.model.errors import OptionError
from alarm_mw.model.types import Where

MULE_OPTIONS = frozenset({"mule", "mules"})

#: How many mules ``mules = N`` may ask for.
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


def with_mules(alarms: Iterable[Declared], mules: Sequence[str], report: Report) -> tuple[Alarm, ...]:
    """Return the alarms with the mules that there are: a number that is too high becomes 0, any mule, as in uWSGI."""
    return tuple(
        _with_mule(alarm, alarm.options, len(mules), report, is_strict=declared.is_strict)
        if isinstance(alarm.options, MuleOptions)
        else alarm
        for declared in alarms
        if (alarm := declared.alarm) is not None
    )


def refuse_mules(settings: Settings) -> None:
    """Raise `OptionError` where an alarm sends to mules, for a program that has no master to start them."""
    for alarm in settings.alarms:
        if isinstance(alarm.options, MuleOptions):
            raise OptionError(f"alarm {alarm.name!r} needs a mule, and alarm-mw run --mule FILE is what starts mules")


def _with_mule(alarm: Alarm, options: MuleOptions, count: int, report: Report, *, is_strict: bool) -> Alarm:
    what = f"alarm {alarm.name!r}"
    if not count:
        text = f"{what} needs a mule, and none is configured: expected --mule FILE or mule = FILE"
        report.doubt(alarm.where, text, is_strict=is_strict)
        return structs.replace(alarm, options=MuleOptions())
    if options.mule <= count:
        return alarm
    text = f"{what}: invalid mule number {options.mule} ({count} mules available), fallback to 0, which is any mule"
    report.warn(alarm.where, text)
    return structs.replace(alarm, options=MuleOptions())


def _look_for(program: str, where: Where, report: Report, folder: str) -> None:
    if not program:
        report.warn(where, "a mule without a program handles no message and no signal here: name a file or a module")
    elif program.endswith(".py") and not os.path.isfile(Path(folder, program)):
        report.warn(where, f"there is no file {program!r} yet, which is to run as a mule")
