"""Counting in the application."""

from __future__ import annotations

import threading

from alarm_mw.transports.tally import Tally


def test_counts_are_taken_once() -> None:
    """What was taken is not taken again; what came since is."""
    tally = Tally()
    tally.add("logging", "lines", 2)
    assert tally.take() == {"logging": {"lines": 2}}
    assert tally.take() == {}
    tally.add("logging", "lines")
    assert tally.take() == {"logging": {"lines": 1}}


def test_what_could_not_be_sent_is_counted_again() -> None:
    """Counts given back come with the next packet."""
    tally = Tally()
    tally.add("logging", "lines", 2)
    tally.give_back(tally.take())
    assert tally.take() == {"logging": {"lines": 2}}


def test_threads_lose_no_count() -> None:
    """Log calls of many threads are all counted."""
    tally = Tally()

    def count() -> None:
        for _ in range(20_000):
            tally.add("logging", "lines")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.take() == {"logging": {"lines": 80_000}}
