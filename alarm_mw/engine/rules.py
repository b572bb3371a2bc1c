"""A compiled rule: the literals that it requires, and whether it matches a line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import structs

from alarm_mw.engine.messages import rule_text
from alarm_mw.engine.request_rules import CompiledConditions, key_of, no_header
from alarm_mw.model.errors import PatternError
from alarm_mw.model.types import Record, RequestConditions, Rule, Trigger
from alarm_mw.patterns.access_log import read_line
from alarm_mw.patterns.fields import may_state_fields
from alarm_mw.patterns.literals import Literals
from alarm_mw.patterns.record_prefilter import applies
from alarm_mw.system.forks import cached_property, held_off

if TYPE_CHECKING:
    from alarm_mw.patterns.bounded_pattern import BoundedPattern
    from alarm_mw.patterns.fields.conditions import FieldConditions


class CompiledRule:
    """A rule that was parsed. Usable from any thread.

    Without `regexp`, the regexp is parsed when it is first needed. The rule must then be one that `compile_rule`
    accepted before, and `literals` the literals that it found.
    """

    def __init__(
        self,
        rule: Rule,
        literals: Literals | None,
        keys: tuple[str, ...] | None = (),
        regexp: BoundedPattern | None = None,
    ) -> None:
        self.rule = rule
        #: Every line that the rule can match contains one of these; empty if unknown. None: the rule is not for lines.
        self.literals = literals
        #: A record with a field of such a name need not contain a literal. None: no record need contain one.
        self.keys = keys
        #: Whether the rule has conditions on the level, the logger or other fields.
        self.is_conditional = is_conditional(rule)
        #: No later rule is applied to a printed line that this one matches.
        self.ends_scan = rule.excludes and rule.request is None
        #: How many records and lines it has matched. Written by the engine's thread.
        self.matches = 0
        if regexp is not None:
            self._regexp = regexp

    def __repr__(self) -> str:
        return f"CompiledRule({self.rule!r})"

    @cached_property
    def name(self) -> str:
        """Return its name in the memory: stable across processes and changes to other rules."""
        return f"{self.text} {','.join(self.rule.alarms)}"

    def with_alarms(self, alarms: tuple[str, ...]) -> CompiledRule:
        """Return the same rule with other alarms, and with the same name in the memory."""
        other = copy.copy(self)
        other.name = self.name
        other.rule = structs.replace(self.rule, alarms=alarms)
        return other

    @cached_property
    def text(self) -> str:
        """Return the rule as text."""
        return rule_text(self.rule)

    @cached_property
    def trigger(self) -> Trigger | None:
        """Return further facts about the rule for messages; None if there are none."""
        rule = self.rule
        limit = None if rule.request is None else rule.request.slower_than
        within = rule.within if rule.count > 1 else 0.0
        trigger = Trigger(rule.name, dict(rule.labels), rule.count, within, limit, fingerprint=rule.fingerprint)
        return None if trigger == Trigger() else trigger

    @cached_property
    def search(self) -> Callable[[bytes], bool]:
        """Return the function that searches a line, with its newline, for the regexp (`BoundedPattern.search`)."""
        return self._regexp.search

    @cached_property
    def group_names(self) -> frozenset[str]:
        """Return the names of the regexp's groups."""
        return self._regexp.group_names

    def groups(self, lines: Iterable[bytes]) -> dict[str, str]:
        """Return the named groups of the first match in any of the lines."""
        return next((found for line in lines if (found := self._regexp.groups(line)) is not None), {})

    @cached_property
    def confirm(self) -> Callable[[bytes], bool | None]:
        """Return a function that decides whether the rule matches a printed line; None if that may take long.

        For a rule on requests each line is evaluated by itself, because the regexp alone does not decide.
        """
        if self.rule.request is not None:
            return lambda _line: None
        confirm = self._regexp.confirm
        if not self.is_conditional:
            return confirm
        return lambda line: self._line_meets(line) and confirm(line)

    def matches_line(self, line: bytes) -> bool:
        """Return whether the rule, which has no conditions on requests, matches a printed line (as `search`)."""
        return (not self.is_conditional or self._line_meets(line)) and self.search(line)

    def _line_meets(self, line: bytes) -> bool:
        # A line without fields has neither a level nor a logger.
        return (bool(self.rule.fields) or may_state_fields(line)) and self._conditions_on_fields.meet_line(line)

    def meets_conditions(self, record: Record) -> bool:
        """Return whether a record meets the conditions on level, logger and other fields."""
        rule = self.rule
        if not rule.fields:
            if applies(rule.level, rule.logger, record.level, record.logger):
                return True
            if not may_state_fields(record.message):
                return False
        return self._conditions_on_fields.meet(record)

    @cached_property
    def _conditions_on_fields(self) -> FieldConditions:
        with held_off():
            from alarm_mw.patterns.fields.conditions import FieldConditions  # noqa: PLC0415  # few rules have some

        return FieldConditions(self.rule)

    def fits(self, record: Record) -> bool:
        """Return whether the rule's conditions hold for the record's request; may take as long as `search`.

        The application decided most conditions already. Only a path that was too long to be searched there is left.
        """
        conditions = self._conditions
        if conditions.conditions.access_log:
            return any(map(self._fits_line, record.text.split("\n")))
        return conditions.key in record.held and self._fits_path(record.fields.get("path", ""))

    def _fits_line(self, line: str) -> bool:
        request = read_line(line)
        return request is not None and self._conditions.hold(request, no_header) and self._fits_path(request.path)

    def _fits_path(self, path: str) -> bool:
        pattern = self._conditions.path
        return pattern is None or len(path) <= pattern.limit or self._path.search(path.encode("utf-8", "surrogatepass"))

    @cached_property
    def _conditions(self) -> CompiledConditions:
        return CompiledConditions(self.rule.request or RequestConditions())

    @cached_property
    def _path(self) -> CompiledRule:
        return CompiledRule(Rule(self._conditions.conditions.path or "", ()), None)

    @cached_property
    def _regexp(self) -> BoundedPattern:
        return _read(self.rule)


