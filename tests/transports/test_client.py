"""What stands in for the way to a master while it is being made."""

from __future__ import annotations

from collections import Counter

import pytest

from alarm_mw.model.types import Record
from alarm_mw.transports import client
from alarm_mw.transports.client import Client, Early, Nowhere
from alarm_mw.transports.wire import MetricChange


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
