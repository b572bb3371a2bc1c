"""The loguru sink, with loguru itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.testing import Alarms

BEGIN = """
import os, sys
import alarm_mw
from alarm_mw.loguru import AlarmSink
from loguru import logger
"""

INIT = "alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'}, log_alarms=['a TERRIBLE|ValueError'], alarm_freq=0)\n"


def run(directory: Path, program: str, *before: str) -> bytes:
    """Run a program, which must end well, and return what it printed."""
    command = [*before, sys.executable, "-c", BEGIN + program]
    done = subprocess.run(command, cwd=directory, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout + done.stderr


@pytest.fixture
def alarms() -> Iterator[Alarms]:
    with Alarms(log_alarms=["a TERRIBLE"], alarm_freq=0) as alarms:
        yield alarms


@pytest.fixture
def logger() -> Iterator[Any]:
    """Give loguru's one logger without its sinks."""
    from loguru import logger  # noqa: PLC0415  # what is imported stays in this process

    logger.remove()
    yield logger
    logger.remove()


def test_a_message_is_put_to_the_rules_with_its_facts(alarms: Alarms, logger: Any) -> None:
    """Level, logger and time are the message's, what was bound is a field, an exception stands below."""
    from alarm_mw.loguru import AlarmSink  # noqa: PLC0415  # as above

    logger.add(AlarmSink(), format="{message}", backtrace=False, diagnose=False)
    logger.info("fine")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.bind(order=17).exception("TERRIBLE")
    firing = alarms.fired()[0]
    assert firing.text.startswith("TERRIBLE\n")
    assert "ZeroDivisionError: division by zero" in firing.text
    assert (firing.record.source, firing.record.level, firing.record.logger) == ("loguru", 40, __name__)
    assert firing.record.fields == {"order": "17"}
    assert len(alarms.fired()) == 1


def test_a_queue_of_logurus_and_forks_lose_nothing(tmp_path: Path) -> None:
    """With `enqueue=True` each message of parent and child raises its alarm, once."""
    program = (
        INIT + "logger.remove()\n"
        "logger.add(AlarmSink(), format='{message}', enqueue=True)\n"
        "logger.error('TERRIBLE parent 1')\n"
        "logger.complete()\n"
        "if not (pid := os.fork()):\n"
        "    logger.error('TERRIBLE child')\n"
        "    logger.complete()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "logger.error('TERRIBLE parent 2')\n"
        "logger.complete()\n"
    )
    run(tmp_path, program)
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert sorted(lines) == ["TERRIBLE child", "TERRIBLE parent 1", "TERRIBLE parent 2"]


def test_what_is_also_printed_fires_once(tmp_path: Path) -> None:
    """Beside loguru's own sink on standard error, in a format of its own, a message and its traceback are one alarm."""
    program = (
        INIT + "alarm_mw.capture_stdio()\n"
        "logger.add(AlarmSink(), format='{message}')\n"
        "logger.error('TERRIBLE message')\n"
        "try: int('x')\n"
        "except ValueError: logger.exception('it broke again')\n"
    )
    printed = run(tmp_path, program)
    assert printed.count(b"TERRIBLE message") == 1
    assert (tmp_path / "out.txt").read_text().count("TERRIBLE message") == 1
    assert (tmp_path / "out.txt").read_text().count("ValueError: invalid literal") == 1


def test_what_cannot_be_sent_breaks_no_log_call(alarms: Alarms, logger: Any) -> None:
    """Odd text and values go as what they look like."""
    from alarm_mw.loguru import AlarmSink  # noqa: PLC0415  # as above

    logger.add(AlarmSink(), format="{message}", catch=False)
    logger.bind(odd=b"\xff", text="\ud800").error("TERRIBLE \ud800")
    assert alarms.fired()[0].record.fields == {"odd": r"b'\xff'", "text": "\\ud800"}


def test_loguru_is_not_loaded_by_us() -> None:
    """Neither the package nor the sink imports loguru: who uses it has it."""
    program = "import sys, alarm_mw.loguru; sys.exit('loguru' in sys.modules)"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    subprocess.run([sys.executable, "-c", program], check=True, env=environ)
