"""A body of the configuration's own: JSON whose strings are templates.

The structure is read first, so that no value can change it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar, cast

import msgspec

from alarm_mw.texts.message import Message
from alarm_mw.texts.templates import Escape, TemplateError, template

#: What may stand under ``json``: a table, an array, or either as text.
Written = dict[str, object] | list[object] | str

T = TypeVar("T")


def read(written: Written) -> object:
    """Return the structure of ``json``; raise `ValueError` with a sentence for what cannot be one."""
    value: object = written
    if isinstance(written, str):
        try:
            value = json.loads(written)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"json: not JSON: {error}") from None
    if not isinstance(value, dict | list):
        raise ValueError("json: expected a table or an array")  # noqa: TRY004  # a sentence for the user
    wrong: list[str] = []

    def check(text: str) -> str:
        try:
            template(text)
        except TemplateError as error:
            wrong.append(f"json: {text!r}: {error}")
        return text

    _each_string(value, check)
    if wrong:
        raise ValueError("; ".join(wrong))
    return value


def body(message: Message, written: Written, escape: Escape) -> bytes:
    """Return the JSON with the message's facts in it, each made safe by `escape` beside what JSON itself needs."""
    facts = message.facts
    return msgspec.json.encode(_each_string(read(written), lambda text: template(text).render(facts, escape)))


def _each_string(value: T, change: Callable[[str], str]) -> T:
    """Return a structure with each of its strings changed; its keys stay."""
    changed: object = value
    if isinstance(value, str):
        changed = change(value)
    elif isinstance(value, dict):
        changed = {key: _each_string(inner, change) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        changed = [_each_string(inner, change) for inner in value]
    return cast("T", changed)
