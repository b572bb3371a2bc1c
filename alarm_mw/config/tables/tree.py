"""Nested tables with a place for each value: a TOML file, or the keywords of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from alarm_mw.config.report import Report
from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.model.types import Where

#: The keys and list indices that lead to a value.
Path = tuple[str | int, ...]


class Origin(msgspec.Struct, frozen=True):
    """Where the values of a tree come from, and who hears of what is wrong with them."""

    locate: Callable[[Path], Where]
    report: Report
    #: The column of a string that stands as it is at its place, else 0.
    column: Callable[[Path, str], int] = lambda _path, _text: 0
    #: Values that hold a variable of the environment, and all values around them: text may stand for a number there.
    from_environ: frozenset[Path] = frozenset()
    #: Values that hold a variable that is not set, and all values around them.
    broken: frozenset[Path] = frozenset()


class Table(msgspec.Struct, frozen=True):
    """One table of a tree."""

    values: Mapping[str, object]
    origin: Origin
    path: Path = ()
    #: What it is, for people; empty for the outermost.
    name: str = ""

    def where(self, *path: str | int) -> Where:
        """Return where a value of this table stands; the table itself for no value, or one that it does not have."""
        found = path if path and path[0] in self.values else ()
        return self.origin.locate((*self.path, *found))

    def wrong(self, text: str, *path: str | int) -> None:
        """Note a mistake in one of the values, or in the table, as `where` has it."""
        self.origin.report.wrong(self.where(*path), f"{self.name}: {text}" if self.name else text)

    def is_broken(self, key: str) -> bool:
        """Tell whether the value lacks a variable of the environment, which was reported already."""
        return (*self.path, key) in self.origin.broken

    def is_from_environ(self, key: str) -> bool:
        """Tell whether the value holds a variable of the environment."""
        return (*self.path, key) in self.origin.from_environ

    def refuse_unknown(self, known: Iterable[str]) -> bool:
        """Note each key that is not one of `known`; return whether there is none."""
        known = list(known)
        unknown = [key for key in self.values if key not in known]
        for key in unknown:
            self.wrong(f"unknown key {key!r}{did_you_mean(str(key), known)}", key)
        return not unknown

    def table(self, key: str, name: str) -> Table | None:
        """Return the table under `key`, None where there is none; note a mistake where there is another value."""
        value = self.values.get(key)
        if isinstance(value, Mapping):
            return Table(value, self.origin, (*self.path, key), name)
        if key in self.values:
            self.wrong(f"{key}: expected a table, got {kind_of(value)}", key)
        return None

    def plugin(self, key: str, kind: str) -> str | None:
        """Return the name of a plugin that must stand under `key`; note a mistake and return None where none does."""
        value = self.values.get(key)
        if isinstance(value, str):
            return None if self.is_broken(key) else value
        got = f", got {kind_of(value)}" if key in self.values else ""
        self.wrong(f"expected a {kind}'s name as {key!r}{got}", key)
        return None

    def tables(self, key: str) -> list[Table]:
        """Return the tables of the array under `key`, none where there is no such key; note what else is there."""
        value = self.values.get(key, [])
        if not isinstance(value, list | tuple):
            self.wrong(f"{key}: expected [[{key}]], an array of tables, got {kind_of(value)}", key)
            return []
        paths = {index: (*self.path, key, index) for index in range(len(value))}
        for index, inner in enumerate(value):
            if not isinstance(inner, Mapping):
                self.wrong(f"{name_of(paths[index])}: expected a table, got {kind_of(inner)}", key, index)
        return [
            Table(inner, self.origin, paths[index], name_of(paths[index]))
            for index, inner in enumerate(value)
            if isinstance(inner, Mapping)
        ]


def name_of(path: Path) -> str:
    """Return what a value is called in messages: ``alarm 'jabber': password``, ``rule 2: pattern``."""
    match path:
        case ("alarms", name, *inner):
            names = [f"alarm {name!r}", *inner]
        case ("rules", int(index), *inner):
            names = [f"rule {index + 1}", *inner]
        case ("monitors", int(index), *inner):
            names = [f"monitor {index + 1}", *inner]
        case _:
            names = [*path]
    return ": ".join(map(str, names))


def kind_of(value: object) -> str:
    """Return the kind of a value in the words of TOML."""
    for kind, word in _KINDS:
        if isinstance(value, kind):
            return word
    return type(value).__name__


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    (str, "a string"),
    (int, "an integer"),
    (float, "a float"),
    (Mapping, "a table"),
    ((list, tuple), "an array"),
)
