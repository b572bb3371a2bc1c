"""What a PCRE pattern says of a place: it takes no character, and cannot be repeated."""

from __future__ import annotations

from alarm_mw.engine.pcre_chars import Scanner
from alarm_mw.engine.pcre_options import Options
from alarm_mw.engine.tree import EMPTY, NOTHING, WORD, Anchor, At, Chars, Look, Node, sequence
from alarm_mw.errors import PatternError

_DIGITS = "0123456789"

_PLACES: dict[str, Node] = {
    r"\A": At(Anchor.START),
    r"\G": At(Anchor.START),
    r"\Z": At(Anchor.END),
    r"\z": At(Anchor.VERY_END),
    r"\b": At(Anchor.BOUNDARY),
    r"\B": At(Anchor.NOT_BOUNDARY),
    # It moves the start of the match, which no rule asks for.
    r"\K": EMPTY,
    "[[:<:]]": sequence(At(Anchor.BOUNDARY), Look(Chars(WORD), ahead=True, negative=False)),
    "[[:>:]]": sequence(At(Anchor.BOUNDARY), Look(Chars(WORD), ahead=False, negative=False)),
    "(*F)": NOTHING,
    "(*FAIL)": NOTHING,
}


def place(scan: Scanner, options: Options) -> Node | None:
    """Return what is said of the place here; None where it is something else that stands here."""
    start = scan.at
    if scan.take("^"):
        return At(Anchor.INNER_LINE_START if options.multiline else Anchor.START)
    if scan.take("$"):
        return At(Anchor.LINE_END if options.multiline else Anchor.END)
    if scan.take("(?C"):
        return _callout(scan, start)
    return next((node for token, node in _PLACES.items() if scan.take(token)), None)


def _callout(scan: Scanner, start: int) -> Node:
    """Return nothing at all: a callout without a function to call."""
    text = scan.until(")", "the callout")
    if text.strip(_DIGITS):
        raise PatternError("callouts with text cannot be had", start)
    return EMPTY
