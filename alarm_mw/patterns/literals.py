"""The literals that a regexp requires: every line that it matches contains at least one of them.

The prefilter searches for them. A line that contains a literal need not match, but a line that matches always contains
one. A node type that is unknown here requires nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from alarm_mw.patterns.request_pattern import trimmed
from alarm_mw.patterns.tree import (
    NEWLINE,
    UPPER,
    Anchor,
    At,
    Atomic,
    Chars,
    Choice,
    Condition,
    Group,
    Look,
    Mood,
    Node,
    Repeat,
    Sequence,
    Tree,
    both_cases,
    codes,
)

#: The maximum number of alternatives in one place, and in a whole regexp.
_MOST_OF_PLACE = 16
_MOST = 64

#: The maximum size of a character set that is expanded.
_MOST_OF_SET = 4

#: The maximum number of bytes that are taken from a repetition.
_LONGEST_REPEAT = 64

#: Bits of rarity that doubling the number of alternatives must gain.
COST = 4

#: A literal of fewer bytes occurs in nearly every line.
SHORTEST = 2

#: The only characters beyond ASCII that equal ASCII letters when case is ignored.
_TWINS = {"i": ("\u0130", "\u0131"), "k": ("\u212a",), "s": ("\u017f",)}

#: Byte pairs that are frequent in logs, from the Loghub samples and access logs.
_FREQUENT = frozenset(
    b"n |er| 1|: | 2|ec|or| s|.1|d |co|ti|0 |] |on|ss| c|in|ro|un| f|om|sh|c |se| [|ot|no|t |re|il|]:|ed|us|te|at|"
    b"es| a|en|th|GE|ET|T |NF|FO|IN|HT|TT|TP|P/|1.|/1|00|20|10".split(b"|")
)
#: … and those that are half as frequent.
_LESS_FREQUENT = frozenset(
    b"s |, | t|to|de|al|ur|r |an|nt|st|ar|is|it|ou|me|ve|le|nd|ce|ne|e | i| d| p| r| u| b| e| m| o| w|li|ma|ic|ra|"
    b"la|ta|si|el|so|ca|ai|lo|ul|mo|wa|po|pe|pr|tr|id|ut|ng|g |y |- |= |.0|.2|:1|:2|:3|:5|01|02|05|12|0.|2.".split(b"|")
)


class Literal(msgspec.Struct, frozen=True, array_like=True):
    """A text to search for."""

    text: bytes
    #: ASCII letters match in either case; the text is in lowercase.
    ignores_case: bool = False
    #: It counts only at the start of a line.
    at_start: bool = False
    #: Finding it is a match.
    certain: bool = False


#: The literals that a rule requires; empty: the rule must be tried on every line.
Literals = tuple[Literal, ...]
EVERY_LINE: Literals = ()


class _Alternatives(NamedTuple):
    """Alternative texts of which every match contains one."""

    #: The higher, the fewer lines are expected to contain one.
    rarity: float
    texts: frozenset[bytes]


class _Found(NamedTuple):
    """The facts about a node."""

    #: All texts that it can match; None if there are too many or they are unknown.
    all_texts: frozenset[bytes] | None
    #: The texts with which every match begins and ends.
    begins: frozenset[bytes]
    ends: frozenset[bytes]
    #: The best alternatives that are required within it.
    required: _Alternatives


_EMPTY = frozenset({b""})
_NO_ALTERNATIVES = _Alternatives(-math.inf, frozenset())
_UNKNOWN = _Found(None, _EMPTY, _EMPTY, _NO_ALTERNATIVES)
_NO_TEXT = _Found(_EMPTY, _EMPTY, _EMPTY, _NO_ALTERNATIVES)
#: A newline ends a line, and Hyperscan takes no zero byte.
_NOT_IN_TEXTS = NEWLINE | 1
#: Sets of one character, and those of a letter in both cases, each with its text.
_SINGLE = {1 << code: bytes([code]) for code in range(1, 128) if code != ord("\n")}
_SMALL = {both_cases(members): text for members, text in _SINGLE.items() if text.islower() or not text.isalpha()}
_STARTS = frozenset({Anchor.START, Anchor.LINE_START, Anchor.INNER_LINE_START})


def required_literals(tree: Tree, *, multiline: bool = False) -> Literals:
    """Return the best literals that a regexp requires; empty if it must be tried on every line.

    `multiline`: the regexp is searched for in messages of several lines.
    """
    anchored, root = _without_start(trimmed(tree.root))
    reader = _Reader(ignores_case=False)
    found = reader.best(root)
    if reader.sees_both_cases:
        folded = _Reader(ignores_case=True)
        in_any_case = folded.best(root)
        if in_any_case.rarity > found.rarity:
            reader, found = folded, in_any_case
    if not found.texts or min(map(len, found.texts)) < SHORTEST:
        return EVERY_LINE
    certain = reader.is_exact and not multiline
    literals = [
        Literal(text, reader.ignores_case and text.upper() != text, anchored and certain, certain)
        for text in _without_longer(found.texts, anchored=anchored)
    ]
    if reader.ignores_case and tree.text:
        literals += [Literal(twin.encode()) for twin in _twins_in(found.texts)]
    return tuple(literals)


def _without_start(root: Node) -> tuple[bool, Node]:
    """Return whether a regexp matches only at the start of a line, and the regexp without that anchor."""
    match root:
        case Sequence((At(anchor), *rest)) if anchor in _STARTS:
            return True, Sequence(tuple(rest)) if len(rest) != 1 else rest[0]
    return False, root


def _without_longer(texts: frozenset[bytes], *, anchored: bool) -> list[bytes]:
    """Return the texts without those that contain another one."""
    if anchored:
        return sorted(texts)
    return sorted(text for text in texts if not any(other in text for other in texts if other is not text))


class _Reader:
    """Collects the texts of one tree, as they are or in lowercase."""

    def __init__(self, *, ignores_case: bool) -> None:
        self.ignores_case = ignores_case
        #: Whether the literals are exact.
        self.is_exact = True
        #: Whether some letter may occur in both cases.
        self.sees_both_cases = False

    def best(self, root: Node) -> _Alternatives:
        """Return the best alternatives that a whole regexp requires."""
        found = self._read(root)
        if found.all_texts is None:
            self.is_exact = False
            return found.required
        return self._whole(found)

    def _whole(self, found: _Found) -> _Alternatives:
        """Return the best alternatives of a node whose texts may be known."""
        if found.all_texts is None:
            return found.required
        alternatives = self._alternatives(found.all_texts)
        if found.required.rarity > alternatives.rarity:  # lookaround
            return found.required
        return alternatives

    def _alternatives(self, texts: frozenset[bytes]) -> _Alternatives:
        if b"" in texts or not texts:
            return _NO_ALTERNATIVES
        rarity = min(map(text_rarity, texts)) - COST * math.log2(len(texts))
        return _Alternatives(rarity - self.ignores_case, texts)

    def _read(self, node: Node) -> _Found:  # noqa: PLR0911  # one for each kind
        match node:
            case Chars():
                return self._chars(node)
            case Sequence(items):
                return self._sequence(items)
            case Choice(branches):
                return self._choice([self._read(branch) for branch in branches])
            case Repeat():
                return self._repeat(node)
            case Group(item):
                return self._read(item)
        self.is_exact = False
        match node:
            case Atomic(item):
                return self._read(item)
            case Condition(yes=yes, no=no):
                return self._choice([self._read(yes), self._read(no)])
            case Look(item, negative=False):
                return _NO_TEXT._replace(required=self._whole(self._read(item)))
            case Look() | At():
                return _NO_TEXT
        return _UNKNOWN

    def _chars(self, node: Chars) -> _Found:
        texts, is_exact, has_both_cases = _texts(node, ignores_case=self.ignores_case)
        self.is_exact &= is_exact
        self.sees_both_cases |= has_both_cases
        return _UNKNOWN if texts is None else _Found(texts, texts, texts, _NO_ALTERNATIVES)

    def _single(self, node: Chars) -> bytes | None:
        """Return the text of a set of one ASCII letter; None of other sets."""
        if node.others or node.source is not None:
            return None
        if self.ignores_case:
            return _SMALL.get(node.members)
        return _SINGLE.get(node.members)

    def _sequence(self, items: Iterable[Node]) -> _Found:
        required, begins, run = _NO_ALTERNATIVES, None, _EMPTY
        tail = b""  # of each text of the run
        for item in items:
            if isinstance(item, Chars) and (single := self._single(item)) is not None:
                tail += single
                continue
            found = self._read(item)
            run, tail = frozenset([text + tail for text in run]) if tail else run, b""
            longer = _product(run, found.begins)
            required = max(required, found.required, key=_rarity_of)
            if found.all_texts is not None and longer is not None:
                run = longer
                continue
            begins = begins or longer or run
            required = max(required, self._alternatives(longer or run), key=_rarity_of)
            run = found.ends
        run = frozenset([text + tail for text in run]) if tail else run
        if begins is None:
            return _Found(run, run, run, required)
        return _Found(None, begins, run, max(required, self._alternatives(run), key=_rarity_of))

    def _choice(self, branches: list[_Found]) -> _Found:
        required = _NO_ALTERNATIVES
        each = [self._whole(branch) for branch in branches]
        if all(alternatives.texts for alternatives in each):
            texts = frozenset().union(*(alternatives.texts for alternatives in each))
            required = self._alternatives(texts) if len(texts) <= _MOST else _NO_ALTERNATIVES
        known = [branch.all_texts for branch in branches if branch.all_texts is not None]
        if len(known) == len(branches) and len(union := frozenset().union(*known)) <= _MOST:
            return _Found(union, union, union, required)
        begins = frozenset().union(*(branch.begins for branch in branches))
        ends = frozenset().union(*(branch.ends for branch in branches))
        return _Found(
            None,
            begins if len(begins) <= _MOST_OF_PLACE else _EMPTY,
            ends if len(ends) <= _MOST_OF_PLACE else _EMPTY,
            required,
        )

    def _repeat(self, node: Repeat) -> _Found:
        if node.mood is Mood.POSSESSIVE:
            self.is_exact = False
        if node.most == 0:
            return _NO_TEXT
        found = self._read(node.item)
        texts = found.all_texts
        if node.least == 0:
            if node.most != 1 or texts is None or len(texts) >= _MOST_OF_PLACE:
                return _UNKNOWN
            texts |= _EMPTY
            return _Found(texts, texts, texts, _NO_ALTERNATIVES)
        if texts is None:
            return found
        times, power = 1, texts
        while times < node.least and (longer := _product(power, texts)) and len(max(longer, key=len)) < _LONGEST_REPEAT:
            times, power = times + 1, longer
        is_all = times == node.least == node.most
        return _Found(
            power if is_all else None, power, power, max(found.required, self._alternatives(power), key=_rarity_of)
        )


def _rarity_of(alternatives: _Alternatives) -> float:
    return alternatives.rarity


@lru_cache(4096)
def _texts(node: Chars, *, ignores_case: bool) -> tuple[frozenset[bytes] | None, bool, bool]:
    """Return the texts of a set (None if too many), whether they are complete, and whether a letter has both cases."""
    members, others = node.members, node.others
    if ignores_case:
        members = members & ~UPPER | (members & UPPER) << 32
        if members.bit_count() == 1 and set(others) <= set(_TWINS.get(chr(members.bit_length() - 1), ())):
            others = ()
    count = members.bit_count() + len(others)
    if node.wide or members & _NOT_IN_TEXTS or not 0 < count <= _MOST_OF_SET:
        return None, False, False
    encoded = [other.encode("utf-8", "surrogateescape") for other in others if not _is_alone(other)]
    texts = frozenset([*(bytes([code]) for code in codes(members)), *encoded])
    is_exact = (not ignores_case or both_cases(node.members) == node.members) and all(map(str.isprintable, others))
    return texts, is_exact, not ignores_case and _has_both_cases(members)


def _has_both_cases(members: int) -> bool:
    return bool((members & UPPER) << 32 & members)


def _is_alone(character: str) -> bool:
    """Return whether the character is a surrogate that is never in text decoded from UTF-8."""
    return "\ud800" <= character <= "\udc7f" or "\udd00" <= character <= "\udfff"


def _product(starts: frozenset[bytes], ends: frozenset[bytes]) -> frozenset[bytes] | None:
    """Return every start followed by every end; None if there are too many."""
    if ends == _EMPTY:
        return starts
    if len(starts) * len(ends) > _MOST_OF_PLACE:
        return None
    return frozenset([start + end for start in starts for end in ends])


def text_rarity(text: bytes) -> float:
    """Return the approximate information, in bits, of a line containing the text."""
    rarity = 4
    for at in range(len(text) - 1):
        pair = text[at : at + 2]
        rarity += 7 if pair in _FREQUENT else 9 if pair in _LESS_FREQUENT else 11
    return rarity


def _twins_in(texts: Iterable[bytes]) -> list[str]:
    """Return the characters beyond ASCII that may match letters of the texts when case is ignored."""
    letters = frozenset().union(*texts)
    return [twin for letter, twins in _TWINS.items() if ord(letter) in letters for twin in twins]
