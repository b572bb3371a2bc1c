"""Followed files: each line is judged once, whatever becomes of the file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from alarm_mw.master.follow import bell, follower
from alarm_mw.master.follow.intake import UNDER_WAY


def test_added_lines_are_judged_with_their_path(logs: Any) -> None:
    """What stood in the file is left alone; what is added is judged, and the record names the file."""
    logs.append("app.log", "ERROR old")
    logs.follow("app.log")
    logs.append("app.log", "fine", "ERROR new")
    logs.wait_for("ERROR new")
    (record,) = logs.worker.records
    assert (record.source, record.fields) == ("file", {"path": str(logs.folder / "app.log")})
    logs.stop()
    assert {column: n for column, n in logs.worker.counts.items() if n} == {"lines": 1, "screened_out": 1}


def test_a_log_may_be_read_from_its_beginning(logs: Any) -> None:
    """With ``start = "beginning"`` what stands in the file already is judged, too."""
    logs.append("app.log", "ERROR old")
    logs.follow("app.log", start="beginning")
    logs.wait_for("ERROR old")


def test_a_pattern_finds_new_files(logs: Any) -> None:
    """A file that appears later is read from its beginning, after a restart as well."""
    logs.append("a.log", "ERROR old")
    logs.follow("*.log")
    logs.append("b.log", "ERROR b")
    logs.wait_for("ERROR b")
    logs.stop()
    logs.append("c.log", "ERROR c")
    logs.follow("*.log")
    logs.wait_for("ERROR b", "ERROR c")


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
def test_a_renamed_log_is_read_to_its_end(logs: Any, pattern: str) -> None:
    """Its writer may go on for a while; the new file is read as well."""
    logs.append("app.log", "ERROR old")
    logs.follow(pattern)
    logs.append("app.log", "ERROR 1")
    logs.rename("app.log", "app.log.1")
    logs.append("app.log.1", "ERROR 2")
    logs.append("app.log", "ERROR 3")
    logs.wait_for("ERROR 1", "ERROR 2", "ERROR 3")


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
def test_what_a_copy_has_beyond_what_was_read_is_judged(logs: Any, pattern: str) -> None:
    """Copied and truncated: the rest is read from the copy, and of the copy nothing is judged again."""
    logs.append("app.log", "ERROR old")
    logs.follow(pattern)
    logs.append("app.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    logs.append("app.log", "ERROR 2")
    logs.copy_and_truncate("app.log", "app.log.1")
    logs.append("app.log", "ERROR 3")
    logs.wait_for("ERROR 1", "ERROR 2", "ERROR 3")
    logs.stop()
    logs.follow(pattern)
    logs.append("app.log", "ERROR 4")
    logs.wait_for("ERROR 1", "ERROR 2", "ERROR 3", "ERROR 4")


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_rotations_while_nobody_reads_lose_nothing(logs: Any, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    """After the start, what was rotated and compressed meanwhile is read to its end, and the log itself."""
    logs.append("app.log", "ERROR old")
    logs.follow("app.log")
    logs.append("app.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    logs.stop()
    logs.append("app.log", "ERROR 2")
    (logs.folder / f"app.log.3.{suffix}").write_bytes(compress((logs.folder / "app.log").read_bytes()))
    (logs.folder / "app.log").unlink()
    logs.append("app.log.2", "ERROR 3")
    logs.append("app.log.1", "ERROR 4")
    logs.append("app.log", "ERROR 5")
    logs.follow("app.log")
    logs.wait_for(*(f"ERROR {n}" for n in range(1, 6)))
    logs.stop()
    logs.follow("app.log")
    logs.append("app.log", "ERROR 6")
    logs.wait_for(*(f"ERROR {n}" for n in range(1, 7)))


def test_a_log_that_was_deleted_may_return(logs: Any) -> None:
    """A new file of the same name is another log, read from its beginning."""
    logs.append("app.log", "ERROR old")
    logs.follow("app.log")
    logs.append("app.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    (logs.folder / "app.log").unlink()
    logs.append("app.log", "ERROR 2")
    logs.wait_for("ERROR 1", "ERROR 2")


def test_a_log_that_was_moved_away_and_back_is_not_judged_again(logs: Any) -> None:
    """Its place is remembered."""
    logs.follow("app.log")
    logs.append("app.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    logs.stop()
    logs.rename("app.log", "elsewhere")
    logs.follow("app.log")
    logs.rename("elsewhere", "app.log")
    logs.append("app.log", "ERROR 2")
    logs.wait_for("ERROR 1", "ERROR 2")


def test_a_line_is_judged_when_it_is_whole(logs: Any) -> None:
    """A writer may write a line in pieces."""
    logs.follow("app.log")
    with (logs.folder / "app.log").open("w", buffering=1) as file:
        file.write("ER")
        file.flush()
        wait_until(lambda: logs.follower.status()["behind"] == 2)
        file.write("ROR 1\n")
        logs.wait_for("ERROR 1")


def test_the_last_line_of_a_rotated_log_needs_no_newline(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nothing is added to it any more, its last line is judged as it is."""
    monkeypatch.setattr(follower, "LET_GO", 0.0)
    logs.follow("app.log")
    logs.append("app.log", "fine")
    with (logs.folder / "app.log").open("a") as file:
        file.write("ERROR without end")
    wait_until(lambda: logs.follower.status()["behind"])
    logs.rename("app.log", "app.log.1")
    logs.wait_for("ERROR without end")
    wait_until(lambda: not logs.follower.status()["files"])


