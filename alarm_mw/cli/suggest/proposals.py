"""Rules for kinds of line: each is tried on the lines, and proposed only if it matches its kind and nothing else."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from alarm_mw.cli.suggest.groups import HEAD_WORDS, VARIABLE, Grouping, Template
from alarm_mw.cli.suggest.masks import has_words, is_time, mask_of, masked
from alarm_mw.cli.suggest.ranking import LEAST, level_of, score
from alarm_mw.model.printable import printable

#: Rules are tried on at most this many lines of the logs, chosen at random if there are more.
SAMPLE = 200_000

#: What is not in the baseline counts as much as a word of trouble.
NOVELTY = 1.5

#: Addresses become the key of incidents if a kind of line has no more of them than this.
_MOST_KEYS = 20

_NAME_WORDS = 6

_T = TypeVar("_T")


class Proposal(msgspec.Struct, frozen=True):
    """A rule, with what it matches in the logs."""

    name: str
    regexp: str
    keys: tuple[str, ...]
    severity: str
    score: float
    count: int
    lines: int
    examples: tuple[str, ...]

    def toml(self, alarm: str) -> str:
        """Return the rule as a table of a configuration, under a comment that says what it is for."""
        share = 100 * self.count / max(self.lines, 1)
        table = [
            f"# {self.count:,} of {self.lines:,} lines ({share:.2g} %), for example:",
            *(f"#     {_shortened(example)}" for example in self.examples[:2]),
            "[[rules]]",
            f"name = {_quoted(self.name)}",
            f"pattern = {_quoted(self.regexp)}",
            f"alarms = [{_quoted(alarm)}]",
            f"labels = {{ severity = {_quoted(self.severity)} }}",
        ]
        if self.keys:
            names = ", ".join(map(_quoted, self.keys))
            table += [f"key = [{names}]  # one incident for each", 'resolve_after = "30m"']
        return "\n".join(table) + "\n"


class Study:
    """What was read: the kinds of line, and a sample of the lines with their kinds."""

    def __init__(self) -> None:
        self._grouping = Grouping()
        self._sample: list[tuple[str, Template | None]] = []
        self._baseline: list[str] | None = None
        self._chosen = random.Random(0)

    def read(self, lines: Iterable[str]) -> None:
        """Group the lines of a log."""
        for line in lines:
            template = self._grouping.add(line)
            self._keep(self._sample, (line, template), self._grouping.lines)

    def read_baseline(self, lines: Iterable[str]) -> None:
        """Read a log of times when all was well."""
        self._baseline = self._baseline or []
        for number, line in enumerate(lines, len(self._baseline) + 1):
            self._keep(self._baseline, line, number)

    def _keep(self, kept: list[_T], one: _T, number: int) -> None:
        """Keep a sample in which each of the `number` seen so far is equally likely."""
        if len(kept) < SAMPLE:
            kept.append(one)
        elif (place := self._chosen.randrange(number)) < SAMPLE:
            kept[place] = one

    def proposals(self, limit: int) -> Iterator[Proposal]:
        """Yield at most `limit` rules, the most urgent first."""
        taken: set[int] = set()
        names: set[str] = set()
        found = 0
        for points, template in self._ranked():
            if found >= limit:
                return
            if id(template) in taken:
                continue
            rule = self._rule_for(template)
            if rule is None:
                continue
            regexp, kinds, count = rule
            taken |= kinds
            found += 1
            yield Proposal(
                _unique(_name(regexp), names),
                regexp,
                self._keys(regexp),
                level_of(" ".join(template.examples)),
                points,
                count,
                self._grouping.lines,
                tuple(template.examples),
            )

    def _ranked(self) -> list[tuple[float, Template]]:
        lines = self._grouping.lines
        ranked = []
        for template in self._grouping.templates:
            points = score(template.examples[0], template.count, lines)
            if self._baseline is not None:
                points += NOVELTY
            if points >= LEAST:
                ranked.append((points, template))
        return sorted(ranked, key=lambda pair: (-pair[0], pair[1].first))

    def _rule_for(self, template: Template) -> tuple[str, set[int], int] | None:
        """Return the shortest regexp for a kind, with the kinds and the number of lines that it matches; or None.

        It may match other kinds as well if they look like trouble too, but then all their lines.
        """
        of_kind = Counter(id(kind) for _, kind in self._sample)
        for regexp in _regexps(template, self._grouping.is_head):
            search = re.compile(regexp).search
            if self._baseline is not None and any(map(search, self._baseline)):
                return None
            matched = [(line, kind) for line, kind in self._sample if search(line)]
            kinds = Counter(id(kind) for _, kind in matched)
            is_trouble = all(score(line, 1, 1) >= LEAST or kind is template for line, kind in matched)
            if kinds[id(template)] and is_trouble and all(of_kind[kind] == count for kind, count in kinds.items()):
                count = sum(kind.count for kind in {id(kind): kind for _, kind in matched if kind is not None}.values())
                return regexp, {*kinds}, count
        return None

    def _keys(self, regexp: str) -> tuple[str, ...]:
        """Return the groups of a regexp that have some different values, but not too many."""
        compiled = re.compile(regexp)
        values: dict[str, set[str]] = {name: set() for name in compiled.groupindex}
        for line, _ in self._sample:
            if found := compiled.search(line):
                for name, value in found.groupdict().items():
                    values[name].add(value)
        return tuple(name for name, seen in values.items() if 1 < len(seen) <= _MOST_KEYS)


def _regexps(template: Template, is_head: Callable[[int, str], bool]) -> Iterator[str]:
    """Yield regexps for a kind of line, from the shortest to the one for whole lines."""
    words, gaps = template.words, _gaps(template.examples[0])
    times = [at for at, word in enumerate(words[:HEAD_WORDS]) if is_time(word)]
    first = times[-1] + 1 if times else 0
    start = next((at for at in range(first, len(words)) if has_words(words[at]) and not is_head(at, words[at])), 0)
    end = next((at for at in range(len(words), start, -1) if has_words(words[at - 1]) and words[at - 1] != VARIABLE), 0)
    for between in (gaps, [r"\s+"] * len(words)):
        if end > start:
            yield _regexp(words[start:end], between[start:])
        yield _regexp(words[start:], between[start:]) + r"\s*$"
        yield r"^\s*" + _regexp(words, between) + r"\s*$"


def _gaps(line: str) -> list[str]:
    """Return what stands for the space behind each word."""
    return [" " if gap == " " else r"\s+" for gap in re.findall(r"\s+", masked(line).strip())] + [""]


def _regexp(words: list[str], gaps: list[str]) -> str:
    names: set[str] = set()
    parts = []
    for at, word in enumerate(words):
        parts.append(r"\S+" if word == VARIABLE else "".join(_piece(letter, names) for letter in word))
        parts.append(gaps[at] if at + 1 < len(words) else "")
    return "".join(parts)


def _piece(letter: str, names: set[str]) -> str:
    """Return the regexp for a letter, or for the mask that it stands for; the first one of a key is a group."""
    mask = mask_of(letter)
    if mask is None:
        return re.escape(letter) if letter in _SPECIAL else letter
    if mask.is_key and mask.name not in names:
        names.add(mask.name)
        return f"(?P<{mask.name}>{mask.regexp})"
    return mask.plainly or mask.regexp


_SPECIAL = frozenset("\\.^$*+?{}[]|()")


def _name(regexp: str) -> str:
    """Return a name for a rule, from the words that its lines have in common."""
    plain = re.sub(r"\(\?P<\w+>|\\[sSdw][+*]?|\[[^\]]*\]|\{[^}]*\}", " ", regexp)
    words = re.findall(r"[A-Za-z][A-Za-z]+", plain.replace("'", ""))[:_NAME_WORDS]
    return "-".join(words).lower() or "rule"


def _unique(name: str, names: set[str]) -> str:
    """Return the name, with a number if it is taken already."""
    unique, number = name, 1
    while unique in names:
        number += 1
        unique = f"{name}-{number}"
    names.add(unique)
    return unique


def _shortened(line: str) -> str:
    text = printable(line)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


_WIDTH = 110


def _quoted(text: str) -> str:
    """Return a string of TOML, as it is where it can be."""
    for mark in ("'", "'''"):
        if mark not in text and text.isprintable() and not text.endswith("'"):
            return f"{mark}{text}{mark}"
    return json.dumps(text, ensure_ascii=False)
