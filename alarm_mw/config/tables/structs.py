"""Checks a table against a msgspec struct, key by key, so that every mistake in it is told at once."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec
from msgspec.structs import FieldInfo

from alarm_mw.config.tables.tree import Table
from alarm_mw.model.interfaces import PluginOptions, secrets
from alarm_mw.model.keyvalue import choices
from alarm_mw.model.masking import mask

S = TypeVar("S", bound=msgspec.Struct)

#: How msgspec tells the place inside of a value.
_PLACE = re.compile(r" - at `\$(?:\[(\d+)\])?.*`$", re.DOTALL)


def read_struct(kind: type[S], table: Table, beside: frozenset[str] = frozenset()) -> S | None:
    """Return the table as a `kind`, or None when something is wrong with it, which the table's report then tells.

    `beside` are keys of the table that do not belong to the struct. Values of secret fields are never shown.
    """
    fields = _fields(kind)
    known = table.refuse_unknown([*beside, *fields])
    given = {field.name: _field(table, field, kind) for field in fields.values() if field.encode_name in table.values}
    missing = [key for key, field in fields.items() if field.required and key not in table.values]
    for key in missing:
        table.wrong(f"{key!r} is missing")
    if missing or not known or _WRONG in given.values():
        return None
    return _make(kind, given, table)


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
    value = table.values[key]
    try:
        return msgspec.convert(value, field.type, strict=not table.is_from_environ(key))
    except (msgspec.ValidationError, RecursionError) as error:
        secret = field.name in _secrets(kind)
        allowed = choices(field.type)
        message = f"{allowed}, got {value!r}" if allowed else str(error)
        text, index = _explain(message, [str(value)] if secret else [])
        if isinstance(value, str) and text == "expected array, got str":
            example = "…" if secret else value
            text = f"expected a list, got a string: write {json.dumps([example], ensure_ascii=False)}"
        table.wrong(f"{key}: {text}", key, *index)
        return _WRONG


def _explain(message: str, secret: Iterable[str]) -> tuple[str, tuple[int, ...]]:
    """Return msgspec's message for people, and the index of the list item that it speaks of."""
    place = _PLACE.search(message)
    index = (int(place[1]),) if place and place[1] else ()
    text = mask(message[: place.start()] if place else message, secret).replace("`", "")
    return text[:1].lower() + text[1:], index


def _make(kind: type[S], given: dict[str, object], table: Table) -> S | None:
    """Build the struct, whose ``__post_init__`` may refuse values that do not go together."""
    try:
        return kind(**given)
    except (ValueError, TypeError) as error:
        table.wrong(mask(str(error), (str(given[name]) for name in _secrets(kind) & given.keys())))
        return None


def _secrets(kind: type[msgspec.Struct]) -> frozenset[str]:
    return secrets(kind) if issubclass(kind, PluginOptions) else frozenset()
