"""What would have been sent, by the lines' own times."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main
from alarm_mw.cli.replay.logs import ReadProgress

LIFE = """
[alarms.a]
action = "log"
[alarms.b]
action = "log"
[[rules]]
name = "db"
pattern = 'lost (?P<db>\\S+)'
resolve = 'back (?P<db>\\S+)'
key = ["db"]
alarms = ["a"]
escalation = "ops"
[escalations.ops]
steps = [{ after = "0s", alarms = ["a"] }, { after = "15m", alarms = ["b"] }]
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def replay(*words: str, config: str) -> Result:
    Path("a.toml").write_text(config)
    result = CliRunner().invoke(main, ["replay", "--config", "a.toml", *words])
    assert result.exit_code == 0, result.output
    return result


def messages(result: Result) -> list[tuple[str, str, str]]:
    """Return time, alarm and status of each message."""
    found = []
    for line in result.stdout.splitlines():
        date, clock, alarm, status, *_ = line.split()
        found.append((f"{date} {clock}"[11:], alarm.strip("[]"), status.rstrip(":")))
    return found


def test_an_incident_has_its_life_at_the_times_of_the_lines() -> None:
    """It fires, escalates when its time has come even if no line says so then, and is resolved."""
    lines = ["03:00:00 lost eu", "03:05:00 lost eu", "04:00:00 lost us", "04:01:00 back eu"]
    Path("log").write_text("".join(f"2026-03-01 {line}\n" for line in lines))
    result = replay("--simulate", "log", config=LIFE)
    assert messages(result) == [
        ("03:00:00", "a", "firing"),
        ("03:15:00", "b", "escalated"),
        ("04:00:00", "a", "firing"),
        ("04:01:00", "a", "resolved"),
        ("04:01:00", "b", "resolved"),
    ]
    assert result.stderr.splitlines()[0] == (
        "3 matches, 5 messages, 1 escalation, 2 ends of incidents, 1 incident still firing at the end"
    )


LIMITED = """
[alarms.a]
action = "log"
[alarms.a.limits]
rate = "2/1h"
for_humans = true
repeat_after = 0
[[rules]]
pattern = 'ERR'
alarms = ["a"]
"""


def test_flood_control_goes_by_the_times_of_the_lines() -> None:
    """A rate holds back what comes too fast, reports it when its time is over, and lets later messages through."""
    lines = [f"2026-03-01 03:0{minute}:00 ERR {minute}" for minute in range(6)] + ["2026-03-01 09:00:00 ERR last"]
    Path("log").write_text("\n".join(lines))
    result = replay("--simulate", "log", config=LIMITED)
    assert [(at, status) for at, _, status in messages(result)] == [
        ("03:00:00", "firing"),
        ("03:01:00", "firing"),
        ("04:00:00", "digest"),
        ("09:00:00", "firing"),
    ]
    assert result.stderr.splitlines() == ["7 matches, 4 messages, 1 digest", "held back: 4 rate"]


def test_logs_are_put_in_order_by_their_times() -> None:
    """Rotated logs come in any order; what was written first is judged first. Directories and patterns are read."""
    Path("logs").mkdir()
    Path("logs/app.log").write_text("2026-03-02 00:00:00 ERR new\n")
    Path("logs/app.log.1.gz").write_bytes(gzip.compress(b"2026-03-01 00:00:00 ERR old\n"))
    for name in ("logs", "logs/*"):
        result = replay("--simulate", "--json", name, config=LIMITED)
        assert [json.loads(line)["text"][-3:] for line in result.stdout.splitlines()] == ["old", "new"]


def test_lines_are_counted_by_hour() -> None:
    """The table has a row for each hour and alarm."""
    Path("log").write_text("ERR no time\n2026-03-01 03:00:00 ERR\n2026-03-01 03:59:59 ERR\n2026-03-01 04:00:00 ERR\n")
    result = replay("--by-hour", "log", config=LIMITED)
    assert result.stdout.splitlines() == [
        "hour              alarm  lines",
        "-                 a          1",
        "2026-03-01 03:00  a          2",
        "2026-03-01 04:00  a          1",
    ]
    assert result.stderr == "1 line without a time\n"
    simulated = replay("--by-hour", "--simulate", "log", config=LIMITED)
    assert simulated.stdout.splitlines()[0] == "hour              alarm  messages"


def test_lines_outside_of_a_time_are_ignored() -> None:
    """--since and --until keep the lines between them; a line without a time belongs to the one before it."""
    Path("log").write_text(
        "ERR 0\n2026-03-01 03:00:00 ERR 1\n2026-03-01 04:00:00 ERR 2\nERR 3\n2026-03-01 05:00:00 ERR 4\n"
    )
    result = replay("--json", "--since", "2026-03-01 03:30", "--until", "2026-03-01 05:00", "log", config=LIMITED)
    assert [json.loads(line)["line"] for line in result.stdout.splitlines()] == [3, 4]


def test_what_is_not_there_is_said() -> None:
    """A pattern without a file and a time that is none are mistakes of use."""
    Path("a.toml").write_text(LIMITED)
    for words, said in (
        (["*.nope"], "*.nope: there is no such file"),
        (["--since", "soon", "a.toml"], "expected a time"),
    ):
        result = CliRunner().invoke(main, ["replay", "--config", "a.toml", *words])
        assert (result.exit_code, said in result.stderr) == (2, True)


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_progress_is_shown_on_a_terminal_after_a_second() -> None:
    """How much, how fast and how long it still takes; the line is removed, and nothing is shown of what is quick."""
    seconds = iter([0.0, 0.5, 2.0, 2.1])
    shown = Terminal()
    progress = ReadProgress(4_000_000_000, shown, lambda: next(seconds))
    progress(500_000_000)
    assert shown.getvalue() == ""
    progress(1_000_000_000)
    assert shown.getvalue() == "\r25 % of 4.00 GB, 500 MB/s, 6 s left\x1b[K"
    progress(1_100_000_000)
    progress.clear()
    assert shown.getvalue().endswith("left\x1b[K\r\x1b[K")


def test_progress_without_a_known_size() -> None:
    """Of the standard input only how much and how fast is known; without a terminal nothing is shown."""
    seconds = iter([0.0, 2.0])
    shown = Terminal()
    ReadProgress(0, shown, lambda: next(seconds))(1_000_000_000)
    assert shown.getvalue() == "\r1.00 GB read, 500 MB/s\x1b[K"
    piped = io.StringIO()
    progress = ReadProgress(1, piped, lambda: 99.0)
    progress(1)
    progress.clear()
    assert piped.getvalue() == ""


def test_lines_before_the_first_time_have_that_time() -> None:
    """A banner without a date does not begin an incident in 1970, with all the reminders since then."""
    Path("log").write_text("lost eu\nlost us\n2026-03-01 03:00:00 lost asia\n")
    result = replay("--simulate", "log", config=LIFE)
    assert messages(result) == [("03:00:00", "a", "firing")] * 3
    assert result.stderr.splitlines()[-1] == (
        "2 lines without a time: counted at the time of the line before, or of the first line with a time"
    )


def test_a_log_without_times_is_simulated_at_one_moment() -> None:
    """Its messages have no time."""
    Path("log").write_text("lost eu\nlost us\n")
    result = replay("--simulate", "log", config=LIFE)
    assert [line.split(" ", 1)[0] for line in result.stdout.splitlines()] == ["-", "-"]
