"""Groups lines into templates: the Drain algorithm (He et al., "Drain: An Online Log Parsing Approach", ICWS 2017).

Lines of as many words whose first words are equal lie in one leaf of a tree; in a leaf, a line joins the template that
it resembles most, and whose words that differ become variable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from alarm_mw.cli.suggest.masks import has_words, masked

#: Share of equal words from which a line joins a template, and how many words decide on the leaf. Of the values that
#: were tried on Loghub's samples, these grouped best.
SIMILARITY = 0.7
DEPTH = 5

#: The maximum number of templates that are kept; further lines that fit none are only counted.
MOST_TEMPLATES = 20_000
MOST_EXAMPLES = 3

#: A word that so large a share of the lines has at the same place, near the beginning, belongs to their head, such as
#: the name of the host.
HEAD_SHARE = 0.9
HEAD_WORDS = 8
MOST_HEADS = 1000

#: Stands for a word that differs within a template.
VARIABLE = "\ue0ff"


class Template(msgspec.Struct, eq=False):
    """A kind of line, how often it was seen, and some of its lines."""

    words: list[str]
    count: int = 0
    first: int = 0
    examples: list[str] = msgspec.field(default_factory=list)


class Grouping:
    """Groups lines as they come. Its memory is bounded by the number of templates."""

    def __init__(self) -> None:
        self.templates: list[Template] = []
        self.lines = 0
        self.without_template = 0
        self._heads: list[Counter[str]] = [Counter() for _ in range(HEAD_WORDS)]
        self._leaves: dict[tuple[object, ...], list[Template]] = {}

    def add(self, line: str) -> Template | None:
        """Return the template that a line joins, or None if there are too many."""
        self.lines += 1
        words = masked(line).split()
        for counter, word in zip(self._heads, words, strict=False):
            if len(counter) < MOST_HEADS or word in counter:
                counter[word] += 1
        leaf = self._leaves.setdefault(_leaf(words), [])
        template = _most_similar(leaf, words)
        if template is None:
            if len(self.templates) >= MOST_TEMPLATES:
                self.without_template += 1
                return None
            template = Template(words, first=self.lines)
            leaf.append(template)
            self.templates.append(template)
        else:
            template.words = [
                ours if ours == word else VARIABLE for ours, word in zip(template.words, words, strict=True)
            ]
        template.count += 1
        if len(template.examples) < MOST_EXAMPLES:
            template.examples.append(line)
        return template

    def is_head(self, place: int, word: str) -> bool:
        """Return whether nearly all lines have this word at this place."""
        return place < HEAD_WORDS and self._heads[place][word] >= HEAD_SHARE * self.lines


def _leaf(words: Sequence[str]) -> tuple[object, ...]:
    """Return what lines of one leaf have in common: the number of words, and the first ones that are no numbers."""
    return (len(words), *(word if has_words(word) else VARIABLE for word in words[:DEPTH]))


def _most_similar(leaf: Sequence[Template], words: Sequence[str]) -> Template | None:
    best, most = None, -1.0
    for template in leaf:
        equal = sum(ours == word for ours, word in zip(template.words, words, strict=True))
        if equal > most:
            best, most = template, equal
    return best if words and most / len(words) >= SIMILARITY else None
