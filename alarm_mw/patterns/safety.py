"""How long a backtracking matcher may take: the worst case of a pattern, derived from its tree.

A pattern is read from its end to its start. For each part we know what may come after it: with which characters
that can begin, and how its cost grows with the length n of the text. A repeat costs n where at most one of its
counts can be the right one, because what it repeats and what comes after it begin with different characters. Else
each of n counts has to be tried with all that follows: n times the cost of that. A repeat whose item can itself be
matched in several ways has no bound but the exponential one. A search that may begin anywhere costs n times more.

This errs on the safe side: a pattern may be faster than it says.
"""

from __future__ import annotations

import msgspec
from msgspec import structs

from alarm_mw.patterns.tree import (
    NEWLINE,
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
    Native,
    Node,
    Repeat,
    Sequence,
    Tree,
    children,
)

#: About as many steps as `re` makes in a twentieth of a second.
BUDGET = 10_000_000
#: Sets of characters as bits: 256 for the characters, one for all beyond them, one for the end of the text.
_BEYOND = 1 << 256
_END = 1 << 257
_ANY = (1 << 258) - 1
#: A repeat of so many counts and more is one without limit.
_MANY = 64
#: A repeat of something longer than a character is unrolled up to so many counts.
_UNROLLED = 8
#: Larger numbers are not distinguished.
_HOPELESS = 9


#: How many parts a pattern may have, with each repeat written out as often as it occurs at least. The `regex` package
#: writes them out: so many take 30 MB and a tenth of a second, however short the pattern is.
MOST_PARTS = 100_000


def parts(node: Node) -> int:
    """Return how many parts a pattern has, with each repeat written out as often as it occurs at least."""
    size = 1 + sum(map(parts, children(node)))
    return size * max(node.least, 1) if isinstance(node, Repeat) else size


class _Rest(msgspec.Struct, frozen=True):
    """What comes from some place on."""

    #: The characters with which it can begin; none where it cannot fail.
    first: int = 0
    #: It takes at most factor · n ** power steps.
    power: int = 0
    factor: int = 1
    #: It can be matched in several ways.
    forks: bool = False


def longest(tree: Tree, budget: int = BUDGET) -> int:
    """Return the length up to which a search with the pattern stays within `budget` steps; 0 where none does."""
    rest = _before(tree.root, _Rest())
    power = max(rest.power, 1) if _is_anchored(tree.root) else rest.power + 1
    if power >= _HOPELESS:
        return 0
    return int((budget / rest.factor) ** (1 / power))


def _is_anchored(node: Node) -> bool:
    match node:
        case At(Anchor.START):
            return True
        case Sequence(items):
            return bool(items) and _is_anchored(items[0])
        case Group(item=item) | Atomic(item):
            return _is_anchored(item)
        case Choice(branches):
            return all(map(_is_anchored, branches))
    return False


def _before(node: Node, rest: _Rest) -> _Rest:  # noqa: PLR0911  # one case for each kind
    """Return what comes from the node on, where `rest` comes after it."""
    match node:
        case Chars():
            return structs.replace(rest, first=_first(node))
        case Sequence(items):
            for item in reversed(items):
                rest = _before(item, rest)
            return rest
        case Choice(branches):
            return _either([_before(branch, rest) for branch in branches])
        case Repeat():
            return _repeat(node, rest)
        case Group(item=item) | Atomic(item):
            return _before(item, rest)
        case Condition(yes=yes, no=no):
            return _either([_before(yes, rest), _before(no, rest)])
        case Look():
            return _look(node, rest)
        case BackReference() | Call() | Define() | Native():
            # `regex` runs all but the first, in any case, with its time limit.
            power = max(rest.power, 1) if isinstance(node, BackReference) else _HOPELESS
            return _Rest(_ANY, power, rest.factor, rest.forks)
    return structs.replace(rest, first=_at(node.anchor, rest))


def _first(node: Chars) -> int:
    return node.members | (_BEYOND if node.others or node.wide else 0)


def _at(anchor: Anchor, rest: _Rest) -> int:
    after = rest.first or _ANY
    match anchor:
        case Anchor.VERY_END:
            return after & _END
        case Anchor.END | Anchor.LINE_END:
            return after & (_END | NEWLINE)
    return after


def _either(ways: list[_Rest]) -> _Rest:
    """Return what begins with one of the ways."""
    together = overlap = 0
    for way in ways:
        overlap |= together & way.first
        together |= way.first
    forks = bool(overlap)
    factors = [way.factor for way in ways] or [1]
    return _Rest(
        first=together if all(way.first for way in ways) else 0,
        power=max((way.power for way in ways), default=0),
        factor=sum(factors) if forks else max(factors),
        forks=forks or any(way.forks for way in ways),
    )


def _look(node: Look, rest: _Rest) -> _Rest:
    inner = _before(node.item, _Rest())
    first = rest.first if rest.first and not inner.power else _ANY
    return _Rest(first, max(inner.power, rest.power), inner.factor + rest.factor, rest.forks)


def _repeat(node: Repeat, rest: _Rest) -> _Rest:
    endless = node.most is None or node.most > (_MANY if isinstance(node.item, Chars) else _UNROLLED)
    if isinstance(node.item, Chars):
        return _characters(node, _first(node.item), rest, endless=endless)
    return _loop(node, rest) if endless else _unrolled(node, rest)


def _characters(node: Repeat, first: int, rest: _Rest, *, endless: bool) -> _Rest:
    """Return what comes from a repeated character on."""
    forks = bool(first & rest.first) and node.least != node.most
    power, factor = rest.power, rest.factor
    if endless:
        power = power + 1 if forks else max(power, 1)
    elif forks and node.most is not None:
        factor *= node.most - node.least + 1
    start = first if node.least else first | rest.first if rest.first else 0
    return _Rest(start, power, factor, forks or rest.forks)


def _loop(node: Repeat, rest: _Rest) -> _Rest:
    """Return what comes from an endless repeat of something longer on."""
    again = _before(node.item, _Rest(first=_ANY))
    inner = _before(node.item, _Rest(first=again.first | rest.first or _ANY))
    if inner.forks or inner.power > 1 or _may_be_empty(node.item):
        return _Rest(_ANY, _HOPELESS, forks=True)
    forks = bool(inner.first & rest.first)
    power = rest.power + 1 if forks else max(rest.power, 1)
    start = inner.first if node.least else inner.first | rest.first if rest.first else 0
    return _Rest(start, power, rest.factor * inner.factor, forks or rest.forks)


def _unrolled(node: Repeat, rest: _Rest) -> _Rest:
    """Return what comes from a few counts of something longer on."""
    assert node.most is not None
    for count in range(node.most, 0, -1):
        once = _before(node.item, rest)
        rest = once if count <= node.least else _either([once, rest])
        if rest.power >= _HOPELESS:
            break
    return rest


def _may_be_empty(node: Node) -> bool:  # noqa: PLR0911  # one for each kind
    match node:
        case Chars():
            return False
        case Sequence(items):
            return all(map(_may_be_empty, items))
        case Choice(branches):
            return any(map(_may_be_empty, branches))
        case Repeat(item, least):
            return not least or _may_be_empty(item)
        case Group(item=item) | Atomic(item):
            return _may_be_empty(item)
        case Condition(yes=yes, no=no):
            return _may_be_empty(yes) or _may_be_empty(no)
    return True
