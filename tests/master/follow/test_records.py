"""Records of several lines in followed files: tracebacks, what ``[records.file]`` says, and lines around matches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from alarm_mw.config.settings import StreamRecords
from alarm_mw.master.follow.intake import Assembly
from alarm_mw.model.types import Context, Rule

TRACEBACK = (
    "Traceback (most recent call last):",
    '  File "/srv/shop/pay.py", line 7, in pay',
    "    charge(order)",
    '  File "/srv/shop/card.py", line 12, in charge',
    "    raise CardError(order)",
    "shop.CardError: ERROR order 7",
)

#: Long enough for a test to take its steps while a traceback is not complete.
PATIENT = StreamRecords(max_wait=1.0)


@pytest.fixture
def assembled(logs: Any) -> Any:
    logs.assembly = Assembly(StreamRecords(max_wait=0.05))
    return logs


def total(worker: Any) -> int:
    """Return how many lines were counted, those of records included."""
    return int(worker.counts.get("lines", 0)) + len(worker.records)


def test_a_traceback_is_one_record(assembled: Any) -> None:
    """From its header to the exception; the lines before and after it are judged by themselves."""
    assembled.append("app.log", "old")
    assembled.follow("app.log")
    assembled.append("app.log", "12:00:01 ERROR before", *TRACEBACK, "12:00:02 ERROR after")
    text = "\n".join(TRACEBACK)
    assembled.wait_for("12:00:01 ERROR before", text, "12:00:02 ERROR after")
    wait_until(lambda: total(assembled.worker) == len(TRACEBACK) + 2)
    (record,) = (each for each in assembled.worker.records if each.text == text)
    assert record.fields == {"path": str(assembled.folder / "app.log")}


def test_a_traceback_that_no_rule_matches_is_counted(assembled: Any) -> None:
    """Line by line, as the others."""
    assembled.append("app.log", "old")
    assembled.follow("app.log")
    assembled.append("app.log", *TRACEBACK[:-1], "shop.CardWarning: order 7", "fine")
    wait_until(lambda: total(assembled.worker) == len(TRACEBACK) + 1)
    assert not assembled.worker.records


def test_the_end_does_not_divide_a_traceback(assembled: Any) -> None:
    """What is in the file when the follower is stopped is judged whole, as soon as it is complete."""
    assembled.append("app.log", "old")
    assembled.follow("app.log")
    assembled.append("app.log", *TRACEBACK)
    assembled.stop()
    assert assembled.worker.lines == ["\n".join(TRACEBACK)]


def test_records_are_as_the_configuration_says(logs: Any) -> None:
    """For other languages, a regexp says how each record begins."""
    logs.assembly = Assembly(StreamRecords(start=r"^\d\d:", max_wait=0.05))
    logs.append("app.log", "old")
    logs.follow("app.log")
    logs.append("app.log", "12:00 ERROR it failed", "java.lang.NullPointerException", "\tat shop.Pay", "12:01 fine")
    logs.wait_for("12:00 ERROR it failed\njava.lang.NullPointerException\n\tat shop.Pay")
    wait_until(lambda: total(logs.worker) == 4)


def test_a_change_of_the_configuration_ends_open_records(logs: Any) -> None:
    """What was begun under the old one is one record; afterwards each line is one."""
    logs.assembly = Assembly(StreamRecords(max_wait=60))
    logs.append("app.log", "old")
    follower = logs.follow("app.log")
    logs.append("app.log", *TRACEBACK[:3])
    wait_until(lambda: any(b"charge" in data for data in logs.worker.positions.values()))
    logs.assembly = Assembly()
    logs.rule = Rule("ERROR|Traceback", ("a",))
    follower.change(logs.follows("app.log"), logs.prefilter(), logs.assembly)
    logs.append("app.log", TRACEBACK[0], "ERROR 1")
    logs.wait_for("\n".join(TRACEBACK[:3]), TRACEBACK[0], "ERROR 1")


def test_a_traceback_is_judged_though_its_file_has_gone(logs: Any) -> None:
    """What was read of it before the file was truncated, and is nowhere else."""
    logs.assembly = Assembly(StreamRecords(max_wait=60))
    logs.append("app.log", "old")
    logs.follow("app.log")
    logs.append("app.log", TRACEBACK[0], *TRACEBACK[3:])
    wait_until(lambda: any(b"CardError" in data for data in logs.worker.positions.values()))
    os.truncate(logs.folder / "app.log", 0)
    logs.wait_for("\n".join([TRACEBACK[0], *TRACEBACK[3:]]))


def test_rules_get_the_lines_around_their_matches(logs: Any) -> None:
    """Those before it also if they were read by the follower before, and those after it once they have come."""
    logs.assembly = Assembly(keeps_lines=True)
    logs.rule = Rule("ERROR", ("a",), context=Context(before=2, after=1))
    logs.append("app.log", "one", "two", "three")
    logs.follow("app.log")
    logs.stop()
    logs.follow("app.log")
    logs.append("app.log", "ERROR 1")
    wait_until(lambda: any(b"ERROR 1" in data for data in logs.worker.positions.values()))
    logs.kill()
    logs.follow("app.log")
    logs.append("app.log", "four", "five")
    logs.wait_for("ERROR 1")
    (record,) = logs.worker.records
    assert (record.before, record.after) == (b"two\nthree\n", b"four\n")
    wait_until(lambda: total(logs.worker) == 3)


STEPS = st.lists(st.sampled_from(["line", "line", "kill", "kill", "hold", "go on", "copy", "rename"]), max_size=12)


@given(steps=STEPS)
@settings(max_examples=8)
def test_no_kill_divides_or_repeats_a_traceback(make_logs: Callable[[Path], Any], steps: list[str]) -> None:
    """In the middle of it, whatever was written down, and whatever becomes of the log: it is one record, once."""
    with tempfile.TemporaryDirectory() as folder:
        logs = make_logs(Path(folder))
        logs.assembly = Assembly(PATIENT)
        log, lines = logs.folder / "app.log", iter(TRACEBACK)
        written = 0
        logs.follow("app.log")
        logs.append("app.log", "fine")
        wait_until(lambda: total(logs.worker) == 1)
        try:
            for step in ["line", *steps, *["line"] * len(TRACEBACK)]:
                if step == "line" and (line := next(lines, "")):
                    written += 1
                    with (logs.folder / "app.log.1" if written > 1 and not log.exists() else log).open("a") as file:
                        file.write(f"{line}\n")
                elif step == "kill":
                    logs.kill()
                    logs.follow("app.log")
                elif step == "hold":
                    logs.worker.is_free = False
                elif step == "go on":
                    logs.worker.go_on()
                elif step == "rename" and log.exists() and not (logs.folder / "app.log.1").exists():
                    logs.rename("app.log", "app.log.1")  # the writer goes on with it
                elif step == "copy" and written == len(TRACEBACK) and log.exists():
                    logs.copy_and_truncate("app.log", "app.log.2")
            logs.worker.go_on()
            logs.wait_for("\n".join(TRACEBACK))
            logs.stop()
            assert total(logs.worker) == len(TRACEBACK) + 1
        finally:
            logs.stop()
