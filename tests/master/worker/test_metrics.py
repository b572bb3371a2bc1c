"""Metrics as the master keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.ledger import Ledger
from alarm_mw.master.worker.metrics import MAX_METRICS, Metrics, MetricsFile, ledger_metrics
from alarm_mw.model.types import Reason
from alarm_mw.transports.wire import MetricChange


def test_the_next_master_goes_on(tmp_path: Path) -> None:
    """A master of the same run finds what the one before it had counted; that of another run begins at 0."""
    path = tmp_path / "metrics.json"
    Metrics(MetricsFile(path, "run")).change([MetricChange("a", 2), MetricChange("b", -(10**18))])
    following = Metrics(MetricsFile(path, "run"))
    following.change([MetricChange("a", 1)])
    assert Metrics(MetricsFile(path, "run")).values() == {"a": 3, "b": -(10**18)}
    assert Metrics(MetricsFile(path, "another")).values() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run_id": "run", "values": {"a": "x"}}', b"\xff"])
def test_a_file_that_is_none_of_ours(content: bytes, tmp_path: Path) -> None:
    """Whatever stands in the file, the master starts."""
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    assert MetricsFile(path, "run").load() == {}


def test_a_file_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Counting goes on, and the log says once that the next master will not know."""
    metrics = Metrics(MetricsFile(tmp_path / "no" / "metrics.json", "run"))
    for _ in range(3):
        metrics.change([MetricChange("a", 1)])
    assert metrics.values() == {"a": 3}
    assert [record.message[:47] for record in caplog.records] == ["metrics cannot be kept for the next master: [Er"]


def test_changes_are_made_in_order() -> None:
    """Adding begins at 0, setting forgets what was."""
    metrics = Metrics()
    metrics.change([MetricChange("a", 2), MetricChange("a", 3), MetricChange("b", -1)])
    metrics.change([MetricChange("a", 7, adds=False), MetricChange("a", 1)])
    assert metrics.values() == {"a": 8, "b": -1}


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_what_is_added_adds_up(values: list[int]) -> None:
    """However it is cut into changes, the sum is there."""
    metrics = Metrics()
    metrics.change([MetricChange("a", value) for value in values])
    assert metrics.values().get("a", 0) == sum(values)


def test_names_have_an_end() -> None:
    """A name made of data fills no memory: past the limit new names are not begun, and old ones still count."""
    metrics = Metrics()
    metrics.change([MetricChange(f"user.{n}", 1) for n in range(MAX_METRICS + 10)])
    metrics.change([MetricChange("user.0", 1)])
    assert len(metrics.values()) == MAX_METRICS
    assert metrics.values()["user.0"] == 2


def test_columns_of_the_ledger() -> None:
    """Every column has a name; what is counted by reason is there by reason and as a whole."""
    ledger = Ledger()
    ledger.source("stdout", "lines", 5)
    ledger.alarm("jabber", "held_back", 2, reason=Reason.SAME_MESSAGE)
    ledger.alarm("jabber", "held_back", 1, reason=Reason.LOOP)
    found = ledger_metrics(ledger.books())
    assert found["source.stdout.lines"] == 5
    assert found["source.stdout.skipped"] == 0
    assert found["alarm.jabber.held_back"] == 3
    assert found["alarm.jabber.held_back.loop"] == 1
    assert found["alarm.jabber.delivered"] == 0
