"""The options that ``(?i)`` and its like set in a PCRE pattern."""

from __future__ import annotations

import msgspec
from msgspec import structs

from alarm_mw.engine.pcre_chars import Scanner
from alarm_mw.engine.tree import Chars, Node, both_cases


class Options(msgspec.Struct, frozen=True):
    """The options that ``(?…)`` sets, each under its letter's meaning."""

    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False
    extended: bool = False
    extended_more: bool = False
    ungreedy: bool = False
    no_capture: bool = False
    duplicate_names: bool = False


_LETTERS = {
    "i": "ignore_case",
    "m": "multiline",
    "s": "dot_all",
    "x": "extended",
    "U": "ungreedy",
    "n": "no_capture",
    "J": "duplicate_names",
}


def letters(scan: Scanner, options: Options) -> Options | None:
    """Return the options after letters like ``i-s``, or None where other characters come."""
    value = True
    if scan.take("^"):
        options = Options(ungreedy=options.ungreedy, duplicate_names=options.duplicate_names)
    while scan.here not in {")", ":"}:
        letter = scan.next()
        if letter == "-" and value:
            value = False
        elif letter in _LETTERS:
            options = structs.replace(options, **{_LETTERS[letter]: value})
            if letter == "x":
                options = structs.replace(options, extended_more=value and scan.take("x"))
        else:
            return None
    return options


def literal(code: int, options: Options) -> Node:
    """Return one byte, in both cases where case is ignored."""
    members = 1 << code
    return Chars(both_cases(members) if options.ignore_case else members)
