"""Conditions on fields in TOML: what they mean, and what is said of mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.model.types import FieldCondition, FieldNames, FieldTest

Examine = Callable[..., Examined]

ALARM = "[alarms]\na = 'note:text=x'\n"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('event = "failed"', {"event": ["=", "failed"]}),
        ('level = ["error", "critical"]', {"level": ["=", "error", "=", "critical"]}),
        ('amount = ">=100", n = "< 1.5"', {"amount": [">=", 100], "n": ["<", 1.5]}),
        ('level = ">=warning"', {"level": [">=", 30]}),
        ('path = "~^/pay"', {"path": ["~", "^/pay"]}),
        ('coupon = "!", event = "!=x"', {"coupon": ["!", ""], "event": ["!=", "x"]}),
        ('"user.plan" = "pro", user.id = 17', {"user.plan": ["=", "pro"], "user.id": ["=", 17]}),
        ("user = { ok = true, ratio = 0.5 }", {"user.ok": ["=", True], "user.ratio": ["=", 0.5]}),
        ('n = ["~^a", "!", 3]', {"n": ["~", "^a", "!", "", "=", 3]}),
        ('empty = ""', {"empty": ["=", ""]}),
    ],
)
def test_each_key_is_a_condition(examined: Examine, table: str, expected: dict[str, list[object]]) -> None:
    """Each key of the table `where` is a field, and its value what the field must be; no regexp is needed."""
    found = examined(toml=f"{ALARM}[[rules]]\nalarms = 'a'\nwhere = {{ {table} }}\n")
    assert not found.problems
    (rule,) = found.settings.rules
    tests = {field.field: [part for test in field.tests for part in (test.kind, test.value)] for field in rule.fields}
    assert tests == expected
    assert rule.pattern == ""
    # As the master gets it.
    assert from_json({**to_json(found.settings), "alarms": []}).rules == found.settings.rules


def test_a_regexp_or_an_exclusion_may_stand_beside_it(examined: Examine) -> None:
    """A rule may require both, and lines with certain fields may be excluded."""
    toml = "[[rules]]\nexclude = ''\nwhere.drill = true\n[[rules]]\npattern = 'x'\nalarms = 'a'\nwhere.n = 1\n"
    first, second = examined(toml=ALARM + toml).settings.rules
    assert first.excludes
    assert first.fields == (FieldCondition("drill", (FieldTest("=", True),)),)
    assert (second.pattern, second.fields) == ("x", (FieldCondition("n", (FieldTest("=", 1),)),))


def test_a_variable_may_be_a_value(examined: Examine) -> None:
    """A value may come from the environment."""
    found = examined(toml=f"{ALARM}[[rules]]\nalarms = 'a'\nwhere.n = '>${{LIMIT}}'\n", environ={"LIMIT": "5"})
    assert found.settings.rules[0].fields == (FieldCondition("n", (FieldTest(">", 5),)),)


def test_the_names_of_well_known_fields_are_configurable(examined: Examine) -> None:
    """The table `records.names` says where lines in JSON and logfmt have their level and so on."""
    found = examined(toml=f"{ALARM}[records.names]\nlevel = ['l']\n[[rules]]\nalarms = 'a'\nwhere.l = '>=error'\n")
    assert not found.problems
    (rule,) = found.settings.rules
    assert rule.names == found.settings.records.names == FieldNames(level=("l",))
    assert rule.fields == (FieldCondition("l", (FieldTest(">=", 40),)),)


BAD = """\
[records.names]
levle = ["l"]
[[rules]]
alarms = "a"
where = {}
[[rules]]
alarms = "a"
[rules.where]
a = ">=x"
b = "~("
c = "=~x"
d = "=x"
e = "=>5"
f = "!x"
g = []
h = 2026-11-30
i = ["x", ["y"]]
j = {}
k = "~(a+)+$"
level = ">=odd"
l = "${UNKNOWN}"
[[rules]]
alarms = "a"
where = "x"
"""

BAD_PROBLEMS = """\
a.toml:4: records: names: unknown key 'levle' (did you mean 'level'?)
a.toml:7: rule 1: where: no condition: it would match every record
a.toml:11: rule 2: where: a: expected a number after '>=', got 'x'
a.toml:12: rule 2: where: b: the regexp '(' cannot be used at its character 1: missing ), unterminated subpattern
a.toml:13: rule 2: where: c: '=~x': there is no operator '=~'; did you mean '~x'?
a.toml:14: rule 2: where: d: '=x': there is no operator '='; did you mean 'x'?
a.toml:15: rule 2: where: e: '=>5': there is no operator '=>'; did you mean '>=5'?
a.toml:16: rule 2: where: f: '!x': expected '!' alone for a field that is absent, or '!=' before a value
a.toml:17: rule 2: where: g: an empty array, expected the values that the field may have
a.toml:18: rule 2: where: h: expected a string, a number, a boolean or an array of these, got date
a.toml:19: rule 2: where: i: expected a string, a number, a boolean or an array of these, got an array
a.toml:20: rule 2: where: j: no condition
a.toml:21: rule 2: where: k: the regexp '(a+)+$' cannot be used: its repeats could take too long, …
a.toml:22: rule 2: where: level: expected a number or one of LEVELS after '>=', got 'odd'
a.toml:23: rule 2: where: l: the environment variable UNKNOWN is not set
a.toml:26: rule 3: where: expected a table, got a string"""


def test_all_mistakes_are_told(examined: Examine) -> None:
    """Every mistake is reported at once, with its line, what is wrong, and what was expected."""
    texts = [str(problem) for problem in examined(toml=ALARM + BAD).problems]
    found = [
        re.sub("one of .* after", "one of LEVELS after", text.replace("and hold up the application", "…"))
        for text in texts
    ]
    assert found == BAD_PROBLEMS.splitlines()


@pytest.mark.parametrize(
    ("level", "hint"),
    [
        ("'eror'", "unknown level 'eror' (did you mean 'error'?)"),
        ("['info', '!=Eror']", "unknown level 'Eror' (did you mean 'error'?)"),
        ("'ERROR'", ""),
        ("'30'", ""),
        ("40", ""),
        ("'audit'", ""),
        ("'~eror'", ""),
    ],
)
def test_a_misspelled_level_is_doubted(examined: Examine, level: str, hint: str) -> None:
    """A level that resembles a known one is warned of; applications may have others."""
    found = examined(toml=f"{ALARM}[[rules]]\nalarms = 'a'\nwhere = {{ level = {level} }}\n")
    assert not found.problems
    assert [each.text for each in found.warnings] == ([f"rule 1: where: level: {hint}"] if hint else [])
