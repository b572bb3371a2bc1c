"""Followed logs under load, in short: `follow_soak` runs as long as one likes."""

from __future__ import annotations

from pathlib import Path

from follow_soak import Soak, run


def test_each_alarm_line_fires_once_while_logs_are_rotated_and_masters_are_killed(tmp_path: Path) -> None:
    """None is lost but by a cut, none fires twice, and each line is counted once."""
    soak = Soak(files=6, lines_per_second=3000, seconds=12.0, rotate_every=3.0, kill_every=4.0, alarms_per_second=2.0)
    found = run(soak, tmp_path)
    assert (found["lost"], found["fired_twice"], found["unknown"], found["ledger_problems"]) == ([], [], [], [])
    assert found["masters_killed"]
    assert 0 <= found["lines_written"] - found["lines_judged"] <= found["lines_between_copy_and_cut"]
