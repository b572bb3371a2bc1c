"""The fields of lines in JSON and logfmt."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.patterns.fields import may_state_fields
from alarm_mw.patterns.fields.lines import LONGEST, read_fields, texts_of


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b'{"event": "x", "n": 17}\n', {"event": "x", "n": 17}),
        (b' \t{"a":{"b":[1,true,null]}}\r\n', {"a": {"b": [1, True, None]}}),
        (b'{"n": 1e2, "m": 99.50}', {"n": "1e2", "m": "99.50"}),
        (b'{"event": "\\u0041\\/\\ud83d\\ude00"}', {"event": "A/\U0001f600"}),
        # What Python writes, and JSON does not allow.
        (b'{"n": NaN, "m": 1.5}', {"n": "NaN", "m": "1.5"}),
        (b'{"event": "\xff"}', {"event": "\udcff"}),
        (b'{"event": "\\ud800"}', {"event": "\ud800"}),
        (b'{"event": "a\tb"}', {"event": "a\tb"}),
        (b'{"n": 1' + b"0" * 5000 + b"}", {"n": "1" + "0" * 5000}),
        # Logfmt.
        (b"level=error msg=late\n", {"level": "error", "msg": "late"}),
        (b'level=error msg="disk \\"a b\\" \\u0041" n=17 ok', {"level": "error", "msg": 'disk "a b" A', "n": "17"}),
        (b'msg="a\\qb" empty= url=/pay?a=b', {"msg": "aqb", "empty": "", "url": "/pay?a=b"}),
    ],
)
def test_an_object_or_logfmt_has_fields(line: bytes, fields: object) -> None:
    """A line that is a JSON object, or logfmt from its first to its last word, has the fields that it states."""
    assert read_fields(line) == fields
    assert may_state_fields(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"payment failed: order=17",
        b"[1, 2]",
        b'{"a": 1} and more',
        b"{'a': 1}",
        b'{"a": ' * 100_000,
        b'a=1 "b"',
        b'a="1',
        b"a=1\nb=2\n",
        b'{"a": "' + b"x" * LONGEST + b'"}',
    ],
)
def test_any_other_line_has_none(line: bytes) -> None:
    """Text with some pairs in it, lists, broken or bottomless JSON and very long lines have no fields."""
    assert read_fields(line) is None


def test_nested_fields_are_found_by_dots() -> None:
    """Dots lead into objects, and may be part of a name; arrays have several values, null and objects have none."""
    fields = {"a": {"b": {"c": 1}}, "a.b": {"d": "x"}, "a.b.e": 2, "l": [1, [True, "x"], None, {}], "n": None, "o": {}}
    found = {path: texts_of(fields, path) for path in ("a.b.c", "a.b.d", "a.b.e", "l", "n", "o", "a", "a.x", "l.x", "")}
    assert found == {
        "a.b.c": ["1"],
        "a.b.d": ["x"],
        "a.b.e": ["2"],
        "l": ["1", "true", "x"],
        **{path: [] for path in ("n", "o", "a", "a.x", "l.x", "")},
    }


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()))
def test_what_python_dumps_is_read(fields: dict[str, object]) -> None:
    """Whatever `json.dumps` makes of an object is read as that object."""
    expected = {name: [json.dumps(value) if not isinstance(value, str) else value] for name, value in fields.items()}
    found = read_fields(json.dumps(fields).encode())
    assert found is not None
    assert {name: texts_of(found, name) for name in fields} == expected


@given(st.binary())
def test_no_line_breaks_the_reading(line: bytes) -> None:
    """Whatever bytes a line has, reading its fields raises nothing."""
    for prefix in (b"", b"{", b'{"', b"a="):
        read_fields(prefix + line)
