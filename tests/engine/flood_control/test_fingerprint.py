"""Fingerprints: what is equal although it differs in times, numbers and ids, and what is not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.flood_control.fingerprint import MASKS, PARTS, fingerprint, fingerprint_of, masked
from alarm_mw.model.types import Firing, Record, Trigger


def record(text: str, **facts: object) -> Record:
    return Record(**{"message": text.encode(), "source": "stdout", "time": 0.0, "key": "k", **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: mask.name)
def test_the_examples_of_the_documentation_are_masked(mask: object) -> None:
    """What the table of masks shows is masked as it says, in a sentence."""
    for example in mask.examples:  # type: ignore[attr-defined]
        assert f"<{mask.name}>" in masked(f"it is {example} today")  # type: ignore[attr-defined]
        assert re.fullmatch(r"it is [a-z]*<[a-z]+>[a-z]* today", masked(f"it is {example} today"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24 03:12:07,123 order 42 of kim@example.org", "<time> order <number> of <address>"),
        ("Nov  4 03:12:07 web-3 shop[812]: 1.5 s", "<time> web-<number> shop[<number>]: <number> s"),
        ("2026-11-24 is over", "<time> is over"),
        ("from 192.0.2.7:8080, [::1]:80 and fe80::1", "from <address>, [<address>]:<number> and <address>"),
        ("<Order object at 0x7f3a2c1b>", "<Order object at <id>>"),
        ("can't open the user's file", "can't open the user's file"),
        ("no user 'kim' in \"shop 2\"", "no user <quoted> in <quoted>"),
        ("db2 over http2, sha256, v1", "db2 over http2, sha256, v1"),
        ("order1234 and user42", "order<number> and user42"),
        ("deadbeef facade", "deadbeef facade"),
        ('level=error msg="disk 3 full" user="kim"', 'level=error msg="disk <number> full" user=<quoted>'),
        ("std::vector", "std::vector"),
        ("", ""),
    ],
)
def test_only_what_differs_between_equal_events_is_masked(text: str, expected: str) -> None:
    """Words stay, also those with a short number in their name."""
    assert masked(text) == expected


def test_quotes_are_not_masked_where_nothing_else_is_said() -> None:
    """Two lines of an access log, which are quoted but for numbers, differ in their paths."""
    lines = [f'192.0.2.7 - - [24/Nov/2026:03:12:07 +0100] "GET /{path} HTTP/1.1" 500 12' for path in ("pay", "cart")]
    assert len({fingerprint(record(line)) for line in lines}) == 2
    assert fingerprint(record('"ALARM 1"')) == fingerprint(record('"ALARM 2"')) != fingerprint(record('"FIRE 1"'))


def test_a_json_line_is_known_by_its_message() -> None:
    """The other keys of a JSON line differ between equal events, or are equal between different ones."""
    one = '{"event": "payment 4 failed", "user": "kim", "level": "error"}'
    two = '{"event": "payment 5 failed", "user": "tom", "level": "error", "extra": [1]}'
    three = '{"event": "disk full", "user": "kim", "level": "error"}'
    assert fingerprint(record(one)) == fingerprint(record(two)) != fingerprint(record(three))
    assert fingerprint(record('{"a": "x"}')) != fingerprint(record('{"a": "y"}'))
    assert fingerprint(record("{broken x")) != fingerprint(record("{broken y"))


TRACEBACK = """{before}Traceback (most recent call last):
  File "{root}/shop/views.py", line {line}, in pay
    charge({order})
  File "/usr/lib/python3.11/site-packages/bank/client.py", line 3, in charge
    {foreign}
  File "{root}/shop/cards.py", line 7, in check
    {code}
    ^^^^^
{kind}: order {order} of 'kim' failed
{after}"""
BASE = {
    "before": "",
    "root": "/srv/r1",
    "line": "12",
    "order": "1",
    "foreign": "send()",
    "code": "x = y",
    "kind": "bank.Declined",
    "after": "",
}


def of_traceback(**changes: str) -> str:
    return fingerprint(record(TRACEBACK.format(**{**BASE, **changes})))


@pytest.mark.parametrize(
    "changes",
    [
        {"before": "payment 7 failed\n"},
        {"root": "/home/kim/releases/2026-11-24"},
        {"line": "13"},
        {"foreign": "self.send()"},
        {"before": "\x1b[31mpayment failed\x1b[0m\n"},
    ],
)
def test_a_traceback_is_known_by_its_calls(changes: dict[str, str]) -> None:
    """Messages, line numbers, directories and other people's code do not matter."""
    assert of_traceback(**changes) == of_traceback()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "bank.Unreachable"},
        {"code": "x = z"},
        {"order": "refund()"},
        {
            "after": "\nDuring handling of the above exception, another exception occurred:\n\n"
            + TRACEBACK.format(**BASE)
        },
    ],
)
def test_another_exception_is_another_event(changes: dict[str, str]) -> None:
    """The exception's type, the application's own calls, and the chain of exceptions matter."""
    assert of_traceback(**changes) != of_traceback()


