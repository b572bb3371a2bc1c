"""A function that is computed in another thread while its arguments are made here."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from alarm_mw.master.beside import MOST, beside


def test_results_come_in_order_from_another_thread() -> None:
    """As `map` gives them, and none of them is computed here."""
    results = list(beside(lambda item: (item, threading.current_thread().name), range(100)))
    assert results == [(item, "alarm-mw-beside") for item in range(100)]
    assert list(beside(str, [])) == []


def test_few_items_are_under_way() -> None:
    """Whoever takes the results slowly need not have room for all of them."""
    made = []

    def items() -> Iterator[int]:
        for item in range(20):
            made.append(item)
            yield item

    for number, _ in enumerate(beside(str, items())):
        assert len(made) <= number + MOST


def test_what_goes_wrong_is_raised_where_the_results_are_taken() -> None:
    """The results before it are had, and the thread ends."""
    results = beside(lambda item: 6 // (3 - item), range(10))
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_whoever_takes_no_more_ends_it() -> None:
    """No thread is left behind, which each test here looks for."""
    results = beside(str, range(10))
    assert next(results) == "0"
    del results
