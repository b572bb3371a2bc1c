"""What a firing says."""

from __future__ import annotations

import pytest

from alarm_mw.engine.messages import cut, cut_middle, named, rule_text
from alarm_mw.model.types import FieldCondition, FieldTest, RequestConditions, Rule


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [("web-1.x~+", "web-1.x~+"), ("on call", "on%20call"), ("störung", "st%C3%B6rung"), ("\udcff\n", "%ED%B3%BF%0A")],
)
def test_any_name_can_be_a_part_of_an_id(alarm: str, expected: str) -> None:
    """What could not stand in a header is written as in a URL."""
    assert named(alarm) == expected


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (190_006, b"x" * 17 + b" [cut: 190006 bytes]\n"),
        (-190_006, b"x" * 7 + b" [cut: more than 190006 bytes]\n"),
    ],
)
@pytest.mark.parametrize("length", [37, 100])
def test_the_first_part_of_a_line_says_how_long_the_line_is(length: int, whole: int, expected: bytes) -> None:
    """Not how long the part is, whether there is room for all of that or not."""
    assert cut(b"x" * length + b"\n", 38, whole) == expected


def test_lines_in_the_middle_are_cut() -> None:
    """Of a message of several lines that is too long, the first and the last lines are kept whole."""
    message = b"".join(b"line %d\n" % n for n in range(100))
    found = cut_middle(message, 100)
    assert found == b"line 0\nline 1\nline 2\n[cut: 790 bytes]\nline 94\nline 95\nline 96\nline 97\nline 98\nline 99\n"
    assert cut_middle(message, 790) == message


@pytest.mark.parametrize("message", [b"a" * 50 + b"\n" + b"b" * 50, b"a\n" + b"b" * 200, b"b" * 200 + b"\na"])
def test_long_lines_are_cut_at_their_end(message: bytes) -> None:
    """Where no whole lines fit, the beginning is kept."""
    assert cut_middle(message, 60) == cut(message, 60)


def test_a_rule_as_text_names_its_conditions() -> None:
    """What stands for a rule without a name has its regexp, its conditions on fields and those on requests."""
    conditions = (
        FieldCondition("event", (FieldTest("=", "failed"),)),
        FieldCondition("level", (FieldTest("=", "error"), FieldTest("~", "^crit"))),
        FieldCondition("amount", (FieldTest(">=", 100),)),
        FieldCondition("ok", (FieldTest("=", True),)),
        FieldCondition("user", (FieldTest("!"),)),
    )
    text = "where: event=failed level=error|~^crit amount>=100 ok=true user=!"
    assert rule_text(Rule("", (), fields=conditions)) == text
    asked = Rule("x", (), fields=conditions, request=RequestConditions(methods=("PUT",)))
    assert rule_text(asked) == f"x {text} request: methods=('PUT',)"
