"""One character or a set of characters in a PCRE pattern: escapes, classes, POSIX names. See pcrepattern(3).

Sets are integers in which bit n stands for character n, of which an `Alphabet` has 256 or all of Unicode's.
"""

from __future__ import annotations

import re
from functools import cache
from typing import ClassVar

import msgspec

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.tree import ALL_ASCII, ALL_BYTES, LETTERS, LOWER, UPPER, WORD, Chars, Source, bits, both_cases
from alarm_mw.system.forks import held_off

_DIGITS = bits(b"0123456789")
_SPACE = bits(b"\t\n\v\f\r ")
_GRAPH = bits(range(0x21, 0x7F))
_POSIX = {
    "alnum": LETTERS | _DIGITS,
    "alpha": LETTERS,
    "ascii": ALL_ASCII,
    "blank": bits(b"\t "),
    "cntrl": bits(range(0x20)) | 1 << 0x7F,
    "digit": _DIGITS,
    "graph": _GRAPH,
    "lower": LOWER,
    "print": _GRAPH | 1 << 0x20,
    "punct": _GRAPH & ~(LETTERS | _DIGITS),
    "space": _SPACE,
    "upper": UPPER,
    "word": WORD,
    "xdigit": _DIGITS | bits(b"ABCDEFabcdef"),
}
#: What ``(*UCP)`` makes of them: see pcrepattern(3), "POSIX character classes".
_UCP = {
    "alnum": r"\p{L}\p{N}",
    "alpha": r"\p{L}",
    "blank": r"\t\x20\xa0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000",
    "cntrl": r"\p{Cc}",
    "digit": r"\p{Nd}",
    "graph": r"\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}--[\u061c\u180e\u2066-\u2069]",
    "lower": r"\p{Ll}",
    "print": r"\p{L}\p{M}\p{N}\p{P}\p{S}\p{Cf}\p{Zs}--[\u061c\u2066-\u2069]",
    "punct": r"\p{P}[\p{S}&&[\x00-\x7f]]",
    "space": r"\p{Z}\t-\r\x85\u180e",
    "upper": r"\p{Lu}",
    "word": r"\p{L}\p{N}_",
}
#: Properties of PCRE's own; a name beside them is a general category or a script.
_PROPERTIES = {
    "Any": r"\x00-\U0010ffff",
    "L&": r"\p{Lu}\p{Ll}\p{Lt}",
    "Xan": _UCP["alnum"],
    "Xps": _UCP["space"],
    "Xsp": _UCP["space"],
    "Xwd": _UCP["word"],
}
_HORIZONTAL = (0x09, 0x20, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
_VERTICAL = (0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0x2028, 0x2029)

#: LF and CR.
NEWLINES = frozenset({10, 13})
_CONTROLS = {"a": 0x07, "e": 0x1B, "f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09}
_OCTAL = "01234567"
_HEX = "0123456789abcdefABCDEF"
_UNICODE = 0x110000
#: So many members beyond ASCII are listed one by one.
_FEW = 8
#: Escapes with a meaning outside of classes: in a class they are letters, but end no range.
_ELSEWHERE = frozenset("ABCEGKRXZkz")
_SCRIPT = re.compile(r"[A-Za-z_]+")


class Alphabet(msgspec.Struct, frozen=True):
    r"""The characters that a pattern is made of, and what ``\w``, ``[:alpha:]`` and their like hold of them."""

    #: ``(*UTF8)``: characters are those of Unicode, and the text is UTF-8; else they are bytes.
    unicode: bool = False
    #: ``(*UCP)``: ``\w`` and its like hold what Unicode says, of bytes as if they were Latin-1; else ASCII.
    properties: bool = False

    _SETS: ClassVar[dict[str, str]] = {"d": "digit", "s": "space", "w": "word"}

    @property
    def size(self) -> int:
        """How many characters there are."""
        return _UNICODE if self.unicode else 256

    @property
    def all(self) -> int:
        """The set of all characters."""
        return (1 << _UNICODE) - 1 if self.unicode else ALL_BYTES

    @property
    def vertical(self) -> int:
        r"""What ``\v`` holds."""
        return _some(_VERTICAL) & self.all

    def named(self, name: str) -> int | None:
        """Return the set of a POSIX class, or None."""
        if self.properties and name in _UCP:
            return _with_property(_UCP[name], self.size)
        return _POSIX.get(name)

    def shorthand(self, letter: str) -> int | None:
        r"""Return the set behind ``\d`` and its like, or None; the capital letter is the complement."""
        match letter.lower():
            case "h":
                members = _some(_HORIZONTAL) & self.all
            case "v":
                members = self.vertical
            case small:
                found = self.named(self._SETS[small]) if small in self._SETS else None
                if found is None:
                    return None
                members = found
        return members if letter.islower() else self.all & ~members

    def property(self, name: str) -> int | None:
        r"""Return the set of ``\p{name}``, or None."""
        if name in _PROPERTIES:
            return _with_property(_PROPERTIES[name], self.size)
        return _named_property(name, self.size) if _SCRIPT.fullmatch(name) else None

    def both_cases(self, members: int) -> int:
        """Return the set with the other cases of its letters."""
        return _unicode_cases(members) if self.unicode else both_cases(members)

    def chars(self, members: int) -> Chars:
        """Return one character out of a set."""
        return _unicode_chars(members) if self.unicode else Chars(members)


def _some(found: tuple[int, ...]) -> int:
    return sum(1 << code for code in found)


@cache
def _with_property(inside: str, size: int) -> int:
    """Return the characters that are in a class of the `regex` package, which knows Unicode's properties."""
    with held_off():
        import regex  # noqa: PLC0415  # 40 ms, for the few that need it

    found = bytearray(size // 8)
    for character in regex.findall(f"(?V1)[{inside}]", "".join(map(chr, range(size)))):
        code = ord(character)
        found[code >> 3] |= 1 << (code & 7)
    return int.from_bytes(found, "little")


def _named_property(name: str, size: int) -> int | None:
    with held_off():
        import regex  # noqa: PLC0415  # as above

    for kind in ("General_Category", "Script"):
        try:
            return _with_property(rf"\p{{{kind}={name}}}", size)
        except regex.error:
            continue
    return None


@cache
def _cases() -> dict[int, frozenset[int]]:
    """Return the characters that have other cases, each with all of them."""
    same: dict[str, set[int]] = {}
    for code in range(0x20000):  # beyond there are none
        character = chr(code)
        folded = next((c for c in (character.casefold(), character.lower()) if len(c) == 1), character)
        same.setdefault(folded, {ord(folded)}).add(code)
    return {code: frozenset(found) for found in same.values() if len(found) > 1 for code in found}


@cache
def _unicode_cases(members: int) -> int:
    before = members.to_bytes(_UNICODE // 8, "little")
    after = bytearray(before)
    for code, found in _cases().items():
        if before[code >> 3] >> (code & 7) & 1:
            for other in found:
                after[other >> 3] |= 1 << (other & 7)
    return int.from_bytes(after, "little")


@cache
def _unicode_chars(members: int) -> Chars:
    runs = [(run.start(), run.end() - 1) for run in re.finditer("1+", f"{members:b}"[::-1])]
    beyond = members >> 128
    if beyond.bit_count() <= _FEW:
        others = (chr(code) for first, last in runs for code in range(max(first, 128), last + 1))
        return Chars(members & ALL_ASCII, tuple(others))
    source = Source(tuple(("RANGE", run) for run in runs), ignore_case=False, ascii_only=True)
    return Chars(members & ALL_ASCII, (), source)


class Scanner:
    """Reads a pattern from left to right; a character that is a byte is held as Latin-1 text."""

    def __init__(self, data: str, alphabet: Alphabet) -> None:
        self.data = data
        self.at = 0
        self.alphabet = alphabet
        #: The pattern names CR or LF: then a match may begin between the two.
        self.names_newline = False

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


def single(scan: Scanner, letter: str, start: int) -> int | None:
    r"""Return the character that an escape stands for, or None when it is none; `letter` came after the backslash."""
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
        case "L" | "l" | "U" | "u":
            raise PatternError(f"\\{letter} changes the case of what follows in Perl, not in PCRE", start)
    if not letter.isascii() or not letter.isalnum():
        return ord(letter)
    return _CONTROLS.get(letter)


def octal(scan: Scanner, start: int) -> int:
    """Return the character of up to three octal digits."""
    return _character(scan, int(scan.run(_OCTAL, 3), 8), start)


def _character(scan: Scanner, value: int, start: int) -> int:
    if value < scan.alphabet.size:
        return value
    if scan.alphabet.unicode:
        raise PatternError("Unicode has no such character", start)
    raise PatternError("this character is beyond \\xff: these rules match bytes; write its UTF-8 bytes", start)


def _control(scan: Scanner, start: int) -> int:
    character = scan.next()
    if not (character.isascii() and character):
        raise PatternError("\\c must be followed by an ASCII character", start)
    return ord(character.upper()) ^ 0x40


def _hexadecimal(scan: Scanner, start: int) -> int:
    if not scan.take("{"):
        return int("0" + scan.run(_HEX, 2), 16)
    digits = scan.until("}", "\\x{…}")
    if not digits or digits.strip(_HEX):
        raise PatternError("\\x{…} must hold hexadecimal digits", start)
    return _character(scan, int(digits, 16), start)


def _octal_braces(scan: Scanner, start: int) -> int:
    digits = scan.until("}", "\\o{…}") if scan.take("{") else ""
    if not digits or digits.strip(_OCTAL):
        raise PatternError("\\o must be followed by octal digits in braces", start)
    return _character(scan, int(digits, 8), start)


def property_set(scan: Scanner, letter: str, start: int) -> int:
    r"""Return the set of ``\p{…}`` or ``\P{…}``; of bytes, that of Latin-1's characters."""
    name = scan.until("}", "\\p{…}") if scan.take("{") else scan.next()
    inverted = (letter == "P") ^ name.startswith("^")
    members = scan.alphabet.property(name.removeprefix("^"))
    if members is None:
        raise PatternError("this is no general category of characters, such as \\p{Lu}, and no script", start)
    return scan.alphabet.all & ~members if inverted else members


# Classes


def posix_name(scan: Scanner) -> str | None:
    """Return what stands between ``[:`` and ``:]``, with the first colon; None where this is no POSIX class.

    The scanner is behind the ``[``, and stays there. As ``check_posix_syntax`` of PCRE does, it takes the first of
    ``:]``, ``]`` and another ``[:`` for what decides.
    """
    kind = scan.here
    if not kind or kind not in ":.=":
        return None
    name = _POSIX_NAMES[kind].match(scan.data, scan.at + 1)
    assert name is not None
    return kind + name[0] if scan.data.startswith(kind + "]", name.end()) else None


_POSIX_NAMES = {kind: re.compile(rf"(?:\\[]\\]|(?!\[{kind}|{kind}\]|\]).)*", re.DOTALL) for kind in (":", "=")} | {
    ".": re.compile(r"(?:\\[]\\]|(?!\[\.|\.\]|\]).)*", re.DOTALL)
}


class ClassParser:
    """Reads a class, whose ``[`` was taken already, as PCRE 8 does."""

    def __init__(self, scan: Scanner, *, ignore_case: bool) -> None:
        self._scan = scan
        self._start = scan.at - 1
        self._ignore_case = ignore_case
        self._quoting = False

    def parse(self) -> int:
        """Return the set."""
        scan, inverted = self._scan, False
        while (caret := not inverted and scan.take("^")) or scan.take("\\E") or scan.take("\\Q\\E"):
            inverted = inverted or caret
        members = self._item()
        while self._quoting or scan.here != "]":
            members |= self._item()
        scan.at += 1
        return scan.alphabet.all & ~members if inverted else members

    def _item(self) -> int:
        r"""Return the set of the next item; empty for ``\Q`` and ``\E``."""
        scan, start = self._scan, self._scan.at
        if scan.take("\\E"):
            self._quoting = False
            return 0
        if not self._quoting and scan.take("\\Q"):
            self._quoting = not scan.take("\\E")
            return 0
        character = self._next()
        if not self._quoting:
            if character == "[" and (name := posix_name(scan)) is not None:
                return self._posix(name, start)
            if character == "\\":
                members, code = self._escape(start)
                return members if code is None else self._range(code)
        return self._range(ord(character))

    def _next(self) -> str:
        if not self._scan.here:
            raise PatternError("the class lacks its ']'", self._start)
        return self._scan.next()

    def _posix(self, name: str, start: int) -> int:
        kind, name = name[0], name[1:]
        if kind != ":":
            raise PatternError(f"POSIX collating elements like [{kind}x{kind}] are not supported", start)
        plain = name.removeprefix("^")
        members = self._scan.alphabet.named("alpha" if self._ignore_case and plain in {"upper", "lower"} else plain)
        if members is None:
            raise PatternError(f"there is no POSIX class [:{plain}:]", start)
        self._scan.at += len(kind + name + kind + "]")
        return self._scan.alphabet.all & ~members if name.startswith("^") else members

    def _escape(self, start: int) -> tuple[int, int | None]:
        r"""Return the set of an escape, and its code where it is one character, which may begin or end a range."""
        letter = self._scan.next()
        if letter in {"b", "N"}:
            if letter == "N":
                raise PatternError("\\N has no meaning in a class", start)
            return 0, 8
        if letter and letter in "1234567":
            self._scan.at -= 1
            return 0, octal(self._scan, start)
        code = single(self._scan, letter, start)
        if code is None and letter in "pP":
            return property_set(self._scan, letter, start), None
        members = self._scan.alphabet.shorthand(letter) if code is None else None
        if members is not None:
            return members, None
        return 0, ord(letter) if code is None else code  # What means nothing is the letter, as in Perl.

    def _range(self, first: int) -> int:
        """Return the set of a character, or of the range that it begins."""
        scan = self._scan
        scan.names_newline |= first in NEWLINES
        while scan.take("\\E"):
            self._quoting = False
        start = scan.at
        if self._quoting or not scan.take("-"):
            return self._with_cases(1 << first)
        while scan.take("\\E"):
            pass
        while scan.take("\\Q"):
            if not scan.take("\\E"):
                self._quoting = True
                break
        if scan.here == "]" and not self._quoting:
            scan.at = start
            return self._with_cases(1 << first)
        last = self._last(start)
        if first > last:
            raise PatternError("the range in the class is out of order", start)
        return self._with_cases((2 << last) - (1 << first))

    def _last(self, start: int) -> int:
        """Return the character that ends a range."""
        character = self._next()
        code: int | None = ord(character)
        if not self._quoting and character == "\\":
            code = None if self._scan.here in _ELSEWHERE else self._escape(start)[1]
        elif not self._quoting and character == "[" and posix_name(self._scan) is not None:
            code = None
        if code is None:
            raise PatternError("a range goes from one character to another", start)
        return code

    def _with_cases(self, members: int) -> int:
        return self._scan.alphabet.both_cases(members) if self._ignore_case else members
