"""uWSGI's blocks ``for = …``/``endfor`` and ``if-… = …``/``endif``.

A block is applied to each key inside it separately, and a condition is evaluated again for every key.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from alarm_mw.config.parts import Entry
from alarm_mw.config.sources import MAX_KEYS, UnreadableError, read_text

ENDS = frozenset({"end", "endfor", "endif", "end-if", "end-for"})


class Facts(msgspec.Struct, frozen=True):
    """The facts that conditions can test."""

    environ: Mapping[str, str]
    #: The keys read so far.
    entries: Sequence[Entry]


class LogicError(Exception):
    """A block cannot be evaluated; the text says why."""


def turns(block: Entry, facts: Facts) -> Iterable[str | None]:
    """Return the values of ``%(_)``, one for each repetition of a key: none if the condition fails.

    A value of None leaves ``%(_)`` unchanged. Reads files and directories. Raises `LogicError` if the block cannot be
    evaluated.
    """
    option = block.option
    if option in _LOOPS:
        return _LOOPS[option](block.value)
    negated = option.startswith("if-not-")
    found = _CONDITIONS["if-" + option.removeprefix("if-not-" if negated else "if-")](block.value, facts)
    if not negated:
        return [] if found is None else [found]
    return [None] if found is None else []


def is_block(option: str) -> bool:
    """Return whether the key begins a block."""
    return option in _LOOPS or option.replace("if-not-", "if-", 1) in _CONDITIONS


def _for_glob(value: str) -> list[str]:
    # uWSGI returns names in the form of the pattern. One more than the limit shows that there are too many.
    found = sorted(itertools.islice(glob.iglob(value), MAX_KEYS + 1))  # noqa: PTH207
    return [name + "/" if os.path.isdir(name) and not name.endswith("/") else name for name in found] or [value]


def _for_readline(value: str) -> list[str]:
    try:
        *lines, last = read_text(value).split("\n")
    except UnreadableError as error:
        raise LogicError(f"{value}: {error}") from error
    return [line.rstrip("\r") for line in [*lines, *([last] if last else [])]]


def _for_times(value: str) -> Iterable[str]:
    number = re.match(r"\s*\d{1,6}", value)
    return map(str, range(1, int(number[0]) + 1 if number else 1))


_LOOPS: Mapping[str, Callable[[str], Iterable[str]]] = {
    "for": lambda value: (word[0] for word in re.finditer("[^ ]+", value)),
    "for-glob": _for_glob,
    "for-times": _for_times,
    "for-readline": _for_readline,
}


def _given(value: str, found: Callable[[str], str | None]) -> str | None:
    """Return the value of ``name`` or, for ``name=wanted``, only if it is the wanted one."""
    name, equals, wanted = value.partition("=")
    actual = found(name)
    return None if equals and actual != wanted else actual


def _exists(test: Callable[[str], bool]) -> Callable[[str, Facts], str | None]:
    return lambda value, _: value if test(value) else None


def _option(value: str, facts: Facts) -> str | None:
    return _given(value, lambda name: next((entry.value for entry in facts.entries if entry.key == name), None))


def _hostname_match(value: str, _: Facts) -> str | None:
    try:
        return value if re.search(value, socket.gethostname()) else None
    except (re.error, OverflowError, RecursionError) as error:
        raise LogicError(f"the regexp does not compile: {error}") from error


_CONDITIONS: Mapping[str, Callable[[str, Facts], str | None]] = {
    "if-opt": _option,
    "if-env": lambda value, facts: _given(value, facts.environ.get),
    "if-exists": _exists(os.path.exists),
    "if-file": _exists(os.path.isfile),
    "if-dir": _exists(os.path.isdir),
    "if-directory": _exists(os.path.isdir),
    "if-hostname": lambda value, _: value if value == socket.gethostname() else None,
    "if-hostname-match": _hostname_match,
    # Each reload reads the configuration from the start, so none is a reload in uWSGI's sense.
    "if-reload": lambda _value, _facts: None,
    # What uWSGI loads as plugins is always there.
    "if-plugin": lambda value, _: value,
}
