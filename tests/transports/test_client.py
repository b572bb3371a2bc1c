"""What stands in for the way to a master while it is being made."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from alarm_mw.model.types import Record
from alarm_mw.transports import client
from alarm_mw.transports.client import MAX_ROWS, SCREENED, TALLY_SIZE, Client, Early, Nowhere, Tally, places_of
from alarm_mw.transports.wire import MetricChange


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


class Way(Nowhere):
    """A way that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.changes: list[MetricChange] = []
        self.counts: Counter[tuple[str, str]] = Counter()

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        self.messages.append(record.message)
        return alarm is None

    def change_metric(self, change: MetricChange) -> bool:
        self.changes.append(change)
        return True

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        self.counts[source, outcome] += n


def record(n: int) -> Record:
    return Record(b"%d" % n, "logging", 1.0, str(n))


def test_what_comes_early_is_handed_over_and_what_is_too_much_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever comes before the way to the master is there reaches it, or stands in its ledger."""
    monkeypatch.setattr(client, "MAX_EARLY", 3)
    found: list[Client] = []
    early = Early(lambda: found[0] if found else None)
    assert [early.submit(record(n)) for n in range(2)] == [True, True]
    assert early.change_metric(MetricChange("orders", 1))
    assert [early.submit(record(n)) for n in range(2, 5)] == [False] * 3
    assert not early.change_metric(MetricChange("orders", 1))
    early.count("logging", "screened_out")
    way = Way()
    found.append(way)
    early.hand_over(way)
    early.hand_over(way)
    assert early.submit(record(9))
    assert way.messages == [b"0", b"1", b"9"]
    assert way.changes == [MetricChange("orders", 1)]
    assert way.counts == {("logging", "screened_out"): 1, ("logging", "skipped:queue_full"): 3}
    assert caplog.text == ""
