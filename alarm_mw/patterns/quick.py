"""Regexps that run in the application's process, where nothing may hold a request up.

Their worst case is told from their tree (`safety`): one that could take longer than `STEPS` on a text of `LEAST`
characters is refused when the configuration is read, and of a longer text no more is looked at than that allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from alarm_mw.model.errors import PatternError
from alarm_mw.system.forks import held_off

#: Steps of a search: half a millisecond or so.
STEPS = 100_000

#: Characters that a regexp must be able to look at in that time.
LEAST = 256

#: A group's number or name, which would mean another group in an alternation of several regexps; or flags for it all.
_REFERS = re.compile(r"\\[1-9]|\(\?P|\(\?\(|\(\?[aiLmsux]+\)")


class QuickPattern:
    """A regexp of Python's with a bound. May be used from any thread."""

    __slots__ = ("limit", "pattern", "search")

    def __init__(self, pattern: str) -> None:
        """Compile; raise `PatternError` where the regexp is wrong, or cannot be had in bounded time."""
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
    return _REFERS.search(pattern) is not None


def _shortened(pattern: str) -> str:
    """Return what finds the same and takes less time: ``upload`` for ``.*upload.*``, as people write it."""
    with held_off():  # as above
        from alarm_mw.patterns.syntax.python import understood  # noqa: PLC0415
        from alarm_mw.patterns.trim import trimmed  # noqa: PLC0415

    _, tree = understood(pattern)
    shorter = pattern.removeprefix(".*").removesuffix(".*")
    if _refers(pattern):
        return pattern
    try:
        is_same = trimmed(understood(shorter)[1].root) == trimmed(tree.root)
    except PatternError:  # the last dot was an escaped one
        return pattern
    return shorter if is_same else pattern


def any_of(patterns: Sequence[QuickPattern]) -> Callable[[str], object]:
    """Return a search whose answer is true where one of the patterns matches; for texts within the `limit` of each."""
    joined = [pattern.pattern for pattern in patterns if not _refers(pattern.pattern)]
    searches = [pattern.search for pattern in patterns if _refers(pattern.pattern)]
    if joined:
        searches.append(re.compile("|".join(f"(?:{pattern})" for pattern in joined)).search)
    if len(searches) == 1:
        return searches[0]
    return lambda text: any(search(text) is not None for search in searches)
