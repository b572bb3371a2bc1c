"""What stands beside the characters and groups of a PCRE pattern: options, quantifiers, how it begins, places."""

from __future__ import annotations

import re

import msgspec
from msgspec import structs

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.syntax.characters import Alphabet, Scanner
from alarm_mw.patterns.tree import (
    EMPTY,
    NEWLINE,
    NOTHING,
    Anchor,
    At,
    Chars,
    Look,
    Mood,
    Native,
    Node,
    Repeat,
    choice,
    sequence,
)


class Options(msgspec.Struct, frozen=True):
    """The options that ``(?…)`` sets, each under its letter's meaning."""

    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False
    extended: bool = False
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
        else:
            return None
    return options


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


# How a pattern begins


class Start(msgspec.Struct, frozen=True):
    """What the verbs at the start of a pattern say, such as ``(*UTF8)`` and ``(*ANYCRLF)``."""

    alphabet: Alphabet = Alphabet()
    #: What ends a line: a key of `_NEWLINES`.
    newline: str = "LF"
    #: ``\R`` is CR, LF or CR LF only.
    narrow: bool = False
    #: How many characters they take.
    length: int = 0

    @property
    def line_breaks(self) -> int:
        r"""What ``\R`` matches beside CR LF."""
        return _CR | NEWLINE if self.narrow else self.alphabet.vertical


_CR = 1 << 13
#: The single characters that end a line; CR LF, which is two of them, for the names that have it.
_NEWLINES = {"LF": NEWLINE, "CR": _CR, "CRLF": 0, "ANYCRLF": _CR | NEWLINE, "ANY": -1}
_START = re.compile(r"\(\*([A-Z0-9_]+)(=\d+)?\)")
#: Verbs at the start that do not change what matches.
_HARMLESS = {
    *("NO_JIT", "NO_START_OPT", "NO_AUTO_POSSESS", "NO_DOTSTAR_ANCHOR"),
    *("LIMIT_MATCH", "LIMIT_DEPTH", "LIMIT_RECURSION", "LIMIT_HEAP"),
}


def start_of(pattern: str) -> Start:
    """Return what the verbs at the start of a pattern say; what is no such verb is part of the rest."""
    start = Start()
    while found := _START.match(pattern, start.length):
        match found[1]:
            case "UTF" | "UTF8":
                start = structs.replace(start, alphabet=structs.replace(start.alphabet, unicode=True))
            case "UCP":
                start = structs.replace(start, alphabet=structs.replace(start.alphabet, properties=True))
            case "BSR_ANYCRLF" | "BSR_UNICODE":
                start = structs.replace(start, narrow=found[1] == "BSR_ANYCRLF")
            case name if name in _NEWLINES:
                start = structs.replace(start, newline=name)
            case name if name not in _HARMLESS:
                break
        start = structs.replace(start, length=found.end())
    return start


# What takes no character


def ahead(item: Node, *, negative: bool = False) -> Look:
    """Return whether the item matches from here on."""
    return Look(item, ahead=True, negative=negative)


def behind(item: Node, *, negative: bool = False) -> Look:
    """Return whether the item matches up to here."""
    return Look(item, ahead=False, negative=negative)


_BACKTRACKING = re.compile(r"\(\*(F|FAIL|PRUNE|SKIP|MARK(?=:)|(?=:))(?::[^)]+)?\)")


class Places:
    """What a pattern says of a place: it takes no character, and cannot be repeated."""

    def __init__(self, start: Start) -> None:
        alphabet = start.alphabet
        ends = _NEWLINES[start.newline]
        ends = alphabet.vertical if ends < 0 else ends
        crlf = sequence(Chars(_CR), Chars(NEWLINE))
        word = alphabet.named("word")
        assert word is not None
        #: What ``.`` and ``\N`` match.
        self.dot: Node = alphabet.chars(alphabet.all & ~ends)
        self._end: Node = At(Anchor.END)
        self._line_end: Node = At(Anchor.LINE_END)
        self._line_start: Node = At(Anchor.INNER_LINE_START)
        if start.newline != "LF":
            one = alphabet.chars(ends) if ends else crlf
            self._other_lines(one, one if start.newline.startswith("CR") else choice(crlf, one))
        if start.newline == "CRLF":
            self.dot = sequence(ahead(crlf, negative=True), self.dot)
        #: Where no match begins: between CR and LF, where both end lines.
        self.not_first: Node | None = None
        if start.newline in {"CRLF", "ANYCRLF", "ANY"}:
            self.not_first = ahead(sequence(behind(Chars(_CR)), Chars(NEWLINE)), negative=True)
        boundary = _boundaries(alphabet, alphabet.chars(word))
        self._fixed: dict[str, Node] = {
            r"\A": At(Anchor.START),
            r"\G": At(Anchor.START),
            r"\Z": self._end,
            r"\z": At(Anchor.VERY_END),
            r"\b": boundary[0],
            r"\B": boundary[1],
            # It moves the start of the match, which no rule asks for.
            r"\K": EMPTY,
            "[[:<:]]": sequence(boundary[0], ahead(alphabet.chars(word))),
            "[[:>:]]": sequence(boundary[0], behind(alphabet.chars(word))),
        }

    def _other_lines(self, one: Node, newline: Node) -> None:
        """Set the ends of lines that do not end in LF alone; `one` is what is behind the start of one."""
        end = At(Anchor.VERY_END)
        self._end = ahead(choice(sequence(newline, end), end))
        self._line_end = choice(end, ahead(newline))
        self._line_start = choice(At(Anchor.START), sequence(behind(one), ahead(end, negative=True)))

    def take(self, scan: Scanner, options: Options) -> Node | None:
        """Take what is said of the place here, and return it; None where it is something else that stands here."""
        if scan.take("^"):
            return self._line_start if options.multiline else At(Anchor.START)
        if scan.take("$"):
            return self._line_end if options.multiline else self._end
        if scan.take("(?C"):
            return _callout(scan)
        if scan.data.startswith("(*", scan.at):
            return _verb(scan)
        return next((node for token, node in self._fixed.items() if scan.take(token)), None)


def _boundaries(alphabet: Alphabet, word: Chars) -> tuple[Node, Node]:
    r"""Return ``\b`` and ``\B``."""
    if alphabet == Alphabet():
        return At(Anchor.BOUNDARY), At(Anchor.NOT_BOUNDARY)
    before, after = behind(word), ahead(word)
    not_before, not_after = behind(word, negative=True), ahead(word, negative=True)
    return (
        choice(sequence(before, not_after), sequence(not_before, after)),
        choice(sequence(before, after), sequence(not_before, not_after)),
    )


def _callout(scan: Scanner) -> Node:
    """Return nothing at all: a callout without a function to call."""
    start = scan.at - 3
    text = scan.until(")", "the callout")
    if text.strip(_DIGITS):
        raise PatternError("callouts with text are not supported", start)
    return EMPTY


def _verb(scan: Scanner) -> Node | None:
    """Return a backtracking verb; None where there is another one, or a group with a name such as ``(*atomic:…)``."""
    found = _BACKTRACKING.match(scan.data, scan.at)
    if found is None:
        return None
    name = found[1]
    if name == "SKIP" and ":" in found[0]:
        raise PatternError("(*SKIP) with a name is not supported", scan.at)
    scan.at = found.end()
    if name in {"PRUNE", "SKIP"}:
        return Native(f"(*{name})", EMPTY)
    return EMPTY if name in {"", "MARK"} else NOTHING
