"""A `Tree` written as a pattern that `re` and `regex` read alike: every set spelled out, no flags.

A pattern on bytes suits both packages; one on text is for `regex`, with Python's meaning spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from alarm_mw.patterns.syntax.python import set_pattern
from alarm_mw.patterns.tree import (
    Anchor,
    At,
    Atomic,
    BackReference,
    Call,
    Chars,
    Choice,
    Condition,
    Define,
    Group,
    Look,
    Mood,
    Native,
    Node,
    Repeat,
    Sequence,
    Source,
    Tree,
    codes,
    walk,
)

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


_PLACES = {
    Anchor.START: r"\A",
    Anchor.LINE_START: "(?m:^)",
    Anchor.INNER_LINE_START: r"(?:\A|(?m:^)(?!\Z))",
    Anchor.END: r"(?=\n?\Z)",
    Anchor.LINE_END: "(?m:$)",
    Anchor.VERY_END: r"\Z",
}
#: Until Python 3.14, ``\B`` does not match in the empty text; PCRE's does.
_NOT_BOUNDARY_IN_EMPTY = re.search(r"\B", "") is not None


def render(tree: Tree) -> str:
    """Return the pattern; it is ASCII where the tree is one on bytes."""
    return _Renderer(tree).render(tree.root)


class _Renderer:
    """Writes one tree; knows the new numbers of its groups."""

    def __init__(self, tree: Tree) -> None:
        self._text = tree.text
        #: Those of the groups that are open or closed, and those of all: a call may come before its group.
        self._numbers: dict[int, int] = {}
        self._all: dict[int, int] = {}
        for place, group in enumerate(part for part in walk(tree.root) if isinstance(part, Group)):
            self._all.setdefault(group.number, place + 1)
        self._opened = 0

    def render(self, node: Node) -> str:  # noqa: PLR0911  # one for each kind
        match node:
            case Chars(members, others, source):
                return listed(members, others) if source is None else wide(source)
            case Sequence(items):
                return "".join(self._unit(item) if isinstance(item, Choice) else self.render(item) for item in items)
            case Choice(branches):
                return "|".join(map(self.render, branches)) if branches else NO_CHARACTER
            case Repeat(item, least, most, mood):
                return self._repeat(item, f"{{{least},{'' if most is None else most}}}", mood)
            case Group(item, number):
                return self._group(item, number)
            case Atomic(item):
                return f"(?>{self.render(item)})"
            case Look():
                return self._look(node)
            case Call() | Define() | Native():
                return self._native(node)
            case At(anchor, unicode):
                return self._at(anchor, unicode=unicode)
        return self._reference(node)

    def _unit(self, node: Node) -> str:
        """Return the node as something that a quantifier can follow."""
        rendered = self.render(node)
        if isinstance(node, Chars | Group | Atomic):
            return rendered
        return f"(?:{rendered})"

    def _repeat(self, item: Node, counts: str, mood: Mood) -> str:
        if mood is Mood.POSSESSIVE:
            # The same, and `re` has it right: its possessive repeat does not go back among the counts.
            return f"(?>{self._unit(item)}{counts})"
        return f"{self._unit(item)}{counts}{mood.value}"

    def _group(self, item: Node, number: int) -> str:
        self._opened += 1
        self._numbers[number] = self._opened
        return f"({self.render(item)})"

    def _look(self, node: Look) -> str:
        sign = "!" if node.negative else "="
        if node.ahead:
            return f"(?{sign}{self.render(node.item)})"
        # `re` wants one width; PCRE wants one for each branch.
        branches = node.item.branches if isinstance(node.item, Choice) else (node.item,)
        looks = [f"(?<{sign}{self.render(branch)})" for branch in branches]
        if node.negative:
            return "".join(looks)
        return f"(?:{'|'.join(looks)})" if looks else NO_CHARACTER

    def _native(self, node: Call | Define | Native) -> str:
        """Return what only `regex` reads."""
        match node:
            case Call(number):
                return f"(?>(?{self._all[number]}))" if number else "(?>(?R))"
            case Define(item):
                return f"(?(DEFINE){self.render(item)})"
        return node.pattern

    def _reference(self, node: BackReference | Condition) -> str:
        number = self._numbers.get(node.number)
        if isinstance(node, BackReference):
            flag = "i" if node.ignore_case else ""
            return NO_CHARACTER if number is None else f"(?{flag}:\\{number})"
        return self._unit(node.no) if number is None else f"(?({number}){self._unit(node.yes)}|{self._unit(node.no)})"

    def _at(self, anchor: Anchor, *, unicode: bool) -> str:
        word = f"[{WORD if unicode else ASCII_WORD}]"
        match anchor:
            case Anchor.BOUNDARY if not self._text:
                return r"\b"
            case Anchor.BOUNDARY:
                return f"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"
            case Anchor.NOT_BOUNDARY:
                pattern = f"(?:(?<={word})(?={word})|(?<!{word})(?!{word}))"
                return pattern if _NOT_BOUNDARY_IN_EMPTY or not self._text else rf"(?:(?!\A\Z){pattern})"
        return _PLACES[anchor]
