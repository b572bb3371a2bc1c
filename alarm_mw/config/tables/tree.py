"""Nested tables with a place for each value, and typed reading of them: a TOML file, or the keywords of a call."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, get_args

import msgspec
from msgspec.structs import FieldInfo

from alarm_mw.config.report import Report
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.interfaces import PluginOptions, secrets
from alarm_mw.model.keyvalue import choices, did_you_mean
from alarm_mw.model.masking import mask_values
from alarm_mw.model.types import Where

#: The keys and list indices that lead to a value.
Path = tuple[str | int, ...]


class Origin(msgspec.Struct, frozen=True):
    """Where the values of a tree come from, and the report of their mistakes."""

    locate: Callable[[Path], Where]
    report: Report
    #: The column of a string that is written literally at its place, else 0.
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
        """Report a mistake in one of the values, or in the table, with the place of `where`."""
        self.origin.report.wrong(self.where(*path), f"{self.name}: {text}" if self.name else text)

    def is_broken(self, key: str) -> bool:
        """Return whether the value lacks an environment variable, which was reported already."""
        return (*self.path, key) in self.origin.broken

    def is_from_environ(self, key: str) -> bool:
        """Return whether the value contains an environment variable."""
        return (*self.path, key) in self.origin.from_environ

    def refuse_unknown(self, known: Iterable[str], labels: Iterable[str] = ()) -> bool:
        """Report each key that is not one of `known`; return whether there is none.

        `labels` are names that belong into the table ``labels``.
        """
        known = list(known)
        unknown = [key for key in self.values if key not in known]
        for key in unknown:
            hint = f": write labels = {{ {key} = … }}" if key in labels else did_you_mean(str(key), known)
            self.wrong(f"unknown key {key!r}{hint}", key)
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
        """Return the name of a plugin that must stand under `key`; note a mistake and return None where none does.

        A name under a misspelled key is returned as well, so that the rest of the table, and the key, is checked.
        """
        meant = (
            key
            if key in self.values
            else next((each for each in self.values if did_you_mean(str(each), [key], 0.8)), key)
        )
        value = self.values.get(meant)
        if isinstance(value, str):
            return None if self.is_broken(meant) else value
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
        case ("inhibit_rules", int(index), *inner):
            names = [f"inhibit rule {index + 1}", *inner]
        case ("web", ("users" | "tokens") as kind, int(index), *inner):
            names = [f"web: {kind.removesuffix('s')} {index + 1}", *inner]
        case ("follow", int(index), *inner):
            names = [f"follow {index + 1}", *inner]
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

S = TypeVar("S", bound=msgspec.Struct)

#: How msgspec shows the place inside a value.
_PLACE = re.compile(r" - at `\$(?:\[(\d+)\])?.*`$", re.DOTALL)


def read_struct(
    kind: type[S],
    table: Table,
    beside: frozenset[str] = frozenset(),
    mistakes: Callable[[Mapping[str, object]], Iterable[tuple[str, str]]] = lambda _given: (),
) -> S | None:
    """Return the table as a `kind`, or None if it is wrong, which is then reported.

    `beside` are keys of the table that do not belong to the struct. Values of secret fields are never shown.
    `mistakes` finds what else is wrong with the values that have the right type, each with its key.
    """
    fields = _fields(kind)
    known = table.refuse_unknown([*beside, *fields])
    is_complete = known or not any(
        did_you_mean(str(key), fields) for key in table.values.keys() - beside - fields.keys()
    )
    given = {field.name: _field(table, field, kind) for field in fields.values() if field.encode_name in table.values}
    missing = [key for key, field in fields.items() if field.required and key not in table.values]
    for key in missing:
        table.wrong(f"{key!r} is missing")
    wrong = [*mistakes({name: value for name, value in given.items() if value is not _WRONG})]
    for key, text in wrong:
        table.wrong(text, key)
    if missing or wrong or not is_complete or _WRONG in given.values():
        return None
    made = _make(kind, given, table)  # also beside unknown keys, to report what else is wrong
    return made if known else None


def read_inner(kind: type[S], table: Table, key: str) -> S | None:
    """Return the table under `key` as a `kind`; its defaults where there is none, None where it is wrong."""
    if key not in table.values:
        return kind()
    inner = table.table(key, f"{table.name}: {key}")
    return None if inner is None else read_struct(kind, inner)


@functools.cache  # it evaluates the annotations, which takes a millisecond
def _fields(kind: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


class _Wrong:
    """In the place of a value that was refused."""


_WRONG = _Wrong()


def _field(table: Table, field: FieldInfo, kind: type[msgspec.Struct]) -> object:
    """Return the value as the field wants it, or `_WRONG`."""
    key = field.encode_name
    if table.is_broken(key):
        return _WRONG
    value = _seconds(table.values[key], field)
    try:
        return msgspec.convert(value, field.type, strict=not table.is_from_environ(key))
    except (msgspec.ValidationError, RecursionError) as error:
        secret = field.name in _secrets(kind)
        allowed = choices(field.type)
        message = f"{allowed}, got {value!r}" if allowed else str(error)
        if message.startswith("Expected `bool`"):
            message = f"expected true or false, got {kind_of(value)}"
        text, index = _explain(message, [str(value)] if secret else [])
        if isinstance(value, str) and text == "expected array, got str":
            example = "…" if secret else value
            text = f"expected a list, got a string: write {json.dumps([example], ensure_ascii=False)}"
        table.wrong(f"{key}: {text}", key, *index)
        return _WRONG


def _seconds(value: object, field: FieldInfo) -> object:
    """Return the seconds of a time such as ``90m`` for a field that wants seconds; any other value as it is."""
    metas = (each.extra or {} for each in get_args(field.type) if isinstance(each, msgspec.Meta))
    if not isinstance(value, str) or not any(meta.get("duration") for meta in metas):
        return value
    try:
        return read_duration(value)
    except ValueError:
        return value


def _explain(message: str, secret: Iterable[str]) -> tuple[str, tuple[int, ...]]:
    """Return msgspec's message for people, and the index of the list item that it speaks of."""
    place = _PLACE.search(message)
    index = (int(place[1]),) if place and place[1] else ()
    text = mask_values(message[: place.start()] if place else message, secret).replace("`", "")
    return text[:1].lower() + text[1:], index


