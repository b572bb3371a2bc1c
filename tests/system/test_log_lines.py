"""The program's own log lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime

import pytest

from alarm_mw.system.log_lines import VARIABLE, log_line

LOGGING = """
import logging
from alarm_mw.system.log_lines import start_logging
start_logging("WARNING", "mule 2: ")
log = logging.getLogger("alarm_mw.x")
log.info("not shown")
log.warning("%d firings wait", 7)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it failed")
"""


def logged(form: str) -> str:
    environ = {**os.environ, VARIABLE: form}
    return subprocess.run(
        [sys.executable, "-c", LOGGING], env=environ, capture_output=True, text=True, check=True
    ).stderr


def test_a_line_has_its_time() -> None:
    """For people, each line has the time, the program, the level and the text."""
    first, *_ = logged("text").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} alarm-mw: mule 2: WARNING: 7 firings wait", first)


def test_json_is_one_object_a_line() -> None:
    """For programs, each line is an object, with the traceback within its message."""
    first, second = map(json.loads, logged("json").splitlines())
    assert (first["level"], first["process"], first["message"]) == ("WARNING", "mule 2", "7 firings wait")
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert isinstance(first["pid"], int)
    assert second["message"].startswith("it failed\nTraceback (most recent call last):")


@pytest.mark.parametrize(("form", "shown"), [("json", '{"time": "'), ("nonsense", "20"), ("", "20")])
def test_what_is_no_format_is_text(form: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `json` changes the lines; a process that is the only one of its kind has no name in them."""
    monkeypatch.setenv(VARIABLE, form)
    line = log_line("WARNING", "x", 1_790_000_000.0625)
    assert line.startswith(shown)
    assert "process" not in line
    assert (",062 alarm-mw: WARNING: x" in line) is (form != "json")
