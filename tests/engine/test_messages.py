"""What a firing says."""

from __future__ import annotations

import pytest

from alarm_mw.engine.messages import named


@pytest.mark.parametrize(
    ("alarm", "expected"),
    [("web-1.x~+", "web-1.x~+"), ("on call", "on%20call"), ("störung", "st%C3%B6rung"), ("\udcff\n", "%ED%B3%BF%0A")],
)
def test_any_name_can_be_a_part_of_an_id(alarm: str, expected: str) -> None:
    """What could not stand in a header is written as in a URL."""
    assert named(alarm) == expected
