"""The quantifiers of a PCRE pattern: how often, and how eagerly."""

from __future__ import annotations

from alarm_mw.engine.pcre_chars import Scanner
from alarm_mw.engine.pcre_options import Options
from alarm_mw.engine.tree import EMPTY, Look, Mood, Node, Repeat, choice
from alarm_mw.errors import PatternError

#: The least, and the most; None: any number.
Counts = tuple[int, int | None]

_DIGITS = "0123456789"
_MOST = 65535
_SIGNS: dict[str, Counts] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def counts(scan: Scanner) -> Counts | None:
    """Return the counts of a quantifier, or None where none stands here."""
    for sign, found in _SIGNS.items():
        if scan.take(sign):
            return found
    return braces(scan) if scan.here == "{" else None


def braces(scan: Scanner) -> Counts | None:
    r"""Return the counts of ``{m}``, ``{m,}`` or ``{m,n}``; anything else is literal, ``{,n}`` too."""
    start = scan.at
    scan.at += 1
    least = scan.run(_DIGITS)
    comma = scan.take(",")
    most = scan.run(_DIGITS) if comma else least
    if not least or not scan.take("}"):
        scan.at = start
        return None
    low, high = int(least), int(most) if most else None
    if max(low, high or 0) > _MOST:
        raise PatternError(f"a count goes up to {_MOST}", start)
    if high is not None and high < low:
        raise PatternError("the counts are out of order", start)
    return low, high


def mood(scan: Scanner, options: Options) -> Mood:
    """Return what stands behind the counts: how many of them are tried first, and whether fewer are tried at all."""
    if scan.take("+"):
        return Mood.POSSESSIVE
    lazy = scan.take("?")
    return Mood.LAZY if lazy != options.ungreedy else Mood.GREEDY


def repeated(item: Node, times: Counts, mood: Mood) -> Node:
    """Return an item with its quantifier."""
    least, most = times
    if isinstance(item, Look):  # PCRE asks once, or never.
        return item if least else (EMPTY if most == 0 else choice(item, EMPTY))
    return Repeat(item, least, most, mood)
