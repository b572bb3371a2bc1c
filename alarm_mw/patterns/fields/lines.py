"""Reads the fields of a line that is a JSON object, or logfmt: ``level=error msg="payment failed" order=4211``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from alarm_mw.patterns.fields import FORM

#: The fields of a longer line are not read, in bytes. The readers of streams cut longer lines.
LONGEST = 131_072

#: Names and values as they were decoded: numbers that are no integers remain text.
Fields = Mapping[str, Any]

_decode = msgspec.json.Decoder(float_hook=str).decode

#: A name with a value, perhaps in quotes, or a word alone, which states nothing.
_PAIR = re.compile(r'([A-Za-z_@][^\s"=]*)(?:=("(?:[^"\\]|\\.)*"|[^\s"]*))?(?:\s+|$)')


@lru_cache(maxsize=8)  # the reader, the engine and each rule look at the same line
def read_fields(message: bytes) -> Fields | None:
    """Return the fields of a message that is a JSON object or a line in logfmt; None for any other."""
    form = FORM.match(message)
    if form is None or len(message) > LONGEST:
        return None
    return _json(message) if form[1] else _logfmt(message)


def _json(message: bytes) -> Fields | None:
    try:
        found = _decode(message)
    except (ValueError, RecursionError):  # `msgspec.DecodeError` and `UnicodeDecodeError` among them
        found = _lenient_json(message)
    return found if isinstance(found, dict) else None


def _lenient_json(message: bytes) -> object:
    """Return what Python writes and JSON does not allow: ``NaN``, lone surrogates, bytes that are not UTF-8, tabs."""
    text = message.decode("utf-8", "surrogateescape")
    try:
        return json.loads(text, strict=False, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _logfmt(message: bytes) -> Fields | None:
    text = message.decode("utf-8", "surrogateescape").strip()
    if "\n" in text:
        return None
    fields: dict[str, str] = {}
    position = 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            return None
        name, value = pair.groups()
        if value is not None:
            fields[name] = _unquoted(value) if value.startswith('"') else value
        position = pair.end()
    return fields


def _unquoted(quoted: str) -> str:
    """Return a value without its quotes and escapes, which are mostly JSON's."""
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        return re.sub(r"\\(.)", r"\1", quoted[1:-1])


def texts_of(fields: Fields, path: str) -> list[str]:
    """Return the value of a field as text: of an array its elements, none for null, an object or an unknown name.

    `path` is the field's name, or names that lead into nested objects, with dots between them.
    """
    found = fields.get(path)
    if found is None:
        return [text for inner, rest in _inner(fields, path) for text in texts_of(inner, rest)]
    return [*_texts(found)]


def _inner(fields: Fields, path: str) -> Iterator[tuple[Fields, str]]:
    """Yield the objects into which the first names of a path lead, with the other names."""
    dot = path.find(".")
    while dot >= 0:
        inner = fields.get(path[:dot])
        if isinstance(inner, dict):
            yield inner, path[dot + 1 :]
        dot = path.find(".", dot + 1)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None and not isinstance(value, dict):
        yield text_of(value)


def text_of(value: object) -> str:
    """Return a decoded value as text: as JSON writes it, a string without its quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else json.dumps(value)


def storable(text: str) -> str:
    """Return text that can be stored and sent: what cannot be encoded becomes an escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
