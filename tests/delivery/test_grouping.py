"""What a group says, and what belongs to it."""

from __future__ import annotations

import pytest
from msgspec import structs

from alarm_mw.delivery.grouping import combined, grouped
from alarm_mw.delivery.outbox.entries import Entry
from alarm_mw.model.types import Firing, Record


def firing(number: int, text: str, **facts: object) -> Firing:
    record = Record(text.encode(), "logging", 1.0, str(number), level=40, logger="shop", fields={"host": "web1"})
    record = structs.replace(record, **{name: fact for name, fact in facts.items() if name != "rule"})
    return Firing(f"id{number}", "a", text.encode(), record, number / 10, str(facts.get("rule", "ERR")))


def test_one_firing_is_left_as_it_is() -> None:
    """A group of one says nothing of groups."""
    only = firing(1, "ERR\n")
    assert combined([only]) is only


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["disk 1\n", "disk 2\n", "disk 3\n"], b"disk 1 [2 more in 0.2 s, the last:]\ndisk 3\n"),
        (["same\n", "other\n", "same"], b"same [2 more in 0.2 s]\n"),
        (["Traceback\n  line\nError\n", "other\nlines\n"], b"Traceback [1 more in 0.1 s, the last:]\nother\n"),
        (["", ""], b" [1 more in 0.1 s]\n"),
    ],
)
def test_it_says_the_first_and_the_last(texts: list[str], message: bytes) -> None:
    """The first line, how many more came in how many seconds, and the last line where it is another one."""
    assert combined([firing(number, text) for number, text in enumerate(texts)]).message == message


def test_it_stands_for_all_of_them() -> None:
    """What had been held back before any of them, and the groups among them, are counted together."""
    one = structs.replace(firing(1, "x\n"), held_back=2, held_since=7.0)
    two = structs.replace(firing(2, "y\n"), held_back=3, held_since=5.0, count=10)
    group = combined([one, two, firing(3, "z\n")])
    assert (group.held_back, group.held_since, group.count, group.id) == (5, 5.0, 12, "id1+2")
    assert combined([firing(1, "x\n"), firing(0, "x\n")]).message == b"x [1 more in 0.0 s]\n"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("rule", {"rule": "other"}),
        ("logger", {"logger": "other"}),
        ("level", {"level": 50}),
        ("source", {"source": "stdout"}),
        ("host", {"fields": {"host": "web2"}}),
        ("host", {"fields": {}}),
        ("message", {}),
    ],
)
def test_a_group_has_things_in_common(name: str, facts: dict[str, object]) -> None:
    """What differs in one of them belongs to another group; without any, all belong together."""
    texts = "b\n" if name == "message" else "a\n"
    entries = [Entry(1, firing(1, "a\n")), Entry(2, firing(2, texts, **facts)), Entry(3, firing(3, "a\n"))]
    assert [[entry.seq for entry in parcel.entries] for parcel in grouped(entries, [name])] == [[1, 3], [2]]
    assert [[entry.seq for entry in parcel.entries] for parcel in grouped(entries, [])] == [[1, 2, 3]]


def test_equal_events_are_one_group() -> None:
    """Firings with the same fingerprint differ in numbers alone."""
    texts = ("order 1 failed\n", "disk full\n", "order 2 failed\n")
    groups = grouped([Entry(n, firing(n, text)) for n, text in enumerate(texts)], ["fingerprint"])
    assert [len(group.entries) for group in groups] == [2, 1]