def test_a_traceback_without_own_code_is_known_by_all_its_calls() -> None:
    """Where only libraries are in it, these tell one from another."""
    text = (
        'Traceback (most recent call last):\n  File "/usr/lib/python3/dist-packages/a.py", line 1, in {}\n    {}\nE: x'
    )
    one, same, other = (fingerprint(record(text.format(*names))) for names in (("f", "g"), ("f", "g"), ("h", "g")))
    assert one == same != other


def test_a_recursion_counts_once() -> None:
    """How deep it went does not matter."""
    frame = '  File "a.py", line 1, in f\n    f()\n'
    texts = ("Traceback (most recent call last):\n" + frame * depth + "RecursionError: too deep" for depth in (2, 5))
    one, two = (fingerprint(record(text)) for text in texts)
    assert one == two


def test_frames_without_source_are_understood() -> None:
    """As in a frozen program, which has no lines of code to show."""
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n  File "b.py", line 2, in {}\nE: x'
    assert fingerprint(record(text.format("g"))) != fingerprint(record(text.format("h")))
    assert fingerprint(record('Traceback (most recent call last):\n  File "a.py", line 1, in f')) == fingerprint(
        record('Traceback (most recent call last):\n  File "b.py", line 1, in f')
    )


def test_groups_of_exceptions_are_understood() -> None:
    """The exceptions in a group are part of the fingerprint."""
    text = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "a.py", line 1, in f\n  |     g()\n  | ExceptionGroup: two (1 sub-exception)\n'
        "  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n"
        '    |   File "b.py", line 1, in h\n    |     i()\n    | {}: x\n    +------------------------------------\n'
    )
    assert fingerprint(record(text.format("ValueError"))) != fingerprint(record(text.format("KeyError")))


def test_very_long_tracebacks_are_bounded() -> None:
    """Of an endless traceback the beginning counts."""
    frames = "".join(f'  File "{"abcdefghij"[n % 10]}.py", line 1, in f{n}\n' for n in range(1000))
    last = '  File "z.py", line 1, in {}\nE: x'
    head = "Traceback (most recent call last):\n" + frames
    assert fingerprint(record(head + last.format("a"))) == fingerprint(record(head + last.format("b")))


@pytest.mark.parametrize(
    ("part", "facts"),
    [
        ("logger", {"logger": "shop"}),
        ("level", {"level": 40}),
        ("source", {"source": "logging"}),
        ("path", {"fields": {"path": "/pay"}}),
        ("exception", {"fields": {"exception": "KeyError"}}),
        ("message", {"message": b"another"}),
        ("default", {"message": b"another"}),
    ],
)
def test_a_part_tells_events_apart(part: str, facts: dict[str, object]) -> None:
    """Events are equal if they are equal in the parts that a rule names, and in nothing else."""
    one, other = record("x 1"), record("x 1", **facts)
    assert fingerprint(one, "", [part]) != fingerprint(other, "", [part])
    assert fingerprint(one, "", ["host"]) == fingerprint(other, "", ["host"])


def test_the_other_parts() -> None:
    """The rule as a part; an exception and its calls are read off a traceback."""
    text = TRACEBACK.format(**BASE)
    assert fingerprint(record("x"), "one", ["rule"]) != fingerprint(record("x"), "two", ["rule"])
    assert fingerprint(record(text), "", ["exception"]) == fingerprint(
        record("x", fields={"exception": "bank.Declined"}), "", ["exception"]
    )
    assert fingerprint(record("x"), "", ["exception"]) == fingerprint(record("y"), "", ["exception"])
    assert fingerprint(record(text), "", ["traceback"]) == fingerprint(record(text), "", [])
    assert set(PARTS) >= {"rule", "exception", "traceback"}


def test_a_firing_has_the_fingerprint_that_its_rule_wants() -> None:
    """It is computed as the rule wants it, unless it is known already."""
    firing = Firing("i", "a", b"x", record("x", logger="shop"), 0.0, "rule", trigger=Trigger(fingerprint=("logger",)))
    assert fingerprint_of(firing) == fingerprint(record("y", logger="shop"), "", ["logger"])
    assert fingerprint_of(Firing("i", "a", b"x", record("x"), 0.0)) == fingerprint(record("x"))
    assert fingerprint_of(Firing("i", "a", b"x", record("x"), 0.0, fingerprint="abc")) == "abc"


@given(st.text(max_size=500), st.sampled_from([(), tuple(PARTS)]))
def test_every_text_has_a_fingerprint(text: str, parts: tuple[str, ...]) -> None:
    """Whatever a line holds, its fingerprint is 16 hexadecimal digits, the same each time."""
    message = Record(text.encode("utf-8", "surrogatepass"), "stdout", 0.0, "k")
    assert fingerprint(message, "", parts) == fingerprint(message, "", parts)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint(message, "", parts))


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_numbers_do_not_matter(one: int, two: int) -> None:
    """Lines that differ in a number alone are equal."""
    assert fingerprint(record(f"order {one} failed")) == fingerprint(record(f"order {two} failed"))
