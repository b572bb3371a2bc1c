"""One byte or a set of bytes in a PCRE pattern: escapes, classes, POSIX names. See pcre2pattern(3)."""

from __future__ import annotations

import unicodedata

import msgspec

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.tree import ALL_BYTES, LETTERS, LOWER, UPPER, WORD, bits, both_cases

DIGITS = bits(b"0123456789")
SPACE = bits(b"\t\n\v\f\r ")
HORIZONTAL_SPACE = bits(b"\t \xa0")
VERTICAL_SPACE = bits(b"\n\v\f\r\x85")

#: The sets behind ``\d`` and its like; the capital letter is the complement.
_SETS = {"d": DIGITS, "h": HORIZONTAL_SPACE, "s": SPACE, "v": VERTICAL_SPACE, "w": WORD}

_CONTROLS = {"a": 0x07, "e": 0x1B, "f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09}
_LAST_BYTE = 0xFF
_OCTAL = "01234567"
_HEX = "0123456789abcdefABCDEF"


class Scanner:
    """Reads a pattern from left to right; characters are bytes, held as Latin-1 text."""

    def __init__(self, data: str) -> None:
        self.data = data
        self.at = 0

    @property
    def here(self) -> str:
        """The next character; empty at the end."""
        return self.data[self.at : self.at + 1]

    def next(self) -> str:
        """Take the next character; empty at the end."""
        character = self.here
        self.at += 1
        return character

    def take(self, token: str) -> bool:
        """Take the token when it comes next, and say whether it did."""
        if self.data.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def run(self, characters: str, limit: int = 1 << 30) -> str:
        """Take as many of the characters as come next, up to a limit."""
        start = self.at
        while self.here and self.here in characters and self.at - start < limit:
            self.at += 1
        return self.data[start : self.at]

    def until(self, end: str, what: str) -> str:
        """Take all up to `end`, and `end` itself."""
        stop = self.data.find(end, self.at)
        if stop < 0:
            raise PatternError(f"{what} lacks its '{end}'", self.at)
        start, self.at = self.at, stop + len(end)
        return self.data[start:stop]


def shorthand(letter: str) -> int | None:
    r"""Return the set behind ``\d`` and its like, or None."""
    members = _SETS.get(letter.lower())
    if members is None:
        return None
    return members if letter.islower() else ALL_BYTES & ~members


def single(scan: Scanner, letter: str, start: int) -> int | None:
    r"""Return the byte that an escape stands for, or None when it is none; `letter` came after the backslash."""
    match letter:
        case "":
            raise PatternError("the pattern ends in a backslash", start)
        case "c":
            return _control(scan, start)
        case "x":
            return _hexadecimal(scan, start)
        case "o":
            return _octal_braces(scan, start)
        case "0":
            return int("0" + scan.run(_OCTAL, 2), 8)
    if not letter.isascii() or not letter.isalnum():
        return ord(letter)
    return _CONTROLS.get(letter)


def octal(scan: Scanner, start: int) -> int:
    """Return the byte of up to three octal digits."""
    value = int(scan.run(_OCTAL, 3), 8)
    return _byte(value, start)


def _byte(value: int, start: int) -> int:
    if value > _LAST_BYTE:
        raise PatternError("this character is beyond \\xff: these rules match bytes; write its UTF-8 bytes", start)
    return value


def _control(scan: Scanner, start: int) -> int:
    character = scan.next()
    if not (character.isascii() and character.isprintable() and character):
        raise PatternError("\\c must be followed by a printable ASCII character", start)
    return ord(character.upper()) ^ 0x40


def _hexadecimal(scan: Scanner, start: int) -> int:
    if not scan.take("{"):
        return int("0" + scan.run(_HEX, 2), 16)
    digits = scan.until("}", "\\x{…}")
    if not digits or digits.strip(_HEX):
        raise PatternError("\\x{…} must hold hexadecimal digits", start)
    return _byte(int(digits, 16), start)


def _octal_braces(scan: Scanner, start: int) -> int:
    digits = scan.until("}", "\\o{…}") if scan.take("{") else ""
    if not digits or digits.strip(_OCTAL):
        raise PatternError("\\o must be followed by octal digits in braces", start)
    return _byte(int(digits, 8), start)


def property_set(scan: Scanner, letter: str, start: int) -> int:
    r"""Return the set of ``\p{…}`` or ``\P{…}``: without UTF mode, the general categories of Latin-1."""
    name = scan.until("}", "\\p{…}") if scan.take("{") else scan.next()
    inverted = (letter == "P") ^ name.startswith("^")
    name = name.removeprefix("^")
    prefixes = {"L&": ("Lu", "Ll", "Lt"), "Any": ("",)}.get(name, (name,))
    members = bits(bytes(code for code in range(256) if unicodedata.category(chr(code)).startswith(prefixes)))
    if name not in {"L&", "Any"} and name not in _CATEGORIES:
        raise PatternError("only the general categories of characters can be had, such as \\p{Lu}", start)
    return ALL_BYTES & ~members if inverted else members


_CATEGORIES = frozenset(
    [
        "C",
        "Cc",
        "Cf",
        "Cn",
        "Co",
        "Cs",
        "L",
        "Ll",
        "Lm",
        "Lo",
        "Lt",
        "Lu",
        "M",
        "Mc",
        "Me",
        "Mn",
        "N",
        "Nd",
        "Nl",
        "No",
        "P",
        "Pc",
        "Pd",
        "Pe",
        "Pf",
        "Pi",
        "Po",
        "Ps",
        "S",
        "Sc",
        "Sk",
        "Sm",
        "So",
        "Z",
        "Zl",
        "Zp",
        "Zs",
    ]
)


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