def _make(kind: type[S], given: dict[str, object], table: Table) -> S | None:
    """Build the struct, whose ``__post_init__`` may refuse values that do not go together."""
    try:
        return kind(**given)
    except (ValueError, TypeError) as error:
        table.wrong(mask_values(str(error), (str(given[name]) for name in _secrets(kind) & given.keys())))
        return None


def _secrets(kind: type[msgspec.Struct]) -> frozenset[str]:
    return secrets(kind) if issubclass(kind, PluginOptions) else frozenset()


def no_alarm(owner: str) -> str:
    """Return what is wrong with a rule, a monitor or a route that fires nothing."""
    return f'the {owner} names no alarm, expected alarms = ["…"]'


def alarm_names(table: Table, owner: str) -> tuple[str, ...]:
    """Return the names in ``alarms = "one"`` or ``alarms = ["one", "two"]``; empty names are skipped.

    `owner` is what must have one: ``rule``, ``monitor``.
    """
    good, is_wrong = _names(table, "alarms")
    if not good and not is_wrong and not table.is_broken("alarms"):
        table.wrong(no_alarm(owner), "alarms")
    return good


def optional_names(table: Table, key: str) -> tuple[str, ...]:
    """Return the names under `key`, written the same way; none where there is no such key."""
    return _names(table, key)[0]


def _names(table: Table, key: str) -> tuple[tuple[str, ...], bool]:
    """Return the names, and whether other values are there, which are reported."""
    value = table.values.get(key)
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple | None):
        table.wrong(f"{key}: expected a name or an array of names, got {kind_of(value)}", key)
        return (), True
    wrong = {index: name for index, name in enumerate(names or ()) if not isinstance(name, str)}
    for index, name in wrong.items():
        table.wrong(f"{key}: expected a name, got {kind_of(name)}", key, index)
    return tuple(name for name in names or () if isinstance(name, str) and name), bool(wrong)


def read_flag(table: Table, key: str) -> bool:
    """Return the boolean under `key`, False where there is none."""
    value = table.values.get(key, False)
    if isinstance(value, bool):
        return value
    table.wrong(f"{key}: expected true or false, got {kind_of(value)}", key)
    return False


def read_text(table: Table, key: str) -> str | None:
    """Return the string under `key`, None where there is none."""
    value = None if table.is_broken(key) else table.values.get(key)
    if value is None or isinstance(value, str):
        return value
    table.wrong(f"{key}: expected a string, got {kind_of(value)}", key)
    return None


def read_word(table: Table, key: str, words: Sequence[str]) -> str:
    """Return the string under `key`, which is one of `words`; empty where there is none."""
    value = table.values.get(key, "")
    if key not in table.values or table.is_broken(key) or value in words:
        return str(value)
    table.wrong(f"{key}: expected {' or '.join(map(repr, words))}, got {value!r}", key)
    return ""
