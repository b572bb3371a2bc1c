"""Metrics outlive their master."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.master.metrics import Metrics
from alarm_mw.master.metrics_file import MetricsFile
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