def compile_rule(rule: Rule) -> CompiledRule:
    """Compile a rule; raise `PatternError` if its regexp is wrong or not supported."""
    try:
        regexp = _read(rule)
        return CompiledRule(rule, *_required(rule, regexp), regexp)
    except RecursionError:
        raise PatternError("groups are nested too deeply") from None


def _required(rule: Rule, regexp: BoundedPattern) -> tuple[Literals | None, tuple[str, ...] | None]:
    """Return the literals and the names of fields that a rule requires; raise `PatternError` for a wrong condition."""
    literals = regexp.literals()
    if not is_conditional(rule) or literals is None:
        return literals, ()
    if literals:  # finding one does not mean that the conditions hold
        return tuple(structs.replace(literal, certain=False) for literal in literals), ()
    with held_off():
        from alarm_mw.patterns.fields.literals import required  # noqa: PLC0415  # few rules need it

    found = required(rule)
    return found.literals, found.keys


def is_conditional(rule: Rule) -> bool:
    """Return whether a rule has conditions on the level, the logger or other fields."""
    return bool(rule.fields) or rule.level is not None or rule.logger is not None


def _read(rule: Rule) -> BoundedPattern:
    with held_off():
        from alarm_mw.patterns.bounded_pattern import BoundedPattern  # noqa: PLC0415  # 20 ms, and most regexps lie in the cache

    return BoundedPattern(rule)


def by_conditions(rules: Iterable[CompiledRule]) -> dict[str, list[int]]:
    """Return the indexes of the rules on requests, by the keys of their conditions."""
    places: dict[str, list[int]] = {}
    for place, compiled in enumerate(rules):
        if compiled.rule.request is not None:
            places.setdefault(key_of(compiled.rule.request), []).append(place)
    return places


def by_field(rules: Iterable[CompiledRule]) -> dict[str, list[int]]:
    """Return the indexes of the rules that a record without their literals may match, by the name of its field.

    The empty name is for those that any record may match.
    """
    places: dict[str, list[int]] = {}
    for place, compiled in enumerate(rules):
        for key in ("",) if compiled.keys is None else compiled.keys:
            places.setdefault(key, []).append(place)
    return places
