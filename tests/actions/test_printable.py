"""Foreign bytes made safe to show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.actions.printable import printable


@given(st.binary(max_size=200))
def test_nothing_hidden_is_left(data: bytes) -> None:
    """Whatever the bytes, the text can be printed on one line of any terminal."""
    shown = printable(data)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not [char for char in shown if (char < " " and char != "\t") or "\x7f" <= char <= "\x9f"]
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(whitelist_categories=("L", "N", "P", "S"))))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Letters, numbers and symbols of any language are shown as they are."""
    assert printable(text.encode()) == text


def test_a_limit_is_in_bytes_and_shows() -> None:
    """What was cut off is marked; a character cut in the middle is shown in bytes."""
    assert printable(b"abcdef", 3) == "abc…"
    assert printable("aé".encode(), 2) == "a\\xc3…"
    assert printable(b"abc", 3) == "abc"
