"""Character classes of PCRE: ``[…]`` with ranges, escapes and POSIX names. See pcre2pattern(3)."""

from __future__ import annotations

import msgspec

from alarm_mw.engine.pcre_chars import DIGITS, SPACE, Scanner, octal, property_set, shorthand, single
from alarm_mw.engine.tree import ALL_BYTES, LETTERS, LOWER, UPPER, WORD, bits, both_cases
from alarm_mw.errors import PatternError

_GRAPH = bits(range(0x21, 0x7F))
_POSIX = {
    "alnum": LETTERS | DIGITS,
    "alpha": LETTERS,
    "ascii": bits(range(0x80)),
    "blank": bits(b"\t "),
    "cntrl": bits(range(0x20)) | 1 << 0x7F,
    "digit": DIGITS,
    "graph": _GRAPH,
    "lower": LOWER,
    "print": _GRAPH | 1 << 0x20,
    "punct": _GRAPH & ~(LETTERS | DIGITS),
    "space": SPACE,
    "upper": UPPER,
    "word": WORD,
    "xdigit": DIGITS | bits(b"ABCDEFabcdef"),
}


class _Item(msgspec.Struct, frozen=True):
    """One item of a class: a set, and its code where it is a single byte that may begin or end a range."""

    members: int
    code: int | None = None


class ClassParser:
    """Reads a class, whose ``[`` was taken already."""

    def __init__(self, scan: Scanner, *, ignore_case: bool, skip_blanks: bool) -> None:
        self._scan = scan
        self._start = scan.at - 1
        self._ignore_case = ignore_case
        self._skip_blanks = skip_blanks
        self._quoting = False

    def parse(self) -> int:
        """Return the set."""
        inverted = self._scan.take("^")
        members = 0
        first = True
        while (item := self._item(first=first)) is not None:
            members |= self._range(item)
            first = False
        members = both_cases(members) if self._ignore_case else members
        return ALL_BYTES & ~members if inverted else members

    def _item(self, *, first: bool = False) -> _Item | None:
        """Return the next item, or None where the class ends."""
        self._skip()
        start = self._scan.at
        character = self._scan.next()
        if not character:
            raise PatternError("the class lacks its ']'", self._start)
        if self._quoting:
            return _Item(1 << ord(character), ord(character))
        if character == "]" and not first:
            return None
        if character == "[" and self._scan.here and self._scan.here in ":.=":
            named = self._named(start)
            if named is not None:
                return named
        if character == "\\":
            return self._escape(start)
        return _Item(1 << ord(character), ord(character))

    def _skip(self) -> None:
        r"""Skip ``\Q``, ``\E`` and, under ``(?xx)``, blanks."""
        while True:
            if self._scan.take("\\E"):
                self._quoting = False
            elif not self._quoting and self._scan.take("\\Q"):
                self._quoting = True
            elif not (self._skip_blanks and not self._quoting and self._scan.run(" \t")):
                return

    def _named(self, start: int) -> _Item | None:
        kind = self._scan.here
        stop = self._scan.data.find(kind + "]", self._scan.at + 1)
        name = self._scan.data[self._scan.at + 1 : max(stop, 0)]
        if stop < 0 or "]" in name or "\\" in name:
            return None
        if kind != ":":
            raise PatternError(f"POSIX collating elements like [{kind}x{kind}] are not supported", start)
        self._scan.at = stop + 2
        return _Item(self._posix(name, start))

    def _posix(self, name: str, start: int) -> int:
        plain = name.removeprefix("^")
        if plain not in _POSIX:
            raise PatternError(f"there is no POSIX class [:{plain}:]", start)
        caseless = self._ignore_case and plain in {"upper", "lower"}
        members = LETTERS if caseless else _POSIX[plain]
        return ALL_BYTES & ~members if name.startswith("^") else members

    def _escape(self, start: int) -> _Item:
        letter = self._scan.next()
        if letter == "b":
            return _Item(1 << 8, 8)
        if letter and letter in "1234567":
            self._scan.at -= 1
            code: int | None = octal(self._scan, start)
        elif letter and letter in "89":
            code = ord(letter)
        else:
            code = single(self._scan, letter, start)
        if code is not None:
            return _Item(1 << code, code)
        if letter in "pP":
            return _Item(property_set(self._scan, letter, start))
        members = shorthand(letter)
        if members is None:
            raise PatternError(f"\\{letter} has no meaning in a class", start)
        return _Item(members)

    def _range(self, first: _Item) -> int:
        """Return the set of an item, or of the range that it begins."""
        start = self._scan.at
        self._skip()
        if self._quoting or self._scan.here != "-":
            return first.members
        self._scan.at += 1
        self._skip()
        if self._scan.here == "]" and not self._quoting:
            self._scan.at = start
            self._quoting = False
            return first.members | self._hyphen()
        last = self._item()
        if last is None or first.code is None or last.code is None:
            raise PatternError("a range goes from one character to another", start)
        if first.code > last.code:
            raise PatternError("the range in the class is out of order", start)
        return bits(range(first.code, last.code + 1))

    def _hyphen(self) -> int:
        """Take a hyphen that stands last in the class."""
        self._skip()
        self._scan.at += 1
        return 1 << 0x2D
