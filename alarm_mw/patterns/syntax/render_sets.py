r"""Sets of characters written for the `regex` package, with exactly the members that they have for `re`.

The two differ beyond ASCII: in what ``\w``, ``\d``, ``\s`` hold and in which letters are the same when case is
ignored. So Python's meaning is spelled out. (Characters that Unicode added after this Python's tables were made
are taken for what the tables of `regex` say.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from alarm_mw.patterns.syntax.python import set_pattern
from alarm_mw.patterns.tree import Source, codes

#: What `str.isalnum` and ``_``, `str.isspace` and `str.isdecimal` say, as the inside of a class.
WORD = r"\p{L}\p{N}_"
ASCII_WORD = "0-9A-Z_a-z"
_CATEGORIES = {
    "CATEGORY_WORD": (WORD, ASCII_WORD),
    "CATEGORY_SPACE": (r"\t-\r\x1c-\x20\x85\p{Z}", r"\t-\r\x20"),
    "CATEGORY_DIGIT": (r"\p{Nd}", "0-9"),
}
#: What never matches, as something that a quantifier can follow.
NO_CHARACTER = "(?:(?!))"
#: The last characters that ``\x`` and ``\u`` can write.
_LAST_OF_X = 0xFF
_LAST_OF_U = 0xFFFF


def escaped(code: int) -> str:
    """Return one character as a pattern, plain or by its number."""
    character = chr(code)
    if character.isascii() and character.isalnum():
        return character
    if code <= _LAST_OF_X:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _LAST_OF_U else f"\\U{code:08x}"


def listed(members: int, others: Iterable[str] = ()) -> str:
    """Return a set whose members are all known."""
    found = [*codes(members), *map(ord, others)]
    if len(found) == 1:
        return escaped(found[0])
    return f"[{_ranges(found)}]" if found else NO_CHARACTER


def _ranges(found: list[int]) -> str:
    return "".join(
        escaped(first) if first == last else f"{escaped(first)}-{escaped(last)}" for first, last in _runs(found)
    )


def _runs(found: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of ascending neighbours."""
    first = last = found[0]
    for code in found[1:]:
        if code != last + 1:
            yield first, last
            first = code
        last = code
    yield first, last


@cache
def wide(source: Source) -> str:
    """Return a set that has members beyond ASCII, as one item."""
    inverted = source.items[0][0] in {"NEGATE", "NOT_LITERAL"}
    tests = list(_tests(source))
    if not inverted:
        return f"(?:{'|'.join(tests)})"
    return f"(?:(?!{'|'.join(tests)})(?s:.))" if tests else "(?s:.)"


def _tests(source: Source) -> Iterator[str]:
    """Yield classes which together hold what the set names, before it is inverted."""
    for kind, value in source.items:
        match kind, value:
            case (("LITERAL" | "NOT_LITERAL"), int(code)):
                yield escaped(code)
            case "RANGE", (int(first), int(last)):
                yield f"[{escaped(first)}-{escaped(last)}]"
            case "CATEGORY", str(name):
                body = _CATEGORIES[name.replace("_NOT_", "_")][source.ascii_only]
                yield f"[{'^' if '_NOT_' in name else ''}{body}]"
    if source.ignore_case and (cases := _other_cases(source)):
        yield f"[{_ranges(cases)}]"


def _other_cases(source: Source) -> list[int]:
    """Return the characters that are in the set because case is ignored: Python says which."""
    named = tuple(
        ("LITERAL", value) if kind in {"LITERAL", "NOT_LITERAL"} else (kind, value)
        for kind, value in source.items
        if kind in {"LITERAL", "NOT_LITERAL", "RANGE"}
    )
    if not named:
        return []
    positive = Source(named, source.ignore_case, source.ascii_only)
    return [ord(character) for character in set_pattern(positive).findall(_cased())]


@cache
def _cased() -> str:
    """Return all characters that have another case; beyond plane 1 there are none."""
    return "".join(c for c in map(chr, range(0x20000)) if c.lower() != c or c.upper() != c)
