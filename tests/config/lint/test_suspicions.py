"""What is valid but probably unintended is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.config.lint.suspicions import suspicions, warn_of_hidden, with_suspicions
from alarm_mw.config.literal_cache import LiteralCache
from alarm_mw.config.load import examine, from_keywords
from alarm_mw.config.report import Report
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import FieldCondition, FieldTest, RequestConditions, Rule, Syntax, Where


def hidden(*rules: Rule) -> list[str]:
    report = Report()
    warn_of_hidden(rules, report)
    return [str(warning) for warning in report.warnings]


def exclusion(pattern: str, **facts: Any) -> Rule:
    return Rule(pattern, (), excludes=True, where=Where("x", 1, 9), **facts)


def rule(pattern: str, **facts: Any) -> Rule:
    return Rule(pattern, ("a",), where=Where("x", 2, 5), **facts)


def test_warning_names_both_places() -> None:
    """The warning stands at the rule that is hidden, and names the one that hides it."""
    assert hidden(exclusion("x"), rule("x")) == [
        "x:2:5: this rule is never reached: the exclusion at x:1 always ends the scan"
    ]


FIELDS = (FieldCondition("order", (FieldTest("=", 1),)), FieldCondition("plan", (FieldTest("=", "pro"),)))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (exclusion(".*"), rule("x")),
        (exclusion(""), rule("x", multiline=True, logger="l", level=10)),
        (exclusion("x"), exclusion("x")),
        (exclusion("x", level=30), rule("x", level=40)),
        (exclusion("x", logger="a"), rule("x", logger="a.b")),
        (exclusion("x", logger="a"), rule("x", logger="a")),
        (exclusion("", fields=FIELDS[:1]), rule("x", fields=FIELDS)),
    ],
)
def test_what_is_hidden(earlier: Rule, later: Rule) -> None:
    """The same regexp, or one that matches every line, hides what comes after it."""
    assert len(hidden(earlier, later)) == 1


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (exclusion("x"), rule("xy")),
        (rule("x"), rule("x")),
        (rule("x"), exclusion("x")),
        (exclusion("x", level=30), rule("x")),
        (exclusion("x", level=30), rule("x", level=20)),
        (exclusion("x", logger="a"), rule("x")),
        (exclusion("x", logger="a"), rule("x", logger="ab")),
        (exclusion("x", multiline=True), rule("x")),
        (exclusion("", fields=FIELDS), rule("x", fields=FIELDS[:1])),
        (exclusion("x", syntax=Syntax.PCRE), rule("x")),
    ],
)
def test_what_is_not_hidden(earlier: Rule, later: Rule) -> None:
    """A rule that can still fire is not warned of."""
    assert hidden(earlier, later) == []


RULES = st.builds(
    Rule,
    pattern=st.sampled_from(["", "x", "y"]),
    alarms=st.just(("a",)),
    excludes=st.booleans(),
    level=st.none() | st.sampled_from([10, 20]),
    logger=st.none() | st.sampled_from(["a", "a.b"]),
)


def matches(one: Rule, text: str, level: int | None, logger: str) -> bool:
    """Tell whether a rule matches a record, said as simply as can be."""
    return (
        one.pattern in text
        and (one.level is None or (level is not None and level >= one.level))
        and (one.logger is None or logger == one.logger or logger.startswith(one.logger + "."))
    )


@given(
    st.lists(RULES, max_size=6),
    st.text("xyz", max_size=3),
    st.none() | st.sampled_from([5, 10, 20]),
    st.sampled_from(["", "a", "a.b", "ab"]),
)
def test_a_hidden_rule_never_fires(rules: list[Rule], text: str, level: int | None, logger: str) -> None:
    """No record whatever reaches a rule that is said to be hidden."""
    numbered = [
        Rule(r.pattern, r.alarms, excludes=r.excludes, level=r.level, logger=r.logger, where=Where("x", n))
        for n, r in enumerate(rules, 1)
    ]
    report = Report()
    warn_of_hidden(numbered, report)
    told = {warning.where.line for warning in report.warnings}
    for one in numbered:
        if matches(one, text, level, logger):
            assert one.where.line not in told
            if one.excludes:
                break


def suspected(*rules: Rule) -> list[str]:
    return [str(problem) for problem in suspicions(Settings(rules=rules), LiteralCache(None))]


def test_actions_warn_of_their_options() -> None:
    """What an action says of its options is a warning with the alarm's name."""
    settings = from_keywords(alarms={"a": "cmd:alarm-mw-no-such-program", "b": "log:"}, environ={})
    (problem,) = suspicions(settings, LiteralCache(None))
    assert problem.text.startswith("alarm 'a': the program 'alarm-mw-no-such-program' of its command is not there")


