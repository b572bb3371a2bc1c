"""Matchers of labels: Alertmanager's notation, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.matchers import Matcher, Operator, parse_matchers

LABELS = {"severity": "critical", "host": "eu-1"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('severity="critical"', True),
        ("severity=critical", True),
        ('severity="crit"', False),
        ('severity!="critical"', False),
        ('severity!="warning"', True),
        ('host=~"eu-.*"', True),
        ('host=~"eu"', False),
        ('host=~"us-.*|eu-.*"', True),
        ('host=~"(?i)EU-1"', True),
        ('host!~"eu-.*"', False),
        ('host!~"us-.*"', True),
        ('team=""', True),
        ('team!=""', False),
        ('team=~".+"', False),
        ('team!~".+"', True),
        (' { severity = "critical" , host =~ "eu-.*", } ', True),
        ('{severity="critical",host="eu-2"}', False),
        ('"severity"="critical"', True),
    ],
)
def test_a_matcher_means_what_alertmanager_means_by_it(text: str, holds: bool) -> None:
    """A regexp matches the whole value, and a missing label has an empty value."""
    assert all(matcher.matches(LABELS) for matcher in parse_matchers(text)) is holds


def test_several_texts_are_read_one_after_the_other() -> None:
    """A list of matchers, as in a configuration, is one list of all of them."""
    assert parse_matchers(['a="1", b!=2', "c=~3"]) == (
        Matcher("a", Operator.EQUAL, "1"),
        Matcher("b", Operator.NOT_EQUAL, "2"),
        Matcher("c", Operator.REGEXP, "3"),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected a matcher such as severity="),
        ("{}", "expected a matcher such as severity="),
        ("severity", "expected one of =, !=, =~ and !~ at character 9, it ends there"),
        ("severity==critical", "expected a value in double quotes at character 10, got '=critical'"),
        ("severity=two words", "expected a comma between two matchers at character 14, got 'words'"),
        ("='x'", "expected a label's name at character 1"),
        ('""=x', "expected a label's name before the operator"),
        ("{a=1", "expected a closing brace at character 5, it ends there"),
        ("{a=1} b", "expected the end at character 7, got 'b'"),
        ("a=1}", "expected a comma between two matchers at character 4"),
        ('a=~"("', "a: the regexp '(' cannot be used: "),
    ],
)
def test_an_error_says_where_and_what(text: str, error: str) -> None:
    """What is no matcher is refused with its place and what was expected there."""
    with pytest.raises(ValueError, match=r"expected|cannot be used") as raised:
        parse_matchers(text)
    assert error in str(raised.value)


@given(name=st.text(min_size=1), operator=st.sampled_from(["=", "!="]), value=st.text())
def test_a_matcher_is_read_as_it_is_written(name: str, operator: str, value: str) -> None:
    """The text of a matcher is its notation, whatever name and value hold."""
    matcher = Matcher(name, Operator(operator), value)
    assert parse_matchers(str(matcher)) == (matcher,)


@given(value=st.text(max_size=300))
def test_a_matcher_and_its_negation_differ_for_every_value(value: str) -> None:
    """``!=`` and ``!~`` hold exactly where ``=`` and ``=~`` do not."""
    labels = {"a": value}
    for positive, negative in (("a=x", "a!=x"), ('a=~".*x.*"', 'a!~".*x.*"')):
        (yes,), (no,) = parse_matchers(positive), parse_matchers(negative)
        assert yes.matches(labels) is not no.matches(labels)


@pytest.mark.parametrize("operator", ["=~", "!~"])
def test_a_regexp_that_takes_too_long_does_not_hold(operator: str) -> None:
    """A label's value cannot hold anything up, and what cannot be decided neither silences nor sends anything."""
    (matcher,) = parse_matchers(f'a{operator}"(x+x+)+y"')
    assert not matcher.matches({"a": "x" * 5000})
