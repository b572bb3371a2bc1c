"""The groups of a PCRE pattern: their numbers and names, references to them, calls of them."""

from __future__ import annotations

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.tree import (
    EMPTY,
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
    Node,
    Repeat,
    Sequence,
    children,
    rebuilt,
    walk,
)

#: The maximum number of nodes to which a tree may grow by groups that replace their calls.
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
        #: The calls in the order of the pattern: target, place, and the highest number given then.
        self._calls: list[tuple[str, int, int]] = []
        #: What `resolve` finds: the groups that they call, what these hold, and which are called when it runs.
        self._targets: list[int] = []
        self._items: dict[int, Node] = {}
        self._native: set[int] = set()
        self._sizes: dict[int, int] = {}
        self._empty: dict[int, bool] = {}

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
                f"there is no group {target!r} before this (references to later or open groups are not supported)", at
            )
        self._wanted.setdefault(number, at)
        return number

    def call(self, target: str, at: int) -> Node:
        """Return a mark for a call of a group that may come later; `resolve` puts there what it stands for."""
        self._calls.append((target, at, self.count))
        return Call(-len(self._calls))

    def _number(self, target: str, at: int, count: int) -> int:
        digits = target.lstrip("+-")
        if digits.isascii() and digits.isdigit():
            number = int(digits)
            if target.startswith("-"):
                return count + 1 - number
            return count + number if target.startswith("+") else number
        numbers = self._names.get(target, [])
        if len(numbers) > 1:
            raise PatternError(f"several groups have the name {target!r}: a reference to them is not supported", at)
        return numbers[0] if numbers else -1

    def resolve(self, root: Node) -> Node:
        """Return the tree without groups that nothing refers to, and what calls stand for in their places.

        That is the group itself, as an atomic one. One that calls itself, or holds references, is called when the
        pattern runs, and so are all where the tree would grow too large.
        """
        for number, at in self._wanted.items():
            if len(self._closed[number]) > 1:
                raise PatternError(f"several groups have the number {number}: a reference to them is not supported", at)
        self._targets = [self._target(*call) for call in self._calls]
        self._items = {0: root} | {number: groups[0].item for number, groups in self._closed.items()}
        self._refuse_endless()
        self._native = {number for number in self._targets if self._runs_natively(number)}
        if self._grown(root) > _LARGEST:
            self._native = set(self._targets)
        for number in self._native - {0}:
            if len(self._closed[number]) > 1:
                raise PatternError(f"several groups have the number {number}: such a call of one is not supported")
        return self._resolve(root)

    def _target(self, target: str, at: int, count: int) -> int:
        """Return the number of a group that is called; of several with one name, the first."""
        numbers = self._names.get(target, [])
        number = 0 if target == "R" else numbers[0] if numbers else self._number(target, at, count)
        if number and number not in self._closed:
            raise PatternError(f"there is no group {target!r}", at)
        return number

    def _called_in(self, node: Node) -> set[int]:
        return {self._targets[-part.number - 1] for part in walk(node) if isinstance(part, Call)}

    def _reaches(self, number: int) -> set[int]:
        """Return the groups that a group calls, and those that they call."""
        found: set[int] = set()
        new = self._called_in(self._items[number])
        while new:
            found |= new
            new = set().union(*(self._called_in(self._items[other]) for other in new)) - found
        return found

    def _runs_natively(self, number: int) -> bool:
        return number in self._reaches(number) or any(
            isinstance(part, Condition | BackReference) for part in walk(self._items[number])
        )

    def _grown(self, node: Node) -> int:
        """Return how many nodes the tree has with its calls put in, or some number that is too large."""
        size = 0
        for part in walk(node):
            number = self._targets[-part.number - 1] if isinstance(part, Call) else 0
            size += 1
            if isinstance(part, Call) and number not in self._native:
                size += self._size(number)
            if size > _LARGEST:
                break
        return size

    def _size(self, number: int) -> int:
        if number not in self._sizes:
            self._sizes[number] = self._grown(self._items[number])
        return self._sizes[number]

    def _resolve(self, node: Node) -> Node:
        if isinstance(node, Chars):
            return node
        match node:
            case Group(item, number):
                inner = self._resolve(item)
                return Group(inner, number) if number in self._wanted or number in self._native else inner
            case Define(item):
                inner = self._resolve(item)
                called = (part.number for part in walk(inner) if isinstance(part, Group))
                return EMPTY if self._native.isdisjoint(called) else Define(inner)
            case Call(mark):
                number = self._targets[-mark - 1]
                return Call(number) if number in self._native else _called(self._resolve(self._items[number]))
        return rebuilt(node, [self._resolve(child) for child in children(node)])

    # Endless recursion

    def _refuse_endless(self) -> None:
        """Raise `PatternError` where a group calls itself before it has taken a character."""
        first = {number: self._first_called(self._items[number])[0] for number in {0, *self._targets}}
        for mark, number in enumerate(self._targets):
            seen: set[int] = set()
            new = first[number]
            while new - seen:
                seen |= new
                new = set().union(*(first[other] for other in new))
            if number in seen:
                raise PatternError("this recursion could go on without an end", self._calls[mark][1])

    def _first_called(self, node: Node) -> tuple[set[int], bool]:  # noqa: PLR0911  # one for each kind
        """Return the groups that may be called before a character is taken, and whether the node may take none."""
        match node:
            case Chars():
                return set(), False
            case Call(mark):
                return {self._targets[-mark - 1]}, self._may_be_empty(self._targets[-mark - 1])
            case Sequence(items):
                called: set[int] = set()
                for item in items:
                    more, may_be_empty = self._first_called(item)
                    called |= more
                    if not may_be_empty:
                        return called, False
                return called, True
        parts = [self._first_called(child) for child in children(node)]
        called = set().union(*(part for part, _ in parts))
        match node:
            case Choice() | Condition():
                return called, any(may_be_empty for _, may_be_empty in parts)
            case Repeat(least=least):
                return called, not least or parts[0][1]
            case Group() | Atomic():
                return called, parts[0][1]
        return called, True

    def _may_be_empty(self, number: int) -> bool:
        if number not in self._empty:
            self._empty[number] = False
            self._empty[number] = self._first_called(self._items[number])[1]
        return self._empty[number]


def _called(item: Node) -> Node:
    """Return a group as its call runs it: atomic, as it is up to PCRE2 10.30, and without keeping its text."""
    item = _without_groups(item)
    simple = all(isinstance(part, Chars | Sequence | At | Look) for part in walk(item))
    return item if simple else Atomic(item)


def _without_groups(node: Node) -> Node:
    if isinstance(node, Group):
        return _without_groups(node.item)
    return rebuilt(node, [_without_groups(child) for child in children(node)])


def fixed_width(node: Node) -> int | None:  # noqa: PLR0911  # one for each kind
    """Return how many characters the node takes, or None where that varies or is not known."""
    match node:
        case Chars():
            return 1
        case At() | Look() | Define():
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
