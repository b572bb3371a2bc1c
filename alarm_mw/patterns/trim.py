"""Cuts off a pattern what makes no difference to whether it is found anywhere in a line."""

from __future__ import annotations

from alarm_mw.patterns.tree import EMPTY, Choice, Mood, Node, Repeat, Sequence, choice, sequence


def trimmed(node: Node) -> Node:
    """Return the pattern without what is optional at its end and at its start."""
    return _trimmed(_trimmed(node, -1), 0)


def _trimmed(node: Node, side: int) -> Node:
    match node:
        case Sequence(items):
            return _sequence(list(items), side)
        case Choice(branches) if branches:
            parts = [_trimmed(branch, side) for branch in branches]
            return EMPTY if EMPTY in parts else choice(*parts)
        case Repeat(mood=Mood.POSSESSIVE) if side == 0:
            return node  # It may take what comes after it.
        case Repeat(item, least):
            return _repeat(item, least, side)
    return node


def _sequence(items: list[Node], side: int) -> Node:
    while items:
        kept = _trimmed(items.pop(side), side)
        if kept != EMPTY:
            return sequence(*items, kept) if side else sequence(kept, *items)
    return EMPTY


def _repeat(item: Node, least: int, side: int) -> Node:
    """Return the fewest counts, the outermost of them trimmed."""
    if least == 0:
        return EMPTY
    edge = _trimmed(item, side)
    if least == 1 or edge == EMPTY:
        return edge
    rest = item if least == 2 else Repeat(item, least - 1, least - 1)  # noqa: PLR2004  # one more than the edge
    return sequence(rest, edge) if side else sequence(edge, rest)
