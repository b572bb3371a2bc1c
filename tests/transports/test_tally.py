"""Counting in the application."""

from __future__ import annotations

import threading

import pytest

from alarm_mw.transports.tally import MAX_ROWS, SCREENED, TALLY_SIZE, Tally, places_of


def test_counts_are_taken_once() -> None:
    """What was taken is not taken again; what came since is, each line with what became of it."""
    tally = Tally()
    tally.add("logging", SCREENED, 2)
    assert tally.take() == {"logging": {"lines": 2, "screened_out": 2}}
    assert tally.take() == {}
    tally.add("logging", "skipped:queue_full")
    assert tally.take() == {"logging": {"lines": 1, "skipped:queue_full": 1}}


def test_what_was_counted_goes_on_in_other_memory() -> None:
    """Where memory can be shared only later, the counts so far come along, unless somebody has them already."""
    tally = Tally()
    tally.add("logging", SCREENED, 2)
    tally.move(memoryview(bytearray(TALLY_SIZE)), with_counts=True)
    tally.add("logging", SCREENED)
    assert tally.take() == {"logging": {"lines": 3, "screened_out": 3}}
    tally.move(memory := memoryview(bytearray(TALLY_SIZE)), with_counts=False)
    tally.add("logging", SCREENED)
    assert [memory.cast("Q")[place] for place in places_of(memory.cast("Q"))] == [1]


@pytest.mark.parametrize("names", [["x" * 33, "no name", "\xff"], [f"s{n}" for n in range(2 * MAX_ROWS)]])
def test_sources_without_a_row_of_their_own_are_counted_together(names: list[str]) -> None:
    """Whatever names sources have, and however many there are, each line is counted."""
    tally = Tally()
    for name in names:
        tally.add(name, SCREENED)
        tally.add(name, "skipped:alarm_origin")
    counts = tally.take()
    assert sum(columns["lines"] for columns in counts.values()) == 2 * len(names)
    assert counts["others"]["lines"] == sum(counts["others"].values()) - counts["others"]["lines"] > 0


def test_threads_lose_no_count() -> None:
    """Log calls of many threads are all counted."""
    tally = Tally()

    def count() -> None:
        for _ in range(20_000):
            tally.add("logging", SCREENED)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.take() == {"logging": {"lines": 80_000, "screened_out": 80_000}}
