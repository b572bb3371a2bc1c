"""What a regexp finds, and maybe more, without what no automaton can do."""

from __future__ import annotations

from alarm_mw.patterns.expression import Exactness
from alarm_mw.patterns.tree import (
    EMPTY,
    NOTHING,
    WORD,
    Anchor,
    At,
    Atomic,
    BackReference,
    Chars,
    Condition,
    Group,
    Look,
    Mood,
    Node,
    Repeat,
    Sequence,
    Source,
    Tree,
    both_cases,
    children,
    choice,
    rebuilt,
    sequence,
    walk,
)

#: Counts beyond these have no limit for the screen: its automaton would grow too large.
_MOST = 200
_MOST_WIDE = 32
#: So many nodes may stand for back-references.
_LARGEST = 500
_ENDS = frozenset({Anchor.END, Anchor.LINE_END, Anchor.VERY_END})
_STARTS = frozenset({Anchor.START, Anchor.LINE_START, Anchor.INNER_LINE_START})
#: Any character beyond ASCII.
_BEYOND = Source((("NEGATE", None),), ignore_case=False, ascii_only=False)
_ANYTHING = Repeat(Chars((1 << 128) - 1, (), _BEYOND), 0, None)


def widened(tree: Tree) -> tuple[Node, Exactness]:
    """Return a tree of characters, sequences, choices, repeats and places, and where it is exact."""
    widener = _Widener(tree)
    root = widener.widen(_edges(tree.root))
    return root, widener.exactness


def _edges(root: Node) -> Node:
    """Return the root with a lookbehind at its start and a lookahead at its end as plain parts.

    Whether they take characters makes no difference there to whether the pattern matches.
    """
    items: list[Node] = list(root.items) if isinstance(root, Sequence) else [root]
    match items[0] if items else None:
        case Look(item, ahead=False, negative=False):
            items[0] = item
    match items[-1] if items else None:
        case Look(item, ahead=True, negative=False):
            items[-1] = item
    return sequence(*items)


class _Widener:
    """Widens one tree and keeps account of what that costs."""

    def __init__(self, tree: Tree) -> None:
        self.exactness = Exactness.ALWAYS
        self._text = tree.text
        self._groups = {node.number: node for node in walk(tree.root) if isinstance(node, Group)}
        self._size = 0

    def _at_most(self, exactness: Exactness) -> None:
        self.exactness = min(self.exactness, exactness)

    def widen(self, node: Node) -> Node:  # noqa: PLR0911  # one for each kind
        match node:
            case Chars():
                return self._chars(node)
            case Sequence(items):
                return self._sequence([self.widen(item) for item in items])
            case Repeat():
                return self._repeat(node)
            case Group(item=item):
                return self.widen(item)
            case Atomic(item):
                self._at_most(Exactness.NEVER)
                return self.widen(item)
            case Look():
                self._at_most(Exactness.NEVER)
                return EMPTY
            case BackReference():
                return self._back_reference(node)
            case Condition(yes=yes, no=no):
                self._at_most(Exactness.NEVER)
                return choice(self._alone(yes), self._alone(no))
            case At():
                return node
        return rebuilt(node, [self._alone(branch) for branch in node.branches])

    def _alone(self, node: Node) -> Node:
        """Return what stands for a node that has no neighbours."""
        return self._place([self.widen(node)], 0)

    def _chars(self, node: Chars) -> Node:
        others = tuple(other for other in node.others if _can_be_decoded(other))
        if node.wide or not all(map(str.isprintable, others)):  # A surrogate stands for a byte of something longer too.
            self._at_most(Exactness.ASCII)
        return Chars(node.members, others, node.source) if node.members or others or node.wide else NOTHING

    def _repeat(self, node: Repeat) -> Node:
        if node.most == 0:
            return EMPTY
        if node.mood is Mood.POSSESSIVE:
            self._at_most(Exactness.NEVER)
        item = self._alone(node.item)
        limit = _MOST_WIDE if any(isinstance(part, Chars) and part.wide for part in walk(item)) else _MOST
        if not isinstance(item, Chars):
            limit = min(limit, _MOST // sum(1 for _ in walk(item)) + 1)
        if max(node.least, node.most or 0) <= limit:
            return Repeat(item, node.least, node.most)
        self._at_most(Exactness.NEVER)
        return Repeat(item, min(node.least, limit), None)

    def _back_reference(self, node: BackReference) -> Node:
        self._at_most(Exactness.NEVER)
        group = self._groups.get(node.number)
        if group is None or self._size > _LARGEST:
            return _ANYTHING
        item = self.widen(group.item)
        self._size += sum(1 for _ in walk(item))
        return self._any_case(item) if node.ignore_case else item

    def _any_case(self, node: Node) -> Node:
        if not isinstance(node, Chars):
            return rebuilt(node, [self._any_case(child) for child in children(node)])
        return Chars(both_cases(node.members), (), _BEYOND) if self._text else Chars(both_cases(node.members))

    # Places

    def _sequence(self, items: list[Node]) -> Node:
        items = list(_items(sequence(*items)))
        return sequence(*(self._place(items, index) for index in range(len(items))))

    def _place(self, items: list[Node], index: int) -> Node:
        """Return what stands for the item among the others: a place that could exclude too much is dropped."""
        item = items[index]
        if not isinstance(item, At) or self._may_stay(item, items[:index], items[index + 1 :]):
            return item
        self._at_most(Exactness.NEVER)
        return EMPTY

    def _may_stay(self, place: At, before: list[Node], after: list[Node]) -> bool:
        if place.anchor in _STARTS:
            return all(isinstance(item, At) and item.anchor not in _ENDS for item in before)
        if place.anchor in _ENDS:
            return not after
        if not place.unicode:
            return True
        self._at_most(Exactness.ASCII)
        # Bytes tell a word's edge where an ASCII word character is on one side: see the module's tests.
        return place.anchor is Anchor.BOUNDARY and (_begins_a_word(after) or _ends_a_word(before))


def _can_be_decoded(character: str) -> bool:
    """Return whether the character can be in text that was decoded from UTF-8."""
    return not "\ud800" <= character <= "\udc7f" and not "\udd00" <= character <= "\udfff"


def _items(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Sequence) else (node,)


def _begins_a_word(items: list[Node]) -> bool:
    return bool(items) and _is_word(items[0], 0)


def _ends_a_word(items: list[Node]) -> bool:
    return bool(items) and _is_word(items[-1], -1)


def _is_word(node: Node, side: int) -> bool:
    """Return whether the first (0) or last (-1) character that the node takes is one of ASCII's word characters."""
    match node:
        case Chars(members, others):
            return not (members & ~WORD or others or node.wide)
        case Sequence(items):
            return bool(items) and _is_word(items[side], side)
        case Repeat(item, least):
            return least > 0 and _is_word(item, side)
    branches = children(node)
    return bool(branches) and all(_is_word(branch, side) for branch in branches)
