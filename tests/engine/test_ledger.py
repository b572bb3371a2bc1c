"""The ledger's equations."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from alarm_mw.engine.ledger import MAX_SOURCES, Ledger, imbalances
from alarm_mw.model.types import Reason


def balanced() -> Ledger:
    ledger = Ledger()
    for column, n in (("lines", 10), ("screened_out", 6), ("matched", 3)):
        ledger.source("stdout", column, n)
    ledger.source("stdout", "skipped", reason=Reason.EXCLUDED)
    ledger.alarm("a", "matched", 7)
    ledger.alarm("a", "held_back", 2, reason=Reason.SAME_MESSAGE)
    ledger.alarm("a", "fired", 5)
    ledger.alarm("a", "delivered", 2)
    ledger.alarm("a", "dead", reason=Reason.REFUSED)
    ledger.alarm("a", "dropped", reason=Reason.SHUTDOWN)
    return ledger


def test_books_that_balance_have_no_complaints() -> None:
    """When every line and firing is accounted for, nothing is reported."""
    books = balanced().books()
    assert books["alarms"]["a"]["waiting"] == 1
    assert imbalances(books, {"a": 1}) == []


def test_every_equation_is_checked() -> None:
    """A line, a match or a waiting firing too many is named with its source or alarm."""
    ledger = balanced()
    ledger.source("stdout", "lines")
    ledger.alarm("a", "matched")
    assert imbalances(ledger.books(), {}) == [
        "source stdout: 11 lines came in, 10 are accounted for",
        "alarm a: 8 matches, 7 are accounted for",
        "alarm a: 1 firings should wait, 0 do",
    ]


def test_incidents_must_add_up() -> None:
    """An incident that began, and neither ended nor is firing, is named with its rule."""
    ledger = Ledger()
    ledger.rule("db", "opened")
    ledger.rule("db", "opened")
    ledger.rule("db", "resolved:line")
    books = ledger.books()
    assert imbalances(books, {}) == []
    books["rules"]["db"]["open"] = 0
    assert imbalances(books, {}) == ["rule db: 2 incidents were opened, 1 are accounted for"]


def test_changes_are_given_out_once_unless_given_back() -> None:
    """What was written down is not written again; what could not be written is."""
    ledger = Ledger({("alarm", "a", "fired"): 4})
    ledger.alarm("a", "fired")
    assert ledger.take_changes() == {("alarm", "a", "fired"): 5}
    assert ledger.take_changes() == {}
    ledger.restore_changes([("alarm", "a", "fired")])
    assert ledger.take_changes() == {("alarm", "a", "fired"): 5}


@pytest.mark.parametrize("key", [("planet", "a", "fired"), ("alarm", "a", "lines"), ("source", "a", "skipped")])
def test_what_a_damaged_file_counts_is_left_out(key: tuple[str, str, str]) -> None:
    """Only what there is to count is taken from an outbox."""
    counts: dict[Any, int] = {key: 3}
    assert not any(Ledger(counts).books().values())


def test_nothing_is_counted_as_nothing() -> None:
    """Adding none makes no row."""
    ledger = Ledger()
    ledger.source("stdout", "lines", 0)
    assert ledger.books()["sources"] == {}


def test_threads_lose_no_count() -> None:
    """Counting from several threads at once adds up."""
    ledger = Ledger()

    def count() -> None:
        for _ in range(5000):
            ledger.source("s", "lines")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.books()["sources"]["s"]["lines"] == 20_000


def test_columns_that_balance_are_counted_together() -> None:
    """Columns of one row are entered at once, a source beyond the number of those with rows of their own included."""
    ledger = Ledger()
    ledger.book("source", "stdout", {"lines": 3, "screened_out": 2, "skipped:queue_full": 1, "oversized": 0})
    ledger.book("alarm", "a", {"matched": 1, "held_back:rate": 1})
    books = ledger.books()
    assert imbalances(books, {}) == []
    assert books["sources"]["stdout"]["skipped"] == {"queue_full": 1}
    assert books["alarms"]["a"]["held_back"] == {"rate": 1}
    assert ("source", "stdout", "oversized") not in ledger.take_changes()
    for number in range(MAX_SOURCES):
        ledger.book("source", f"s{number}", {"lines": 1, "matched": 1})
    assert ledger.books()["sources"]["others"]["lines"] == 1


def test_sources_beyond_a_number_are_counted_together() -> None:
    """Whoever invents names for sources makes no ledger grow for ever, and the books still balance."""
    ledger = Ledger()
    for number in range(MAX_SOURCES + 3):
        ledger.source(f"s{number}", "lines")
    sources = ledger.books()["sources"]
    assert len(sources) == MAX_SOURCES + 1
    assert sources["others"]["lines"] == 3


def test_collections_are_no_row() -> None:
    """How often the processes' counts were entered is written down beside them, and is in nobody's books."""
    ledger = Ledger()
    ledger.note_collection()
    ledger.note_collection()
    assert Ledger(ledger.take_changes()).collections == ledger.collections == 2
    assert ledger.books() == {"sources": {}, "alarms": {}, "rules": {}}
