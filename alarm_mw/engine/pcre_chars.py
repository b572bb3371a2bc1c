"""PCRE's ways to write one byte or a set of bytes: escapes, classes, POSIX names. See pcre2pattern(3)."""

from __future__ import annotations

import unicodedata

from alarm_mw.engine.tree import ALL_BYTES, WORD, bits
from alarm_mw.errors import PatternError

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
