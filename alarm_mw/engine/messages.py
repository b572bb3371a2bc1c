"""The text of a firing: messages of a bounded length, regexps and levels as text."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator

from msgspec import structs

from alarm_mw.model.types import FieldCondition, RequestConditions, Rule

#: Levels of `logging` from the highest, as severities.
SEVERITIES = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
    (0, "debug"),
)


def severity_of(level: int | None) -> str:
    """Return what a level means; empty where there is none."""
    return "" if level is None else next((name for least, name in SEVERITIES if level >= least), "debug")


def shown(pattern: str) -> str:
    r"""Return a regexp as text that can be stored and sent: bytes of it that are no UTF-8 become ``\xNN``."""
    if pattern.isascii():
        return pattern
    return pattern.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def rule_text(rule: Rule) -> str:
    """Return a rule as text: its regexp, its conditions on fields and those on requests."""
    text = shown(rule.pattern)
    if rule.fields:
        text = f"{text} where: {shown(' '.join(map(_condition, rule.fields)))}"
    if rule.request is not None:
        asked = " ".join(f"{name}={value}" for name, value in _asked(rule.request))
        text = f"{text} request: {shown(asked)}"
    return text.lstrip()


def _condition(condition: FieldCondition) -> str:
    """Return a condition on a field as a configuration has it, its tests apart by ``|``."""
    first, *others = condition.tests
    if not others and first.kind != "!":
        return f"{condition.field}{first.kind}{first.shown}"
    shown_tests = "|".join(f"{test.kind.removeprefix('=')}{test.shown}" for test in condition.tests)
    return f"{condition.field}={shown_tests}"


def _asked(conditions: RequestConditions) -> Iterator[tuple[str, object]]:
    """Yield the names and values of the conditions that are given."""
    for field in structs.fields(conditions):
        value = getattr(conditions, field.name)
        if value != field.default:
            yield field.name, value


def cut(message: bytes, size: int, whole: int = 0) -> bytes:
    """Return the message in at most `size` bytes; a cut message says how long it was.

    `whole` is not 0 for the first part of a line: it has that many bytes; below zero, more than that.
    """
    if len(message) <= size and not whole:
        return message
    newline = b"\n" if message.endswith(b"\n") else b""
    more = b"more than " if whole < 0 else b""
    note = b" [cut: %b%d bytes]%b" % (more, abs(whole) or len(message), newline)
    if len(note) > size:
        note = b""
    kept = message.removesuffix(newline)[: size - len(note)]
    # Do not cut a multi-byte character in two.
    return (kept.decode("utf-8", "ignore").encode() if _is_text(message) else kept) + note


def cut_middle(message: bytes, size: int, whole: int = 0) -> bytes:
    """Return a message of several lines in at most `size` bytes: of a longer one its first and its last lines."""
    if len(message) <= size or whole:
        return cut(message, size, whole)
    note = b"[cut: %d bytes]\n" % len(message)
    room = size - len(note)
    head = message[: max(room // 3, 0)].rpartition(b"\n")
    tail = message[len(message) - max(room - room // 3, 0) :].partition(b"\n")
    # With lines that are longer than that, the beginning says more.
    return b"".join([*head[:2], note, tail[2]]) if head[1] and tail[2] else cut(message, size)


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


#: Characters that are escaped in an id.
_ODD = re.compile(r"[^\w.~+-]", re.ASCII)


@functools.lru_cache(maxsize=1024)
def named(alarm: str) -> str:
    """Return an alarm's name, percent-encoded, for use in ids, which become headers and variables of commands."""
    return _ODD.sub(_escaped, alarm)


def _escaped(odd: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in odd[0].encode("utf-8", "surrogatepass"))
