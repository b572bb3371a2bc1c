"""Logs to follow, from ``[[follow]]`` of a TOML file and from the arguments of ``alarm-mw follow``."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

import msgspec

from alarm_mw.config.settings import Follow
from alarm_mw.config.tables.tree import Table, read_struct
from alarm_mw.model.types import Where

#: What a unit's name is made of (systemd.unit(5)), and ``*`` for all.
_UNIT = r"\*|[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@*?\[\]-]*"

#: What the arguments of ``alarm-mw follow`` begin with that name units.
JOURNAL = "journal:"

OneOrMore = str | tuple[str, ...]


class FollowTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table ``[[follow]]``."""

    path: Annotated[
        OneOrMore | None,
        msgspec.Meta(
            description="A file, or a pattern with `*`, `?`, `[…]` or `**`, or a list of them. Paths are absolute"
        ),
    ] = None
    journal: Annotated[
        OneOrMore | None,
        msgspec.Meta(
            description="Units of systemd whose entries in the journal are followed, such as `nginx.service`, or a "
            "list of them; `*` is the whole journal"
        ),
    ] = None
    start: Annotated[
        Literal["end", "beginning"],
        msgspec.Meta(description="Where to begin in a log that was never followed before"),
    ] = "end"
    directory: Annotated[
        str, msgspec.Meta(description="Where the files of the journal are; by default that is the system's journal")
    ] = ""

    def __post_init__(self) -> None:
        """Raise `ValueError` where it names no log, or both kinds of logs."""
        if (self.path is None) == (self.journal is None):
            raise ValueError("expected either 'path' or 'journal'")
        if self.directory and self.journal is None:
            raise ValueError("directory: only a journal has one")
        for path in _all(self.path):
            if not os.path.isabs(path) or "\0" in path:
                raise ValueError(f"path: expected an absolute path such as '/var/log/nginx/*.log', got {path!r}")
        for unit in _all(self.journal):
            if not re.fullmatch(_UNIT, unit):
                raise ValueError(f"journal: expected the name of a unit such as 'nginx.service', got {unit!r}")
        if not (_all(self.path) or _all(self.journal)):
            raise ValueError("expected at least one log")


def _all(value: OneOrMore | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def read_follow(root: Table) -> tuple[Follow, ...]:
    """Return the logs to follow; what is wrong goes to the report of the tables."""
    read = ((table, read_struct(FollowTable, table)) for table in root.tables("follow"))
    return tuple(_follow(found, table.where()) for table, found in read if found is not None)


def _follow(table: FollowTable, where: Where) -> Follow:
    journal = None if table.journal is None else _all(table.journal)
    return Follow(_all(table.path), journal, table.start, table.directory, where)


def follow_of(argument: str, start: Literal["end", "beginning"]) -> Follow:
    """Return what an argument of ``alarm-mw follow`` names. Raises `ValueError`."""
    if argument.startswith(JOURNAL):
        units = tuple(argument.removeprefix(JOURNAL).split(","))
        table = FollowTable(journal=units, start=start)
    else:
        table = FollowTable(path=os.path.abspath(argument), start=start)
    return _follow(table, Where(argument))
