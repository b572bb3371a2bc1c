"""What the tests of regexps share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import strategies as st

Grammar = Callable[[Sequence[str], Sequence[str]], st.SearchStrategy[str]]

COUNTS = ["", "", "", "*", "+", "?", "*?", "+?", "??", "*+", "++", "{2}", "{0,2}", "{1,}", "{1,3}?", "{0}", "{,3}"]


def _grammar(atoms: Sequence[str], groups: Sequence[str]) -> st.SearchStrategy[str]:
    """Return patterns made of the atoms, and of groups written with ``%s`` for what they hold."""
    one = st.tuples(st.sampled_from(atoms), st.sampled_from(COUNTS)).map("".join)

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = st.tuples(st.sampled_from(groups), inner).map(lambda pair: pair[0].replace("%s", pair[1]))
        item = st.one_of(one, st.tuples(group, st.sampled_from(COUNTS)).map("".join))
        sequence = st.lists(item, min_size=1, max_size=4).map("".join)
        return st.one_of(sequence, st.lists(sequence, min_size=1, max_size=2).map("|".join))

    return st.recursive(st.lists(one, min_size=1, max_size=3).map("".join), extend, max_leaves=5)


@pytest.fixture(scope="session")
def grammar() -> Grammar:
    return _grammar
