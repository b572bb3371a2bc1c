"""The groups of a PCRE pattern: their numbers and names, references to them, calls of them."""

from __future__ import annotations

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.tree import (
    At,
    Atomic,
    BackReference,
    Chars,
    Choice,
    Condition,
    Group,
    Look,
    Node,
    Repeat,
    Sequence,
    children,
    rebuilt,
    walk,
)

#: A pattern that calls its groups may grow to so many nodes.
_LARGEST = 20_000


class Groups:
    """Knows each group of the pattern that is being read."""

    def __init__(self) -> None:
        #: The highest number given so far.
        self.count = 0
        self._names: dict[str, list[int]] = {}
        self._closed: dict[int, list[Group]] = {}
        #: Where each number was referred to first.
        self._wanted: dict[int, int] = {}
        #: The calls in the order of the pattern: target and place.
        self._calls: list[tuple[str, int]] = []
        self._counts_at_calls: list[int] = []
        self._size = 0

    def open(self, name: str | None, at: int, *, duplicates: bool) -> int:
        """Return the number of a group that begins here."""
        self.count += 1
        if name is not None:
            self._name(name, at, duplicates=duplicates)
        return self.count

    def _name(self, name: str, at: int, *, duplicates: bool) -> None:
        if not name.isascii() or not name.isidentifier():
            raise PatternError("a group's name is made of letters, digits and '_' and begins with no digit", at)
        numbers = self._names.setdefault(name, [])
        if numbers and self.count not in numbers and not duplicates:
            raise PatternError(f"two groups have the name {name!r}", at)
        if self.count not in numbers:
            numbers.append(self.count)

    def close(self, group: Group) -> None:
        """Keep a group that was read whole."""
        self._closed.setdefault(group.number, []).append(group)

    def closed(self, target: str, at: int) -> int:
        """Return the number of the group that `target` names, which must be closed already."""
        number = self._number(target, at, self.count)
        if number not in self._closed:
            raise PatternError(
                f"there is no group {target!r} before this (references to later or open groups cannot be had)", at
            )
        self._wanted.setdefault(number, at)
        return number

    def call(self, target: str, at: int) -> Node:
        """Return a mark for a call of a group that may come later; `resolve` puts the group there."""
        self._calls.append((target, at))
        self._counts_at_calls.append(self.count)
        return BackReference(-len(self._calls))

    def _number(self, target: str, at: int, count: int) -> int:
        digits = target.lstrip("+-")
        if digits.isascii() and digits.isdigit():
            number = int(digits)
            if target.startswith("-"):
                return count + 1 - number
            return count + number if target.startswith("+") else number
        numbers = self._names.get(target, [])
        if len(numbers) > 1:
            raise PatternError(f"several groups have the name {target!r}: a reference to them cannot be had", at)
        return numbers[0] if numbers else -1

    def resolve(self, root: Node) -> Node:
        """Return the tree with groups in place of their calls, and only the groups that something refers to."""
        for number, at in self._wanted.items():
            if len(self._closed[number]) > 1:
                raise PatternError(f"several groups have the number {number}: a reference to them cannot be had", at)
        for index in range(len(self._calls)):
            self._called_group(index)
        return self._resolve(root, ())

    def _resolve(self, node: Node, inside: tuple[int, ...]) -> Node:
        self._size += 1
        match node:
            case Group(item, number):
                inner = self._resolve(item, (*inside, number))
                return Group(inner, number) if number in self._wanted else inner
            case BackReference(number) if number < 0:
                return self._called(-number - 1, inside)
        return rebuilt(node, [self._resolve(child, inside) for child in children(node)])

    def _called_group(self, index: int) -> Group:
        target, at = self._calls[index]
        number = 0 if target == "R" else self._number(target, at, self._counts_at_calls[index])
        if number == 0:
            raise PatternError("recursion cannot be had", at)
        groups = self._closed.get(number, [])
        if len(groups) != 1:
            raise PatternError(f"there is no group {target!r}, or more than one", at)
        return groups[0]

    def _called(self, index: int, inside: tuple[int, ...]) -> Node:
        group, at = self._called_group(index), self._calls[index][1]
        if group.number in inside:
            raise PatternError("recursion cannot be had", at)
        if any(isinstance(part, Condition | BackReference) and part.number > 0 for part in walk(group.item)):
            raise PatternError("a call of a group that holds a reference cannot be had", at)
        if self._size > _LARGEST:
            raise PatternError("the pattern is too large with its calls put in", at)
        return _without_groups(self._resolve(group.item, (*inside, group.number)))


def _without_groups(node: Node) -> Node:
    if isinstance(node, Group):
        return _without_groups(node.item)
    return rebuilt(node, [_without_groups(child) for child in children(node)])


def fixed_width(node: Node) -> int | None:  # noqa: PLR0911  # one for each kind
    """Return how many characters the node takes, or None where that varies or is not known."""
    match node:
        case Chars():
            return 1
        case At() | Look():
            return 0
        case Group(item=item) | Atomic(item):
            return fixed_width(item)
        case Sequence(items):
            parts = [fixed_width(item) for item in items]
            return None if None in parts else sum(part for part in parts if part is not None)
        case Repeat(item, least, most):
            width = fixed_width(item)
            return None if least != most or width is None else width * least
        case Choice():
            widths = {fixed_width(branch) for branch in children(node)} or {0}
            return widths.pop() if len(widths) == 1 else None
    return None
