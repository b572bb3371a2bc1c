"""As whom, where and with which variables commands and mules run: TOML's table ``[execution]``, and what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from alarm_mw.config.tables.structs import read_struct
from alarm_mw.config.tables.tree import Table
from alarm_mw.model.interfaces import Execution


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
    """Yield the key and a sentence for each value that no process can be started with."""
    for key, (value, find) in _accounts(execution).items():
        try:
            find()
        except KeyError:
            yield key, f"there is no {value!r} on this system"
    if execution.chdir and not os.path.isdir(execution.chdir):
        yield "chdir", f"there is no directory {execution.chdir!r}"


def ineffective(execution: Execution) -> Iterator[tuple[str, str]]:
    """Yield the same for what is ignored here: only root can change user and group."""
    if os.geteuid():
        for key, (value, _) in _accounts(execution).items():
            if value:
                yield key, "only root can change it, so commands and mules run as this user"


def _accounts(execution: Execution) -> Mapping[str, tuple[str, Callable[[], int | None]]]:
    return {
        "uid": (execution.uid, lambda: execution.user),
        "gid": (execution.gid, lambda: execution.group),
    }
