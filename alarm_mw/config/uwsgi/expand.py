"""What a value of uWSGI's options may refer to: ``$(ENVIRONMENT)``, ``@(file)`` and ``%(another-key)``.

uWSGI processes all values three times, once for each kind, and also replaces references in the text that it has just
inserted. A reference to a variable or key that does not exist stays unchanged, so the shell still gets
``cmd:date +$(hostname)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from alarm_mw.config.parts import Entry
from alarm_mw.config.report import Report
from alarm_mw.config.sources import MAX_TEXT, Budget, TooMuchError, UnreadableError, read_text

#: A limit for values that refer to themselves.
_REPLACEMENTS = 100

#: Maximum length of the name in a reference.
_MAX_NAME = 4096

LookUp = Callable[[str], str | None]


class EndlessError(Exception):
    """A value refers to itself."""


def expand(entries: Sequence[Entry], environ: Mapping[str, str], report: Report) -> list[Entry]:
    """Return the entries with all references replaced; unreadable files and endless values become problems."""
    values = list(entries)
    first = {entry.key: index for index, entry in reversed([*enumerate(values)])}
    budget = Budget()

    def value_of(key: str) -> str | None:
        return values[first[key]].value if key in first else None

    for symbol in "$@%":
        for index, entry in enumerate(values):
            look_up = _look_up(symbol, value_of, environ, entry, report)
            try:
                value = substitute(entry.value, symbol, _paid(look_up, entry, budget))
            except EndlessError:
                report.wrong(entry.where, f"{entry.key}: the value refers to itself with {symbol}(…)")
                continue
            except TooMuchError as error:
                report.wrong(error.where, f"{entry.key}: {error}")
                return []
            values[index] = structs.replace(entry, value=value)
    return values


def _paid(look_up: LookUp, entry: Entry, budget: Budget) -> LookUp:
    """Return a `look_up` that subtracts the text that it finds from the budget; raises `TooMuchError`."""

    def found(name: str) -> str | None:
        value = look_up(name)
        budget.spend(entry.where, text=len(value or ""))
        return value

    return found


def substitute(value: str, symbol: str, look_up: LookUp) -> str:
    """Return `value` with each ``symbol(name)`` that `look_up` knows replaced; raise `EndlessError`."""
    start = replacements = 0
    while (found := value.find(symbol + "(", start)) >= 0:
        end = _closing(value, found + 2, symbol)
        name = value[found + 2 : end]
        new = look_up(name) if end and name else None
        if new is None:
            start = end or found + 2
            continue
        replacements += 1
        if replacements > _REPLACEMENTS:
            raise EndlessError
        value = value[:found] + new + value[end + 1 :]
        # uWSGI looks again from the second character on.
        start = 1
    return value


def _closing(value: str, start: int, symbol: str) -> int:
    """Return the index of the parenthesis that closes the one before `start`; 0 if there is none.

    A `symbol` in between starts another reference: of nested references, the inner one is replaced first.
    """
    depth = 1
    for index in range(start, min(len(value), start + _MAX_NAME)):
        if value[index] == symbol:
            break
        depth += {"(": 1, ")": -1}.get(value[index], 0)
        if depth == 0:
            return index
    return 0


def _look_up(symbol: str, keys: LookUp, environ: Mapping[str, str], entry: Entry, report: Report) -> LookUp:
    if symbol == "$":
        return environ.get
    if symbol == "@":
        return lambda name: _read(name, entry, report)
    return lambda name: _compute(name.split(), keys) if " " in name else keys(name)


def _read(name: str, entry: Entry, report: Report) -> str | None:
    """Return the text of a file without the newline at its end."""
    if "://" in name:
        report.wrong(entry.where, f"{entry.key}: @({name}): only files can be read here")
        return None
    try:
        text = read_text(name)
    except UnreadableError as error:
        report.wrong(entry.where, f"{entry.key}: @({name}): {error}")
        return None
    return text[:-1] if text.endswith(("\n", "\r")) else text


def _compute(words: Sequence[str], keys: LookUp) -> str:
    """Compute an expression such as ``port + 1``, from left to right.

    Values are concatenated, or added, subtracted, multiplied or divided by the sign between them. Computing stops when
    the text exceeds its limit.
    """
    result, sign = "", ""
    for word in words:
        if word in _STEPS:
            result, sign = str(_number(result) + _STEPS[word]), ""
        elif word in _SIGNS:
            sign = word
        else:
            value = word if word.isdecimal() else keys(word) or ""
            result = str(_SIGNS[sign](_number(result), _number(value))) if sign else result + value
            sign = ""
        if len(result) > MAX_TEXT:
            break
    return result


_STEPS = {"++": 1, "--": -1}
_SIGNS: Mapping[str, Callable[[int, int], int]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "/": lambda left, right: left // right if right else 0,
}


def _number(text: str) -> int:
    """Return the number that `text` begins with; 0 if there is none, as in uWSGI."""
    found = re.match(r"\s*([+-]?[0-9]{1,18})", text)
    return int(found[1]) if found else 0
