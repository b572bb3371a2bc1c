"""What a rule needs: texts of which each record of ASCII holds one in which the rule may match."""

from __future__ import annotations

from alarm_mw.patterns.expression import MOST_NEEDS, UNKNOWN, Needs
from alarm_mw.patterns.tree import ALL_ASCII, At, Chars, Choice, Node, Repeat, Sequence, codes

#: Texts of so many characters stand in few records.
ENOUGH = 4


def needs_of(root: Node) -> Needs:
    """Return what every match of a widened tree holds: as it stands there, or, where that is short, in any case."""
    found = _Reader(ignores_case=False).alternatives(root)
    ignores_case = False
    if _worth(found) < ENOUGH:
        small = _Reader(ignores_case=True).alternatives(root)
        if ignores_case := _worth(small) > _worth(found):
            found = small
    # A text has no newline at its end, which the line has that the rule sees.
    texts = [text.rstrip("\n") for text in found]
    return Needs(tuple(sorted(texts)), ignores_case) if all(texts) and len(texts) <= MOST_NEEDS else UNKNOWN


def _worth(texts: frozenset[str]) -> int:
    """Return how seldom records hold one of these texts: the longer they are, the more."""
    return min(map(len, texts), default=0)


class _Reader:
    """Reads trees for the characters of ASCII in them, with their case or in small letters."""

    def __init__(self, *, ignores_case: bool) -> None:
        self._ignores_case = ignores_case

    def alternatives(self, node: Node) -> frozenset[str]:
        """Return texts of which every match holds one; none where that is not known."""
        match node:
            case Choice(branches):
                found = [self.alternatives(branch) for branch in branches]
                return frozenset().union(*found) if all(found) else frozenset()
            case Repeat(item, least):
                return self.alternatives(item) if least else frozenset()
            case Sequence(items):
                return max(self._parts(items), key=lambda texts: (_worth(texts), -len(texts)))
        known = self._known(node)
        return frozenset([known]) if known else frozenset()

    def _parts(self, items: tuple[Node, ...]) -> list[frozenset[str]]:
        """Return what stands one after the other in a sequence, and each known text as long as it can be."""
        parts, run = [], ""
        for item in items:
            known = self._known(item)
            if known is None:
                parts += [frozenset([run]), self.alternatives(item)]
                run = ""
            else:
                run += known
        return [*parts, frozenset([run])]

    def _known(self, node: Node) -> str | None:
        """Return the text that a node stands for in ASCII, where there is no other."""
        match node:
            case Chars(members):
                characters = {chr(code) for code in codes(members & ALL_ASCII)}
                if self._ignores_case:
                    characters = {character.lower() for character in characters}
                return characters.pop() if len(characters) == 1 else None
            case Repeat(item, least, most) if least == most and (known := self._known(item)) is not None:
                return known * least
            case At():
                return ""
        return None
