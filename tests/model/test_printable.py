"""What others wrote made safe to show."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from alarm_mw.model.printable import printable


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@example("/\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
@example("\x1b[2J\x9b2J\x07\x7f")
@example("\u202egnp.exe")
@example("\udcff\ud800")
def test_nothing_hidden_is_left(anything: bytes | str) -> None:
    """Whatever a client sends, it can be printed on one line of any terminal, and stays as it is then."""
    shown = printable(anything)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not [char for char in shown if (char < " " and char != "\t") or "\x7f" <= char <= "\x9f"]
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Letters, numbers, marks, symbols and spaces of any language are shown as they are."""
    assert printable(text.encode()) == printable(text) == text


def test_what_is_hidden_shows_as_an_escape() -> None:
    """Controls and stray bytes are shown by their numbers, and not swallowed."""
    assert printable("a\nb\x1bc\td") == "a\\x0ab\\x1bc\td"
    assert printable(b"\xff") == printable("\udcff") == "\\xff"
    assert printable("\ud800\u2028") == "\\ud800\\u2028"


def test_a_limit_is_in_bytes_and_shows() -> None:
    """What was cut off is marked; a character cut in the middle is shown in bytes."""
    assert printable(b"abcdef", 3) == "abc…"
    assert printable("aé".encode(), 2) == "a\\xc3…"
    assert printable(b"abc", 3) == "abc"