@pytest.mark.parametrize(
    ("rules", "beginning"),
    [
        ([rule("error", level=40)], "x:2:5: this rule requires a level or a logger,"),
        (
            [rule("other"), rule("error", logger="app"), rule("fatal", level=50)],
            "x:2:5: this rule (and 1 more) requires a level or a logger,",
        ),
    ],
)
def test_rules_that_printed_lines_cannot_match(rules: list[Rule], beginning: str) -> None:
    """Rules that require a level or a logger are warned of once, at the first of them."""
    (warning,) = suspected(*rules)
    assert warning.startswith(beginning)


@pytest.mark.parametrize("pattern", [r"Traceback.*\n.*Error", "one\ntwo", r"first\n\s+second"])
def test_text_after_a_newline_is_never_matched(pattern: str) -> None:
    """A regexp that requires text after a newline is warned of, since each line is searched by itself."""
    (warning,) = suspected(rule(pattern))
    assert warning == (
        f"x:2:5: the regexp {pattern!r} requires text after a newline, but each line is searched by itself: "
        "it never matches a printed line; multiline = true searches a log record whole"
    )


@pytest.mark.parametrize(
    "one",
    [
        rule(r"one\ntwo", multiline=True),
        rule(r"one\ntwo|three"),
        rule(r"a newline\n?two"),
        rule(r"a set [\n x]two"),
        rule(r"a backslash \\name"),
    ],
)
def test_newlines_without_a_warning(one: Rule) -> None:
    """A regexp that may match a single line, or a rule that sees records whole, is not warned of."""
    assert suspected(one) == []


def test_conditions_without_a_literal_are_slow() -> None:
    """Conditions on fields that have to be judged for every printed line are warned of."""
    (warning,) = suspected(rule("", fields=(FieldCondition("user", (FieldTest("!"),)),)))
    assert warning == (
        "x:2:5: the conditions of 'where' require no text that every match contains: they are applied to every line, "
        "which takes 1 µs per line or more"
    )
    assert suspected(rule("", fields=FIELDS)) == []


def test_a_regexp_that_matches_everything_is_meant_to_be_slow() -> None:
    """Nobody is told that a rule for all lines is applied to all of them."""
    assert not [text for text in suspected(rule(".*")) if "no two characters" in text]


def test_regexp_without_a_literal_is_slow() -> None:
    """A regexp that has to be applied to every printed line is warned of."""
    (warning,) = suspected(rule(r"\d+"))
    assert warning == (
        r"x:2:5: the regexp '\\d+' has no two characters that every match contains: it is applied to every line, "
        "which takes about 1 µs per line"
    )


@pytest.mark.parametrize("one", [rule("error"), rule(r"\d+", request=RequestConditions())])
def test_regexps_that_cost_nothing_more(one: Rule) -> None:
    """A regexp with a literal and one that only requests are compared with are not warned of."""
    assert suspected(one) == []


def test_an_alarm_that_nothing_fires_is_named() -> None:
    """An alarm in no rule is warned of, unless there are no rules since the application fires all of them."""
    alarms = {"a": "log:", "b": "log:"}
    cache = LiteralCache(None)
    (warning,) = suspicions(from_keywords(alarms=alarms, log_alarms=["a lost"], environ={}), cache)
    assert "no rule, route, monitor or escalation fires alarm 'b'" in warning.text
    assert suspicions(from_keywords(alarms=alarms, environ={}), cache) == ()


def test_what_is_suspicious_follows_the_other_warnings(tmp_path: Path) -> None:
    """A configuration that is examined is complete with it."""
    file = tmp_path / "alarm-mw.toml"
    file.write_text(
        "alarms = { a = 'log:', b = 'log:' }\n[[rules]]\npattern = 'xy'\nalarms = 'a'\nwhere = { level = 'eror' }"
    )
    texts = [each.text for each in with_suspicions(examine(Sources.of_files([str(file)]), {}), {}).warnings]
    assert [text.partition(":")[0] for text in texts] == [
        "rule 1",
        "no rule, route, monitor or escalation fires alarm 'b'",
    ]


HUB = 'alarms.a = "log:"\n[fleet]\nurl = "redis://h"\nhub = true\n'
RULE = '[[rules]]\npattern = "error"\nalarms = ["a"]\n'
FOLLOWED = '[[follow]]\npath = ["/var/log/messages"]\n'


@pytest.mark.parametrize(("toml", "is_named"), [(HUB, False), (HUB + RULE, True), (HUB + RULE + FOLLOWED, False)])
def test_a_server_that_is_a_hub_is_named(tmp_path: Path, toml: str, is_named: bool) -> None:
    """A hub has rules for logs that it follows; with rules alone, it is the configuration of a server."""
    file = tmp_path / "alarm-mw.toml"
    file.write_text(toml)
    settings = examine(Sources.of_files([str(file)]), {}).settings
    texts = [each.text for each in suspicions(settings, LiteralCache(None))]
    assert any(text.startswith("[fleet] hub = true beside rules") for text in texts) is is_named
