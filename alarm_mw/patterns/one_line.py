"""Keeps a pattern within one line, so that it can be looked for in many lines at once.

A line's newline belongs to it, and a match may take it: as its last character, since nothing comes after. So each
character set loses the newline, but for those places after which the rest of the pattern can be empty.
"""

from __future__ import annotations

from alarm_mw.patterns.tree import (
    EMPTY,
    NEWLINE,
    NOTHING,
    Anchor,
    At,
    Chars,
    Choice,
    Node,
    Repeat,
    Sequence,
    choice,
    rebuilt,
    sequence,
)

#: The places that the very end of a line is, its newline taken.
_AT_THE_END = frozenset({Anchor.LINE_START, Anchor.END, Anchor.LINE_END, Anchor.VERY_END, Anchor.NOT_BOUNDARY})


def within_line(node: Node) -> Node:
    """Return the pattern that takes no newline but a line's own; it was trimmed, so that it ends in no repeat."""
    match node:
        case Sequence(items):
            return _sequence(items)
        case Choice(branches):
            return choice(*map(within_line, branches))
    return node


def _sequence(items: tuple[Node, ...]) -> Node:
    """Return the sequence, in which every item after which the rest can be empty may take the newline."""
    rest: Node = EMPTY
    for index in reversed(range(len(items))):
        item, after = items[index], items[index + 1 :]
        if not after:
            rest = within_line(item)
            continue
        final = _final(item) if all(map(empty_at_end, after)) and not _needless(item, after) else NOTHING
        rest = choice(sequence(_inner(item), rest), final)
    return rest


def _needless(item: Node, after: tuple[Node, ...]) -> bool:
    """Return whether ``$`` sees the newline that an optional item could take."""
    match item, after:
        case Repeat(least=0), (At(Anchor.END | Anchor.LINE_END),):
            return True
    return False


def _inner(node: Node) -> Node:
    """Return the pattern that takes no newline."""
    match node:
        case Chars(members, others, source):
            return Chars(members & ~NEWLINE, others, source) if members != NEWLINE or others or source else NOTHING
        case Sequence(items):
            return sequence(*map(_inner, items))
        case Choice(branches):
            return choice(*map(_inner, branches))
        case Repeat(item, least, most):
            inner = _inner(item)
            return Repeat(inner, least, most) if inner != NOTHING else (EMPTY if least == 0 else NOTHING)
    return node


def _final(node: Node) -> Node:
    """Return the pattern whose last character, and no other, is a newline."""
    match node:
        case Chars(members):
            return Chars(NEWLINE) if members & NEWLINE else NOTHING
        case Sequence(items):
            return choice(
                *(
                    sequence(*map(_inner, items[:index]), _final(items[index]))
                    for index in range(len(items))
                    if all(map(empty_at_end, items[index + 1 :]))
                )
            )
        case Choice(branches):
            return choice(*map(_final, branches))
        case Repeat(item, least, most) if most != 0:
            before = _inner(Repeat(item, max(least - 1, 0), None if most is None else most - 1))
            return sequence(before, _final(item))
    return NOTHING


def empty_at_end(node: Node) -> bool:
    """Return whether the pattern may match nothing at the very end of a line."""
    match node:
        case Chars():
            return False
        case Sequence(items):
            return all(map(empty_at_end, items))
        case Choice(branches):
            return any(map(empty_at_end, branches))
        case Repeat(item, least):
            return least == 0 or empty_at_end(item)
    return isinstance(node, At) and node.anchor in _AT_THE_END


def with_line_ends(node: Node) -> Node:
    """Return the pattern in which ``$`` takes the newline: so it is never found without a character."""
    match node:
        case At(Anchor.END | Anchor.LINE_END):
            return choice(Chars(NEWLINE), At(Anchor.VERY_END))
        case Sequence(items):
            return rebuilt(node, [with_line_ends(item) for item in items])
        case Choice(branches):
            return rebuilt(node, [with_line_ends(branch) for branch in branches])
        case Repeat(item=item):
            return rebuilt(node, [with_line_ends(item)])
    return node


def across_lines(node: Node) -> Node:
    """Return the pattern for a text of several lines: without the places that are none in a stream of lines."""
    match node:
        case At(anchor):
            return EMPTY if anchor in _AT_THE_END - {Anchor.LINE_START} else node
        case Sequence(items):
            return rebuilt(node, [across_lines(item) for item in items])
        case Choice(branches):
            return rebuilt(node, [across_lines(branch) for branch in branches])
        case Repeat(item=item):
            return rebuilt(node, [across_lines(item)])
    return node
