"""Makes foreign text safe to show in a log, on a terminal, in an error text or in the line of a request."""

from __future__ import annotations

import re

#: Characters that could control a terminal or mislead a reader: control characters except the tab, bytes that were not
#: UTF-8, bidirectional marks, and characters that XML cannot contain.
_HIDDEN = "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"


def printable(given: bytes | str, limit: int | None = None) -> str:
    r"""Return `given` as one line of text that can be shown anywhere.

    Control characters and bytes that are not UTF-8 become ``\xNN``, other hidden characters ``\uNNNN``; a tab stays.
    At most `limit` bytes, or characters of a text, are shown; ``…`` replaces the rest.
    """
    cut = given if limit is None else given[:limit]
    shown = re.sub(_HIDDEN, _escape, cut if isinstance(cut, str) else cut.decode("utf-8", "surrogateescape"))
    return shown if len(cut) == len(given) else f"{shown}…"


def printable_lines(message: bytes) -> list[str]:
    """Return the lines of `message`, each made printable; a newline at the end begins no further one."""
    lines = message.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    return [printable(line) for line in lines]


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char.isascii():
        return f"\\x{ord(char):02x}"
    if "\udc80" <= char <= "\udcff":
        # A byte that was not UTF-8: `surrogateescape` stores it in the low byte.
        return f"\\x{ord(char) & 0xFF:02x}"
    return f"\\u{ord(char):04x}"
