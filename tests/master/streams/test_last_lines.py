"""The last lines of a stream, which a fleet may be shown."""

from __future__ import annotations

import pytest

from alarm_mw.master.streams.last_lines import KEPT, LastLines


@pytest.mark.parametrize(
    ("chunks", "count", "expected"),
    [
        ((), 3, ()),
        ((b"a\nb\nc\n",), 2, ("b", "c")),
        ((b"a\nb\nc\n",), 0, ()),
        ((b"a\n", b"b", b"c\nunder way"), 5, ("a", "bc")),
        ((b"\x1b[31mred\n",), 1, ("\\x1b[31mred",)),
        ((b"x" * KEPT + b"\ny\n",), 5, ("y",)),
        ((b"x" * 3 * KEPT,), 5, ()),
    ],
)
def test_the_last_complete_lines_are_kept(chunks: tuple[bytes, ...], count: int, expected: tuple[str, ...]) -> None:
    """Lines that are complete and known from their beginning are given, with hidden characters made visible."""
    lines = LastLines()
    for chunk in chunks:
        lines.add(memoryview(chunk))
    assert lines.last(count) == expected
