"""A rule as the screen knows it: what to look for, and what it means to find it."""

from __future__ import annotations

import enum

import msgspec


class Exactness(enum.IntEnum):
    """Where the screen's yes is the rule's yes."""

    NEVER = 0
    #: On a line of ASCII.
    ASCII = 1
    ALWAYS = 2


#: So many texts are kept of what a rule needs, at most.
MOST_NEEDS = 64


class Needs(msgspec.Struct, frozen=True, array_like=True):
    """What a rule needs, or several together: of these texts a record of ASCII holds one. None: that is not known."""

    texts: tuple[str, ...] = ()
    #: The texts are in small letters, and so is to be what is looked through.
    ignores_case: bool = False


UNKNOWN = Needs()


class Expression(msgspec.Struct, frozen=True, array_like=True):
    """A rule as the screen knows it."""

    #: For Hyperscan and RE2; empty: every line has to be judged.
    pattern: str = ""
    exact: Exactness = Exactness.NEVER
    #: Bytes that every matching line holds; empty where none are known.
    literal: bytes = b""
    needs: Needs = UNKNOWN


#: Every line has to be judged.
EVERY_LINE = Expression()

#: No line has to be looked at: the rule is told of its records in another way.
NOWHERE = Expression(exact=Exactness.ALWAYS)
