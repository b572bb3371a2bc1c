"""Prefilters for the lines of single files: where rules have conditions on ``path``, which lines do not state."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.types import Record, Rule
from alarm_mw.patterns.prefilter import Prefilter

#: The field of a record that is the path of its file.
PATH = "path"

#: A regexp that is found nowhere.
_NEVER = Rule(r"(?!)", ())


class _OfPath(Prefilter):
    """The rules of another prefilter, under the same numbers."""

    def __init__(self, rules: Sequence[CompiledRule], original: Prefilter) -> None:
        super().__init__(rules, beginnings=original.beginnings)
        self._original = original

    @property
    def rule_set(self) -> object:
        """The owner of the rule numbers."""
        return self._original.rule_set


class PathPrefilters:
    """Makes a prefilter for each combination of rules whose conditions on the path hold; most often that is the one."""

    def __init__(self, prefilter: Prefilter) -> None:
        self.prefilter = prefilter
        rules = [each for each in prefilter.rules if isinstance(each, CompiledRule)]
        self._rules = rules
        self._on_path = {
            number: compile_rule(_with_fields(each.rule, is_on_path=True))
            for number, each in enumerate(rules)
            if any(condition.field == PATH for condition in each.rule.fields)
        }
        self._by_path: dict[str, Prefilter] = {}
        self._made: dict[tuple[bool, ...], Prefilter] = {}

    def of(self, path: str) -> Prefilter:
        """Return the prefilter for the lines of a file."""
        if not self._on_path:
            return self.prefilter
        found = self._by_path.get(path)
        if found is None:
            record = Record(b"", "file", 0.0, "", fields={PATH: path})
            holds = tuple(each.meets_conditions(record) for each in self._on_path.values())
            if holds not in self._made:
                self._made[holds] = self._make(dict(zip(self._on_path, holds, strict=True)))
            found = self._by_path[path] = self._made[holds]
        return found

    def _make(self, holds: dict[int, bool]) -> Prefilter:
        rules = list(self._rules)
        for number, is_met in holds.items():
            rule = self._rules[number].rule
            rules[number] = compile_rule(_with_fields(rule, is_on_path=False) if is_met else _NEVER)
        return _OfPath(rules, self.prefilter)


def _with_fields(rule: Rule, *, is_on_path: bool) -> Rule:
    """Return a rule with its conditions on the path alone, or with all others."""
    fields = tuple(condition for condition in rule.fields if (condition.field == PATH) == is_on_path)
    if not is_on_path:
        return structs.replace(rule, fields=fields)
    return Rule("", (), fields=fields, names=rule.names)
