"""Regexps that run in the application's process, where nothing may hold a request up.

Their worst case is derived from their tree (`safety`): one that could take longer than `STEPS` on a text of `LEAST`
characters is refused when the configuration is read, and of a longer text no more is looked at than that allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as AnySequence

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.tree import EMPTY, Choice, Mood, Node, Repeat, Sequence, choice, sequence
from alarm_mw.system.forks import held_off


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


#: Steps of a search: half a millisecond or so.
STEPS = 100_000

#: Characters that a regexp must be able to look at in that time.
LEAST = 256

#: A group's number or name, which would mean another group in an alternation of several regexps; or flags for it all.
_REFERS = r"\\[1-9]|\(\?P|\(\?\(|\(\?[aiLmsux]+\)"


class QuickPattern:
    """A regexp of Python's with a bound. May be used from any thread."""

    __slots__ = ("limit", "pattern", "search")

    def __init__(self, pattern: str) -> None:
        """Compile; raise `PatternError` if the regexp is wrong or has no bounded search time."""
        with held_off():  # what most configurations do not need, and a start need not wait for
            from alarm_mw.patterns.safety import longest  # noqa: PLC0415
            from alarm_mw.patterns.syntax.python import understood  # noqa: PLC0415

        #: The regexp that is run.
        self.pattern = _shortened(pattern)
        compiled, tree = understood(self.pattern)
        self.search = compiled.search
        #: How many characters may be searched.
        self.limit = longest(tree, STEPS)
        if self.limit < LEAST:
            raise PatternError("its repeats could take too long, and hold up the application")

    def matches_start(self, text: str) -> bool:
        """Return whether it matches somewhere in the first `limit` characters."""
        return self.search(text[: self.limit]) is not None

    def may_match(self, text: str) -> bool:
        """Return whether it matches somewhere; of a text beyond `limit` characters, whether that may be."""
        return len(text) > self.limit or self.search(text) is not None


def _refers(pattern: str) -> bool:
    """Return whether a pattern may refer to its groups, or begin with flags: then it stands as it is, and alone."""
    return re.search(_REFERS, pattern) is not None


def _shortened(pattern: str) -> str:
    """Return what finds the same and takes less time: ``upload`` for ``.*upload.*``, as people write it."""
    with held_off():  # as above
        from alarm_mw.patterns.syntax.python import understood  # noqa: PLC0415

    _, tree = understood(pattern)
    shorter = pattern.removeprefix(".*").removesuffix(".*")
    if _refers(pattern):
        return pattern
    try:
        is_same = trimmed(understood(shorter)[1].root) == trimmed(tree.root)
    except PatternError:  # the last dot was an escaped one
        return pattern
    return shorter if is_same else pattern


def any_of(patterns: AnySequence[QuickPattern]) -> Callable[[str], object]:
    """Return a search whose answer is true where one of the patterns matches; for texts within the `limit` of each."""
    joined = [pattern.pattern for pattern in patterns if not _refers(pattern.pattern)]
    searches = [pattern.search for pattern in patterns if _refers(pattern.pattern)]
    if joined:
        searches.append(re.compile("|".join(f"(?:{pattern})" for pattern in joined)).search)
    if len(searches) == 1:
        return searches[0]
    return lambda text: any(search(text) is not None for search in searches)
