"""The logging handler, in a process that is its own master."""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import alarm_mw
from alarm_mw.errors import ConfigError
from alarm_mw.transports.origin import in_alarm_code


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Give a file that the alarm `a` appends to, and stop the alarms afterwards."""
    path = tmp_path / "out.txt"
    yield path
    alarm_mw.shutdown()


def start(out: Path, *rules: str, **keywords: Any) -> None:
    alarm_mw.init(alarms={"a": f"cmd:cat >> {out}"}, log_alarms=rules, **keywords)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger("test-handler")
    made.propagate = False
    yield made
    made.handlers.clear()


def test_a_record_that_matches_raises_the_alarm(out: Path, logger: logging.Logger) -> None:
    """A log call whose line matches a rule runs the alarm's command with that line."""
    start(out, "a ^TERRIBLE")
    logger.addHandler(alarm_mw.AlarmHandler())
    logger.error("TERRIBLE ALARM %d", 1)
    logger.error("not so terrible")
    assert alarm_mw.shutdown()
    assert out.read_text() == "TERRIBLE ALARM 1\n"


def test_dict_config_knows_the_handler_by_its_dotted_name(out: Path) -> None:
    """`dictConfig` makes the handler with its options as keywords, and no `init` is needed."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
            "handlers": {
                "alarm": {
                    "class": "alarm_mw.AlarmHandler",
                    "level": "WARNING",
                    "formatter": "plain",
                    "alarms": {"a": f"cmd:cat >> {out}"},
                    "log_alarms": ["a TERRIBLE"],
                }
            },
            "loggers": {"from-dict": {"handlers": ["alarm"], "propagate": False}},
        }
    )
    logging.getLogger("from-dict").warning("TERRIBLE")
    logging.getLogger("from-dict").info("TERRIBLE but too low")
    assert alarm_mw.shutdown()
    assert out.read_text() == "WARNING TERRIBLE\n"
    logging.getLogger("from-dict").handlers.clear()


def test_file_config_knows_the_handler_by_its_dotted_name(out: Path, tmp_path: Path) -> None:
    """`fileConfig` makes the handler with its keywords."""
    conf = tmp_path / "logging.ini"
    conf.write_text(
        "[loggers]\nkeys=root,app\n[handlers]\nkeys=alarm\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n"
        "[logger_app]\nqualname=from-file\nhandlers=alarm\npropagate=0\n"
        "[handler_alarm]\nclass=alarm_mw.AlarmHandler\nlevel=ERROR\n"
        f"kwargs={{'alarms': {{'a': 'cmd:cat >> {out}'}}, 'log_alarms': ['a TERRIBLE']}}\n"
    )
    root_handlers = logging.getLogger().handlers[:]
    logging.config.fileConfig(conf, disable_existing_loggers=False)
    logging.getLogger().handlers[:] = root_handlers
    logging.getLogger("from-file").error("TERRIBLE")
    assert alarm_mw.shutdown()
    assert out.read_text() == "TERRIBLE\n"
    logging.getLogger("from-file").handlers.clear()


def test_a_traceback_is_part_of_the_alarm(out: Path, logger: logging.Logger) -> None:
    """A rule can match a line of the traceback, and the alarm shows the record whole."""
    start(out, "a ^ZeroDivisionError")
    logger.addHandler(alarm_mw.AlarmHandler())
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("it broke")
    assert alarm_mw.shutdown()
    lines = out.read_text().splitlines()
    assert lines[0] == "it broke"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_records_of_alarm_code_are_not_looked_at(out: Path) -> None:
    """Our own loggers, and any logger used inside an action, raise no alarm."""
    start(out, "a .")
    handler = alarm_mw.AlarmHandler()
    handler.handle(logging.makeLogRecord({"name": "alarm_mw.delivery", "msg": "ours"}))
    token = in_alarm_code.set(True)
    handler.handle(logging.makeLogRecord({"name": "httpx", "msg": "used by an action"}))
    in_alarm_code.reset(token)
    handler.handle(logging.makeLogRecord({"name": "app", "msg": "theirs"}))
    assert alarm_mw.shutdown()
    assert out.read_text() == "theirs\n"


def test_text_that_cannot_be_encoded_is_shown_with_escapes(out: Path, logger: logging.Logger) -> None:
    """A lone surrogate in a message breaks no log call and loses no alarm."""
    start(out, "a TERRIBLE")
    logger.addHandler(alarm_mw.AlarmHandler())
    logger.error("TERRIBLE \ud800")
    assert alarm_mw.shutdown()
    assert out.read_bytes() == b"TERRIBLE \\ud800\n"


def test_a_wrong_configuration_is_an_error_at_once() -> None:
    """Keywords with mistakes raise ConfigError with all of them."""
    with pytest.raises(ConfigError) as caught:
        alarm_mw.AlarmHandler(alarms={"a": "cdm:x", "b": "nonsense"})
    assert len(caught.value.problems) == 2


def test_a_signal_handler_may_log_while_a_log_call_is_under_way(out: Path) -> None:
    """Log calls in a signal handler neither deadlock nor lose an alarm."""
    start(out, "a TERRIBLE", alarm_freq=0)
    handler = alarm_mw.AlarmHandler()
    logged = 0

    def log_too(*_: object) -> None:
        nonlocal logged
        logged += 1
        handler.handle(logging.makeLogRecord({"name": "app", "msg": f"TERRIBLE in handler {logged}"}))

    before = signal.signal(signal.SIGALRM, log_too)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for n in range(300):
            handler.handle(logging.makeLogRecord({"name": "app", "msg": f"TERRIBLE {n}"}))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert alarm_mw.shutdown(60.0)
    assert len(out.read_text().splitlines()) == 300 + logged


PROGRAM = """
import logging, sys
import alarm_mw
alarm_mw.init(alarms={"a": "cmd:sleep 0.3; cat >> " + sys.argv[1]}, log_alarms=["a TERRIBLE"])
logging.getLogger().addHandler(alarm_mw.AlarmHandler())
logging.error("TERRIBLE at exit")
"""


def test_what_was_logged_before_exit_is_delivered(tmp_path: Path) -> None:
    """A program that logs and ends at once still raises its alarm, and ends well."""
    out = tmp_path / "out.txt"
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(out)], check=True, capture_output=True, timeout=60)
    assert result.stderr == b""
    assert out.read_text() == "TERRIBLE at exit\n"


def test_a_forked_child_raises_alarms_of_its_own(tmp_path: Path) -> None:
    """After a fork the child starts a worker of its own at its first record, and the parent goes on."""
    out = tmp_path / "out.txt"
    program = PROGRAM.replace("sleep 0.3; ", "") + (
        "import os\n"
        "pid = os.fork()\n"
        "logging.error('TERRIBLE in %s', 'parent' if pid else 'child')\n"
        "if pid: os.waitpid(pid, 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(out)], check=True, capture_output=True, timeout=60)
    assert result.stderr == b""
    assert sorted(out.read_text().splitlines()) == ["TERRIBLE at exit", "TERRIBLE in child", "TERRIBLE in parent"]


def test_importing_the_handler_loads_nothing_heavy() -> None:
    """An application that only imports the package pays next to nothing for it."""
    heavy = ["httpx", "slixmpp", "starlette", "asyncio", "hyperscan", "alarm_mw.master"]
    program = f"import sys, alarm_mw; alarm_mw.AlarmHandler; print([m for m in {heavy!r} if m in sys.modules])"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=environ) == "[]\n"
