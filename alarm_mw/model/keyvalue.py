"""uWSGI's lists of ``key=value;key=value``, and the options parsed from them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import PluginOptions
from alarm_mw.system.forks import held_off

T = TypeVar("T", bound=PluginOptions)

_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1", "y", "t"), True),
    **dict.fromkeys(("false", "no", "off", "0", "n", "f"), False),
}


def split(args: str) -> list[tuple[str, str]]:
    """Return the parts between semicolons as (key, value); the key of a part without ``=`` is empty.

    A value may hold ``=``; empty parts are skipped, as uWSGI skips them.
    """
    return [_pair(part) for part in args.split(";") if part]


def split_url(args: str) -> dict[str, str]:
    """Return the values of ``URL;key=value…`` by key; the part without a key is the `url`, even if it has a query."""
    return dict(map(_named, split(args)))


def _named(part: tuple[str, str]) -> tuple[str, str]:
    key, value = part
    if "://" in key:
        return "url", f"{key}={value}"
    return key or "url", value


def split_commas(args: str) -> list[tuple[str, str]]:
    r"""Return the same for parts between commas, as in ``metric-alarm``; ``\,`` is a comma inside of a value."""
    parts = re.split(r"(?<!\\),", args)
    return [_pair(part.replace("\\,", ",")) for part in parts if part]


def _pair(part: str) -> tuple[str, str]:
    key, equals, value = part.partition("=")
    return (key.strip(), value) if equals else ("", part)


def comma_list(value: str) -> tuple[str, ...]:
    """Return the items of a comma list, blanks around them removed and empty ones skipped."""
    return tuple(item for item in map(str.strip, value.split(",")) if item)


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to `word`, else nothing; `likeness` is at most 1."""
    with held_off():  # imported only for mistakes, to keep the start fast
        from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(word, list(known), 1, likeness)
    return f" (did you mean {near[0]!r}?)" if near else ""


def choices(kind: object) -> str:
    """Return ``expected 'a' or 'b'`` for a type with a few allowed texts, otherwise an empty text."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if not isinstance(info, msgspec.inspect.LiteralType):
        return ""
    *others, last = map(repr, info.values)
    return f"expected {', '.join(others)} or {last}"


def build(options: type[T], values: Mapping[str, str]) -> T:
    """Return `options` parsed from the texts in `values`; raise `OptionError` with every mistake.

    Numbers, booleans (``true``/``false``, ``yes``/``no``, ``on``/``off``, ``1``/``0``) and comma lists are read as the
    field's type wants them.
    """
    fields = {field.name: field for field in msgspec.structs.fields(options)}
    problems = [
        f"unknown key {key!r}{did_you_mean(key, fields)}" if key else "a part without '=', expected key=value"
        for key in values
        if key not in fields
    ]
    converted: dict[str, object] = {}
    for name, field in fields.items():
        if name in values:
            try:
                converted[name] = _convert(values[name], field.type)
            except msgspec.ValidationError as error:
                problems.append(f"{name}: {choices(field.type) or error}")
        elif field.required:
            problems.append(f"{name!r} is missing")
    if problems:
        raise OptionError(*problems)
    return made(options, converted)


def made(options: type[T], values: Mapping[str, object]) -> T:
    """Return ``options(**values)``; raise `OptionError` with the sentence of its ``__post_init__``."""
    try:
        return msgspec.convert(values, options)
    except msgspec.ValidationError as error:
        raise OptionError(str(error)) from None


def _convert(text: str, kind: object) -> object:
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.BoolType):
        return _boolean(text)
    if isinstance(info, msgspec.inspect.VarTupleType):
        return msgspec.convert(comma_list(text), kind)
    return msgspec.convert(text, kind, strict=False)


def _boolean(text: str) -> bool:
    word = _WORDS.get(text.strip().lower())
    if word is None:
        raise msgspec.ValidationError("expected true or false")
    return word


def check_ca_file(path: str) -> None:
    """Check that the named file of trusted certificates exists; raise `ValueError` if it does not."""
    if path and not os.path.isfile(path):
        raise ValueError(f"ca_file {path!r} is no file, or may not be looked at")