def test_the_first_part_of_a_long_line_is_judged(logs: Any) -> None:
    """A line that is too long is cut, and is one line."""
    logs.follow("app.log")
    logs.append("app.log", "ERROR " + "x" * 500_000, "ERROR 2")
    wait_until(lambda: len(logs.worker.lines) == 2)
    first, second = logs.worker.lines
    assert (len(first), second) == (131_072, "ERROR 2")
    logs.stop()
    assert logs.worker.counts["oversized"] == 1
    assert logs.worker.counts["lines"] == 0  # beside the two that the worker counts


def test_zeros_of_a_writer_that_does_not_append_are_skipped(logs: Any) -> None:
    """After a truncation it goes on at its old place, and leaves a hole before it."""
    with (logs.folder / "app.log").open("wb") as file:
        logs.follow("app.log")
        file.write(b"ERROR 1\n" + b"x\n" * 200_000)
        file.flush()
        logs.wait_for("ERROR 1")
        wait_until(lambda: not logs.follower.status()["behind"])
        logs.copy_and_truncate("app.log", "app.log.1")
        file.write(b"ERROR 2\n")
        file.flush()
        logs.wait_for("ERROR 1", "ERROR 2")


def test_without_inotify_files_are_looked_at_again_and_again(logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems and small limits of the system only cost a second."""

    def refuse() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(bell, "inotify_fd", refuse)
    logs.follow("*.log")
    logs.append("a.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    logs.rename("a.log", "a.log.1")
    logs.append("a.log", "ERROR 2")
    logs.wait_for("ERROR 1", "ERROR 2")
    (problem,) = logs.follower.status()["problems"]
    assert "Too many open files" in problem


def test_what_is_no_log_is_named(logs: Any) -> None:
    """A directory is not followed, nor is the file that the server's output goes to: it is judged already."""
    (logs.folder / "folder.log").mkdir()
    logs.append("out.log", "ERROR old")
    facts = (logs.folder / "out.log").stat()
    logs.follow("*.log", own=frozenset({(facts.st_dev, facts.st_ino)}))
    logs.append("out.log", "ERROR own")
    logs.append("a.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    assert [problem.removeprefix(str(logs.folder)) for problem in logs.follower.status()["problems"]] == [
        "/folder.log: it is not a regular file",
        "/out.log: it is not followed: the server's output goes there, and is judged already",
    ]


def test_compressed_logs_are_not_followed(logs: Any) -> None:
    """A pattern may match them; they are read only where a followed log went on."""
    (logs.folder / "app.log.2.gz").write_bytes(gzip.compress(b"ERROR compressed\n"))
    logs.follow("app.log*", start="beginning")
    logs.append("app.log", "ERROR 1")
    logs.wait_for("ERROR 1")


def test_a_backlog_is_read_fairly_and_no_faster_than_it_is_judged(logs: Any) -> None:
    """A million lines in one file do not keep another one waiting, and do not fill the memory."""
    (logs.folder / "big.log").write_bytes(b"ERROR backlog\n" * 1_000_000)
    logs.append("small.log", "ERROR small")
    logs.worker.is_free = False
    logs.follow_unwritten("*.log")
    wait_until(lambda: sum(batch.lines is not None for batch in logs.worker.waiting) == UNDER_WAY)
    texts = [hit.line for batch in logs.worker.waiting if batch.lines is not None for hit in batch.lines.hits]
    assert b"ERROR small\n" in texts
    assert logs.follower.status()["behind"] > 10_000_000
    logs.worker.go_on()
    wait_until(lambda: len(logs.worker.records) == 1_000_001)
    assert len({record.key for record in logs.worker.records}) == 1_000_001
    assert logs.follower.status()["behind"] == 0


def test_what_could_not_be_judged_at_the_end_is_read_by_the_next_one(logs: Any) -> None:
    """When the time to end is over, the position stays before the lines that nobody has judged."""
    (logs.folder / "big.log").write_bytes(b"ERROR backlog\n" * 1_000_000)
    logs.worker.is_free = False
    logs.follow_unwritten("*.log")
    wait_until(lambda: sum(batch.lines is not None for batch in logs.worker.waiting) == UNDER_WAY)
    logs.follower.stop(0.0)
    logs.worker.go_on()
    logs.follow("*.log")
    wait_until(lambda: len(logs.worker.records) == 1_000_000)
    assert len({record.message for record in logs.worker.records}) == 1


def test_patterns_may_change(logs: Any) -> None:
    """After a reload, other logs are followed."""
    found = logs.follow("a.log")
    logs.append("a.log", "ERROR 1")
    logs.wait_for("ERROR 1")
    found.change(logs.follows("b.log"), logs.prefilter(), logs.assembly)
    wait_until(lambda: f"pattern:{logs.folder}/b.log" in logs.worker.positions)
    logs.append("b.log", "ERROR 2")
    logs.wait_for("ERROR 1", "ERROR 2")


STEPS = st.lists(
    st.sampled_from(["write", "write", "write", "rename", "copy", "compress", "restart", "down", "wait"]),
    min_size=3,
    max_size=25,
)


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
@given(steps=STEPS)
@settings(max_examples=12)
def test_no_rotation_loses_or_repeats_a_line(make_logs: Callable[[Path], Any], pattern: str, steps: list[str]) -> None:
    """Whatever a log goes through, while it is followed or not: each of its lines is judged once."""
    with tempfile.TemporaryDirectory() as folder:
        logs = make_logs(Path(folder))
        written: list[str] = []
        logs.follow(pattern)
        try:
            for step in ["write", "wait", *steps, "write"]:
                _take_step(logs, step, pattern, written)
            if logs.follower is None:
                logs.follow(pattern)
            logs.wait_for(*written)
        finally:
            logs.stop()


def test_a_writer_may_be_late_to_open_the_new_file(logs: Any) -> None:
    """What it adds to the rotated one is judged, also by a master that was started after the rotation."""
    logs.append("app.log", "ERROR old")
    logs.follow("app.log")
    logs.stop()
    logs.rename("app.log", "app.log.1")
    wanted: list[str] = []
    for n in range(6):
        wanted.append(f"ERROR {n}")
        logs.append("app.log" if n in {1, 2, 4} else "app.log.1", wanted[-1])
        if n == 0:
            logs.follow("app.log")
        logs.wait_for(*wanted)
    wait_until(lambda: any(file["is_rotated"] for file in logs.follower.status()["files"]))


def test_logs_may_begin_alike(logs: Any) -> None:
    """A banner of a program's, however long, does not make a log one that was read already."""
    banner = "shop 1.2.3 starts, " * 30
    logs.append("app.log", banner, "ERROR old, and the oldest")
    logs.follow("app.log")
    logs.stop()
    logs.rename("app.log", "app.log.2")
    logs.append("app.log.1", banner, "ERROR 1")
    logs.append("app.log", banner, "ERROR 2")
    logs.follow("app.log")
    logs.wait_for("ERROR 1", "ERROR 2")


def test_logs_may_be_alike_from_their_beginning_to_their_end(logs: Any) -> None:
    """Each is known by its inode as long as it is there; one that was compressed is not taken for another one."""
    logs.append("app.log", "ERROR the same")
    logs.follow("app.log", start="beginning")
    logs.wait_for("ERROR the same")
    logs.rename("app.log", "app.log.1")
    logs.append("app.log", *["ERROR the same"] * 2)
    logs.wait_for(*["ERROR the same"] * 3)
    logs.stop()
    (logs.folder / "app.log.2.gz").write_bytes(gzip.compress(b"ERROR the same\nERROR first\n"))
    (logs.folder / "app.log.1").unlink()
    logs.append("app.log", "ERROR second")
    logs.rename("app.log", "app.log.1")
    logs.append("app.log", "ERROR third")
    logs.follow("app.log")
    logs.wait_for(*["ERROR the same"] * 3, "ERROR first", "ERROR second", "ERROR third")


def test_no_line_is_judged_before_one_that_waits(logs: Any) -> None:
    """A flood that is held back at once does not pass what the worker was given: the position would go back."""
    passed: list[int] = []

    def hold_back(_batch: Any) -> bool:
        passed.append(len(logs.worker.waiting))
        return False

    block = 131_072 // 8
    logs.worker.hold_back = hold_back
    logs.worker.is_free = False
    (logs.folder / "app.log").write_bytes((b"ERROR 1\n" * block + b"fine 12\n" * block) * 4)
    logs.follow_unwritten("app.log")
    wait_until(lambda: sum(batch.lines is not None for batch in logs.worker.waiting) == 4)
    logs.worker.go_on()
    logs.append("app.log", *["ERROR 2"] * 4 * block)
    wait_until(lambda: logs.worker.lines.count("ERROR 2") == 4 * block)
    assert passed.count(0) == len(passed)


KILLS = st.lists(
    st.sampled_from(["write", "write", "fine", "rename", "copy", "compress", "kill", "kill", "hold", "go on", "wait"]),
    min_size=3,
    max_size=30,
)


@given(steps=KILLS)
@settings(max_examples=15)
def test_a_kill_loses_or_repeats_no_line(make_logs: Callable[[Path], Any], steps: list[str]) -> None:
    """Whatever was read but not written then, and whatever becomes of the log: each line counts once."""
    with tempfile.TemporaryDirectory() as folder:
        logs = make_logs(Path(folder))
        written: list[str] = []
        others = 0
        logs.follow("app.log")
        try:
            for step in ["write", "wait", *steps, "write"]:
                if step == "fine":
                    others += 1
                    logs.append("app.log", f"fine {others}")
                elif step == "kill":
                    logs.kill()
                    logs.follow("app.log")
                elif step == "hold":
                    logs.worker.is_free = False
                elif step == "go on":
                    logs.worker.go_on()
                elif step != "wait" or logs.worker.is_free:
                    _take_step(logs, step, "app.log", written)
            logs.worker.go_on()
            logs.wait_for(*written)
            logs.stop()
            assert logs.worker.counts["lines"] == others
        finally:
            logs.stop()


def _take_step(logs: Any, step: str, pattern: str, written: list[str]) -> None:
    log = logs.folder / "app.log"
    if step == "write":
        written.append(f"ERROR line number {len(written)}")
        logs.append("app.log", written[-1])
    elif step in ("rename", "copy") and log.exists() and log.stat().st_size:
        _shift(logs.folder)
        (logs.rename if step == "rename" else logs.copy_and_truncate)("app.log", "app.log.1")
    elif step == "compress":
        for plain in logs.folder.glob("app.log.[2-9]"):
            facts = plain.stat()
            packed = plain.with_name(f"{plain.name}.gz")
            packed.write_bytes(gzip.compress(plain.read_bytes()))
            os.utime(packed, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as gzip does
            plain.unlink()
    elif step == "down":
        logs.stop()
    elif step == "restart":
        logs.stop()
        logs.follow(pattern)
    elif step == "wait" and logs.follower is not None:
        logs.wait_for(*written)


def _shift(folder: Path) -> None:
    """Give the older ones higher numbers."""
    for n in range(60, 0, -1):
        for suffix in ("", ".gz"):
            old = folder / f"app.log.{n}{suffix}"
            if old.exists():
                old.rename(folder / f"app.log.{n + 1}{suffix}")


@given(st.lists(st.sampled_from(["write", "write", "write", "rename", "restart", "rename while down"]), max_size=20))
@settings(max_examples=12)
def test_logs_may_consist_of_one_line_again_and_again(make_logs: Callable[[Path], Any], steps: list[str]) -> None:
    """What tells a rotated log from the new one is then the inode alone: each line is judged once all the same."""
    with tempfile.TemporaryDirectory() as folder:
        logs = make_logs(Path(folder))
        logs.follow("app.log")
        n = 0
        try:
            for step in ["write", *steps, "write"]:
                if step == "write":
                    n += 1
                    logs.append("app.log", "ERROR the same")
                    continue
                logs.wait_for(*["ERROR the same"] * n)
                if step != "rename":
                    logs.stop()
                if step != "restart":
                    _take_step(logs, "rename", "app.log", [])
                if step != "rename":
                    n += 1
                    logs.append("app.log", "ERROR the same")
                    logs.follow("app.log")
            logs.wait_for(*["ERROR the same"] * n)
        finally:
            logs.stop()
