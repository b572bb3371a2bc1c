"""What a firing says."""

from __future__ import annotations

import pytest

from alarm_mw.engine.messages import cut, named


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
