r"""The literals that a rule's conditions require: every line whose fields meet them contains at least one.

A line in JSON may write any character of a name or of a string as an escape, so the literals of a text are the text
itself and the beginnings of the escapes that could hide it: of ``event``, also ``\u006`` and ``\u007``. A slash, a
quote and a backslash have several forms, so no literal holds one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from alarm_mw.model.types import FieldCondition, FieldNames, FieldTest, Rule
from alarm_mw.patterns.fields.facts import LEVELS, level_of
from alarm_mw.patterns.literals import COST, EVERY_LINE, SHORTEST, Literal, Literals, required_literals, text_rarity
from alarm_mw.patterns.syntax import python

#: What stands in a line as it is, unless it is an escape.
_PLAIN = re.compile(rb"[ !#-.0-\[\]-~]+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")

#: What stands for a character beyond ASCII that is no such character itself.
_ESCAPE = Literal(rb"\u")

#: The most literals of one condition.
_MOST = 100

#: A shorter text is looked for together with what stands before it.
_SHORT = 6

#: Texts that JSON writes without quotes.
_BARE = frozenset({b"true", b"false", b"null", b"NaN"})


#: Bits of rarity that a value must lack before the name of its field, which all lines of a kind have, is looked for.
_NAME_COST = 15


class Requirement(NamedTuple):
    """What the lines and the records that meet a condition contain."""

    #: One of these is in the message, unless a record has a field of its own of this name …
    literals: Literals
    #: … or None: a record's own facts can meet the condition, whatever it contains.
    keys: tuple[str, ...] | None
    is_name: bool = False

    @property
    def rarity(self) -> float:
        """The approximate information, in bits, of a line with one of the literals."""
        least = min(text_rarity(literal.text) for literal in self.literals)
        return least - COST * math.log2(len(self.literals)) - _NAME_COST * self.is_name


def required(rule: Rule) -> Requirement:
    """Return what the conditions of a rule require; no literals if each line must be looked at."""
    found = [each for condition in rule.fields for each in _of_condition(condition, rule.names) if each.literals]
    found = [each for each in found if each.keys is not None] or found
    if not found and rule.level is not None:
        found = [Requirement(_level_literals(rule.level), None)]
    if not found and rule.logger is not None:
        found = [Requirement(literals, None) for literals in [_begins(rule.logger)] if literals]
    return max(found, key=lambda each: each.rarity, default=Requirement(EVERY_LINE, None))


def _of_condition(condition: FieldCondition, names: FieldNames) -> list[Requirement]:
    """Return what a condition requires: the name of its field, or one of its values."""
    field = condition.field
    if any(test.kind == "!" for test in condition.tests):
        return []
    same = next((group for group in (names.level, names.logger) if field in group), ())
    keys = None if same else (field,)
    values = [_of_test(test, field, names) for test in condition.tests]
    found = [Requirement(_joined(values), keys)]
    if field not in names.message:  # a line without fields is a message as a whole
        names_of_it = dict.fromkeys((field, *same))
        found.append(Requirement(_joined([_name(name) for name in names_of_it]), keys, is_name=True))
    return found


def _joined(alternatives: Sequence[Literals]) -> Literals:
    """Return the literals of alternatives; none if one of these has none, or if they are too many."""
    joined = tuple(dict.fromkeys(literal for literals in alternatives for literal in literals))
    return joined if all(alternatives) and len(joined) <= _MOST else EVERY_LINE


def _of_test(test: FieldTest, field: str, names: FieldNames) -> Literals:
    if not isinstance(test.value, str):
        return EVERY_LINE  # 100 may be written as 1e2
    if test.kind == "~":
        return _joined([_of_literal(each) for each in required_literals(python.parse(test.value))] or [EVERY_LINE])
    if test.kind != "=":
        return EVERY_LINE
    if field in names.message:
        return _of_text(test.value.encode("utf-8", "surrogateescape"))
    level = level_of(test.value) if field in names.level else None
    if level is None:
        return _begins(test.value)
    return _joined([_begins(name, ignores_case=True) for name, number in LEVELS.items() if number == level])


def _level_literals(least: int) -> Literals:
    """Return the literals of all names of levels from `least` on."""
    names = [name for name, level in LEVELS.items() if level >= least]
    shortest = [name for name in names if not any(name != other and name.startswith(other) for other in names)]
    return _joined([_begins(name, ignores_case=True) for name in shortest])


def _name(field: str) -> Literals:
    """Return the literals of a field's name, of which the last part ends at a quote in JSON, and at ``=`` in logfmt."""
    name = field.rpartition(".")[2].encode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(name) is None:
        return _of_text(name)
    return (Literal(name + b'"'), Literal(name + b"="), *_escapes(name))


def _begins(text: str, *, ignores_case: bool = False) -> Literals:
    """Return the literals of a value that begins with a text; a short one with the quote or the ``=`` before it."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) >= _SHORT or not data[:1].isalpha() or data in _BARE or _PLAIN.fullmatch(data) is None:
        return _of_text(data, ignores_case=ignores_case)
    before = [Literal(mark + data, ignores_case=ignores_case) for mark in (b'"', b"=")]
    return (*before, *_escapes(data, ignores_case=ignores_case))


def _of_literal(literal: Literal) -> Literals:
    return _of_text(literal.text, ignores_case=literal.ignores_case)


def _of_text(text: bytes, *, ignores_case: bool = False) -> Literals:
    """Return the literals of a text within a name or a string; none for one that is too short."""
    runs = [run for run in _PLAIN.findall(text) if len(run) >= SHORTEST]
    if runs:
        best = max(runs, key=text_rarity)
        literal = Literal(best, ignores_case and best.upper() != best.lower())
        return (literal, *_escapes(best, ignores_case=ignores_case))
    other = _BEYOND_ASCII.search(text)
    return (Literal(other[0]), _ESCAPE) if other is not None and len(other[0]) >= SHORTEST else EVERY_LINE


def _escapes(text: bytes, *, ignores_case: bool = False) -> Iterable[Literal]:
    """Return the beginnings of the escapes of a text's characters, one for sixteen characters."""
    written = text.lower() + text.upper() if ignores_case else text
    return (Literal(rb"\u00%x" % high) for high in sorted({byte >> 4 for byte in written}))
