"""What stands beside the characters and groups of a PCRE pattern: options, quantifiers, places, verbs."""

from __future__ import annotations

import msgspec
from msgspec import structs

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.syntax.characters import VERTICAL_SPACE, Scanner
from alarm_mw.patterns.tree import (
    EMPTY,
    NOTHING,
    WORD,
    Anchor,
    At,
    Chars,
    Look,
    Mood,
    Node,
    Repeat,
    bits,
    both_cases,
    choice,
    sequence,
)


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


#: Verbs at the start that do not change what matches.
_HARMLESS = ("LF", "NO_JIT", "NO_START_OPT", "NO_AUTO_POSSESS", "NO_DOTSTAR_ANCHOR", "BSR_UNICODE")
_LIMITS = ("LIMIT_MATCH=", "LIMIT_DEPTH=", "LIMIT_RECURSION=", "LIMIT_HEAP=")


def line_breaks(scan: Scanner) -> int:
    r"""Take the verbs at the start, and return what ``\R`` matches then beside CR LF."""
    members = VERTICAL_SPACE
    while scan.take("(*"):
        start = scan.at
        stop = scan.data.find(")", start)
        name = scan.data[start : max(stop, start)]
        if name == "BSR_ANYCRLF":
            members = bits(b"\r\n")
        elif name not in _HARMLESS and not name.startswith(_LIMITS):
            scan.at = start - 2
            break
        scan.at = stop + 1
    return members


def refusal(name: str, start: int) -> PatternError:
    """Return the error that says why a verb cannot be had."""
    if name in {"UTF", "UTF8", "UCP"}:
        return PatternError("UTF mode cannot be had: these rules match bytes", start)
    return PatternError(f"the verb (*{name}) cannot be had", start)
