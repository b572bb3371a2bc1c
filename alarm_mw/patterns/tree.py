"""The tree of a regexp: what both syntaxes are parsed into, and what everything else is made from."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import msgspec
from msgspec import structs

#: All characters of bytes, and those of text that are ASCII, as sets of bits.
ALL_BYTES = (1 << 256) - 1
ALL_ASCII = (1 << 128) - 1
NEWLINE = 1 << 10


def bits(characters: bytes | range) -> int:
    """Return the set of these character codes."""
    members = 0
    for code in characters:
        members |= 1 << code
    return members


def codes(members: int) -> Iterator[int]:
    """Yield the character codes of a set, ascending."""
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


#: ASCII's word characters, and its letters.
WORD = bits(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
LETTERS = WORD & ~bits(b"0123456789_")
UPPER = bits(range(0x41, 0x5B))
LOWER = bits(range(0x61, 0x7B))


def both_cases(members: int) -> int:
    """Return the set with the other case of each of its ASCII letters."""
    return members | (members & UPPER) << 32 | (members & LOWER) >> 32


class Anchor(enum.Enum):
    """A place in the text that takes no character."""

    #: The start of the text.
    START = enum.auto()
    #: The start of the text and after every newline: Python's ``(?m)^``.
    LINE_START = enum.auto()
    #: The same, but not after a newline that ends the text: PCRE's ``(?m)^``.
    INNER_LINE_START = enum.auto()
    #: The end of the text and before a newline that ends it: ``$``.
    END = enum.auto()
    #: The end of the text and before every newline: ``(?m)$``.
    LINE_END = enum.auto()
    #: The very end of the text.
    VERY_END = enum.auto()
    #: Between a word character and another.
    BOUNDARY = enum.auto()
    NOT_BOUNDARY = enum.auto()


class Mood(enum.Enum):
    """How a repeat tries the counts it may have."""

    GREEDY = ""
    LAZY = "?"
    POSSESSIVE = "+"


class Source(msgspec.Struct, frozen=True):
    """A set of characters as Python's parser gave it, for what its members beyond ASCII are."""

    #: The operations of ``re``'s parse tree, each a pair of name and argument.
    items: tuple[tuple[str, object], ...]
    ignore_case: bool
    ascii_only: bool


class Chars(msgspec.Struct, frozen=True):
    """One character out of a set."""

    #: Bit n is set when character n is a member: 256 bits for bytes, 128 for text.
    members: int
    #: The members beyond ASCII, where they are few and known.
    others: tuple[str, ...] = ()
    #: Set when there are other members beyond ASCII: where they can be asked for.
    source: Source | None = None

    @property
    def wide(self) -> bool:
        """Whether some members beyond ASCII are not listed."""
        return self.source is not None


class Sequence(msgspec.Struct, frozen=True):
    """One after the other; without items, the empty text."""

    items: tuple[Node, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """One of them, the first that leads to a match; without branches, nothing at all."""

    branches: tuple[Node, ...] = ()


class Repeat(msgspec.Struct, frozen=True):
    """The item again and again: at least and at most so often (None: no limit)."""

    item: Node
    least: int
    most: int | None
    mood: Mood = Mood.GREEDY


class Group(msgspec.Struct, frozen=True):
    """A group whose text is kept under its number."""

    item: Node
    number: int


class Atomic(msgspec.Struct, frozen=True):
    """The first match of the item, never another one."""

    item: Node


class Look(msgspec.Struct, frozen=True):
    """Whether the item matches here, ahead or behind, without taking anything."""

    item: Node
    ahead: bool
    negative: bool


class BackReference(msgspec.Struct, frozen=True):
    """The text of a group once more."""

    number: int
    ignore_case: bool = False


class Call(msgspec.Struct, frozen=True):
    """The pattern of a group once more, atomic; of the whole where the number is 0. Only `regex` runs it."""

    number: int


class Define(msgspec.Struct, frozen=True):
    """Holds groups for calls of them; takes nothing itself."""

    item: Node


class Native(msgspec.Struct, frozen=True):
    """What only the `regex` package runs, in its own syntax, such as a backtracking verb."""

    pattern: str
    #: Matches wherever it does, and takes what it takes.
    item: Node


class Condition(msgspec.Struct, frozen=True):
    """The one when the group has matched, the other when not."""

    number: int
    yes: Node
    no: Node


class At(msgspec.Struct, frozen=True):
    """A place."""

    anchor: Anchor
    #: Word characters are those of Unicode, not of ASCII.
    unicode: bool = False


#: What only the `regex` package can run.
NATIVE = Call | Define | Native

Node = (
    Chars | Sequence | Choice | Repeat | Group | Atomic | Look | BackReference | Call | Define | Native | Condition | At
)

EMPTY = Sequence()
NOTHING = Choice()


class Tree(msgspec.Struct, frozen=True):
    """A whole regexp."""

    root: Node
    #: It is searched in text; else in bytes.
    text: bool


def sequence(*items: Node) -> Node:
    """Return the items one after the other, flat, and NOTHING when one of them is."""
    flat: list[Node] = []
    for item in items:
        if item == NOTHING:
            return NOTHING
        flat.extend(item.items if isinstance(item, Sequence) else (item,))
    return flat[0] if len(flat) == 1 else Sequence(tuple(flat))


def choice(*branches: Node) -> Node:
    """Return a choice of the branches, flat, without those that can never match."""
    flat: list[Node] = []
    for branch in branches:
        flat.extend(branch.branches if isinstance(branch, Choice) else (branch,))
    return flat[0] if len(flat) == 1 else Choice(tuple(flat))


def children(node: Node) -> tuple[Node, ...]:
    """Return what the node is made of."""
    if isinstance(node, Chars):
        return ()
    match node:
        case Sequence(items):
            return items
        case Choice(branches):
            return branches
        case Repeat(item=item) | Group(item=item) | Atomic(item) | Look(item=item) | Define(item):
            return (item,)
        case Condition(yes=yes, no=no):
            return (yes, no)
    return ()


def rebuilt(node: Node, parts: list[Node]) -> Node:
    """Return the node made of these parts in place of its children."""
    match node:
        case Sequence():
            return sequence(*parts)
        case Choice():
            return choice(*parts)
        case Repeat() | Group() | Atomic() | Look() | Define():
            return structs.replace(node, item=parts[0])
        case Condition():
            return structs.replace(node, yes=parts[0], no=parts[1])
    return node


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all that is below it, in the order of the pattern."""
    yield node
    for child in children(node):
        yield from walk(child)
