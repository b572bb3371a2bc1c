"""The logging handler, in a process that is its own master."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import alarm_mw
from alarm_mw.app import current_master
from alarm_mw.app.local_master import LocalClient
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.origin import in_alarm_code
from alarm_mw.testing import Alarms


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Give a file that the alarm `a` appends to, and stop the alarms afterwards."""
    path = tmp_path / "out.txt"
    yield path
    alarm_mw.shutdown()


@pytest.fixture
def alarms() -> Iterator[Alarms]:
    """Give what the alarm `a` fires, every repetition included."""
    with Alarms(log_alarms=["a TERRIBLE"], alarm_freq=0) as alarms:
        yield alarms


def messages(alarms: Alarms) -> list[str]:
    return [firing.text for firing in alarms.fired()]


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


SLOW_TO_LOAD = """
import logging.config
{before}
logging.config.dictConfig({{
    "version": 1,
    "handlers": {{"alarms": {{"class": "alarm_mw.AlarmHandler", "alarms": {{"a": "{alarm}"}}, "log_alarms": ["a x"]}}}},
    "root": {{"handlers": ["alarms"]}},
}})
logging.error("an x")
print("goes on", flush=True)
import os
os._exit(0)
"""


CAPTURED = "import alarm_mw; alarm_mw.init(alarms={'b': 'log:'}, log_alarms=['b y']); alarm_mw.capture_stdio()\n"


@pytest.mark.parametrize("before", ["", CAPTURED], ids=["nothing", "prints are read"])
@pytest.mark.parametrize(
    "alarm", ["curl:http://127.0.0.1:9/", "curl:smtp://127.0.0.1:9/;mail_to=a@b.c", "xmpp:a@b;c;d@e"]
)
def test_an_action_may_ask_for_the_lock_that_dict_config_holds(alarm: str, before: str) -> None:
    """Libraries make loggers while they are loaded: the application does not wait for them, nor they for it."""
    command = [sys.executable, "-c", SLOW_TO_LOAD.format(alarm=alarm, before=before)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_the_same_dict_config_again_changes_nothing(out: Path) -> None:
    """The worker goes on and knows what it has fired; nothing waits for the lock that `dictConfig` holds."""
    handler = {"class": "alarm_mw.AlarmHandler", "alarms": {"a": f"cmd:cat >> {out}"}, "log_alarms": ["a TERRIBLE"]}
    named = {"again": {"handlers": ["alarm"], "propagate": False}}
    config = {"version": 1, "disable_existing_loggers": False, "handlers": {"alarm": handler}, "loggers": named}
    for _ in range(2):
        logging.config.dictConfig(config)
        client = current_master.current()
        logging.getLogger("again").warning("TERRIBLE")
    logging.config.dictConfig(config)
    assert current_master.current() is client
    handler["log_alarms"] = ["a OTHER"]
    logging.config.dictConfig(config)
    assert current_master.current() is not client
    assert alarm_mw.shutdown()
    assert out.read_text() == "TERRIBLE\n"
    logging.getLogger("again").handlers.clear()


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


class OwnTraceback(logging.Formatter):
    """A formatter that shows no traceback, as one that keeps secrets."""

    def formatException(self, ei: Any) -> str:
        return "(traceback left out)"


@pytest.mark.parametrize("formatter", [None, logging.Formatter("%(levelname)s %(message)s")])
@pytest.mark.parametrize("error", [None, KeyError("secret")])
def test_a_later_handler_prints_its_own_traceback(
    formatter: logging.Formatter | None, error: Exception | None, alarms: Alarms, logger: logging.Logger
) -> None:
    """A handler after ours prints the record as without ours: the traceback by its own formatter."""
    ours, later = alarm_mw.AlarmHandler(), logging.StreamHandler(io.StringIO())
    if formatter is not None:
        ours.setFormatter(formatter)
    later.setFormatter(OwnTraceback())
    logger.handlers = [ours, later]  # without pytest's, which would be first
    logger.error("TERRIBLE", exc_info=error)
    assert later.stream.getvalue() == ("TERRIBLE\n(traceback left out)\n" if error else "TERRIBLE\n")
    assert ["secret" in text for text in messages(alarms)] == [error is not None]


@pytest.mark.parametrize("name", [None, 5, "", OSError("shown as text")])
def test_a_record_with_an_odd_name_is_judged(
    name: Any, alarms: Alarms, logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    """A record that was made by hand, whose logger's name is None or no text, raises the alarm all the same."""
    logger.addHandler(alarm_mw.AlarmHandler())
    record = logging.makeLogRecord({"name": name, "levelno": logging.ERROR, "msg": "TERRIBLE"})
    logger.handle(record)
    assert messages(alarms) == ["TERRIBLE"]
    assert "Traceback" not in capfd.readouterr().err


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


@pytest.mark.parametrize("rule", ["a TERRIBLE", r"a \\ud800"])
def test_text_that_cannot_be_encoded_is_shown_with_escapes(out: Path, rule: str) -> None:
    """A lone surrogate in a message breaks no log call and loses no alarm: rules see what the alarm shows."""
    start(out, rule)
    # Not through a logger: pytest would take the text for its report, and could not send that to another process.
    alarm_mw.AlarmHandler().handle(logging.makeLogRecord({"name": "app", "msg": "TERRIBLE \ud800"}))
    assert alarm_mw.shutdown()
    assert out.read_bytes() == b"TERRIBLE \\ud800\n"


def test_a_wrong_configuration_is_an_error_at_once() -> None:
    """Keywords with mistakes raise ConfigError with all of them."""
    with pytest.raises(ConfigError) as caught:
        alarm_mw.AlarmHandler(alarms={"a": "cdm:x", "b": "nonsense"})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("number", [{"alarm_freq": -1.0}, {"alarm_msg_size": 0}, {"alarm_rate": "often"}])
def test_each_keyword_counts_by_itself(number: dict[str, Any]) -> None:
    """A number beside no alarms and no rules is looked at as well."""
    with pytest.raises(ConfigError, match=next(iter(number))):
        alarm_mw.AlarmHandler(**number)


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


def test_extra_becomes_fields(alarms: Alarms, logger: logging.Logger) -> None:
    """What was given as `extra` goes with the alarm as text, within bounds; what a record has of itself does not."""
    logger.addHandler(alarm_mw.AlarmHandler())
    many = {f"x{n:03}": "y" * 5000 for n in range(100)}
    logger.error("TERRIBLE", extra={"order": 17, "broken": Unprintable(), "_own": 1, **many})
    fields = alarms.fired()[0].record.fields
    assert (fields["order"], fields["broken"]) == ("17", "<Unprintable>")
    assert set(fields) == {"order", "broken", *(f"x{n:03}" for n in range(62))}
    assert {len(value) for name, value in fields.items() if name.startswith("x")} == {1024}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_level_formatter_and_filters_are_those_of_every_handler(alarms: Alarms, logger: logging.Logger) -> None:
    """A record below the handler's level, or that a filter refuses, is not seen; a formatter decides what is."""
    handler = alarm_mw.AlarmHandler("WARNING")
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    logger.info("TERRIBLE but low")
    logger.error("TERRIBLE secret")
    logger.error("TERRIBLE")
    assert messages(alarms) == ["test-handler: TERRIBLE"]


def test_warnings_raise_alarms(alarms: Alarms) -> None:
    """With `logging.captureWarnings` a warning of Python's is a record like any other."""
    handler = alarm_mw.AlarmHandler()
    logging.getLogger("py.warnings").addHandler(handler)
    logging.captureWarnings(capture=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=True)
            warnings.warn("TERRIBLE", DeprecationWarning, stacklevel=1)
    finally:
        logging.captureWarnings(capture=False)
        logging.getLogger("py.warnings").removeHandler(handler)
    assert alarms.fired(match="DeprecationWarning: TERRIBLE")


@dataclass(frozen=True)
class Costly:
    """Counts how often it is shown."""

    shown: list[int]

    def __str__(self) -> str:
        self.shown.append(1)
        return "TERRIBLE"


def test_a_record_that_no_rule_asks_for_is_not_even_formatted(out: Path, tmp_path: Path) -> None:
    """Where all rules ask for a level or a logger, records below it cost no formatting, and are counted."""
    (tmp_path / "alarms.toml").write_text(
        '[alarms.a]\naction = "log"\n[[rules]]\npattern = "never"\nlevel = "ERROR"\nalarms = ["a"]\n'
    )
    alarm_mw.init(tmp_path / "alarms.toml")
    handler = alarm_mw.AlarmHandler()
    costly = Costly([])
    handler.handle(logging.makeLogRecord({"name": "app", "levelno": logging.INFO, "msg": costly}))
    assert costly.shown == []
    handler.handle(logging.makeLogRecord({"name": "app", "levelno": logging.ERROR, "msg": costly}))
    assert costly.shown == [1]
    assert screened_out() == {"lines": 2, "screened_out": 2}


def screened_out() -> dict[str, int]:
    """Return what this process has counted of log records and not told its master yet."""
    client = current_master.current()
    assert isinstance(client, LocalClient)
    return client.tally.take()["logging"]


def test_one_call_through_two_handlers_fires_once(alarms: Alarms, logger: logging.Logger) -> None:
    """A handler on the logger and one on its parent see the same record, which is one alarm."""
    child = logger.getChild("child")
    logger.addHandler(alarm_mw.AlarmHandler())
    child.addHandler(alarm_mw.AlarmHandler())
    child.error("TERRIBLE")
    child.error("TERRIBLE")
    assert messages(alarms) == ["TERRIBLE"] * 2
    child.handlers.clear()


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
    """After a fork the child starts a worker of its own at its first record, and the parent goes on.

    Since Python 3.12 a fork beside any thread warns of it.
    """
    out = tmp_path / "out.txt"
    program = PROGRAM.replace("sleep 0.3; ", "") + (
        "import os\n"
        "pid = os.fork()\n"
        "logging.error('TERRIBLE in %s', 'parent' if pid else 'child')\n"
        "if pid: os.waitpid(pid, 0)\n"
    )
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program, str(out)]
    result = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert result.stderr == b""
    assert sorted(out.read_text().splitlines()) == ["TERRIBLE at exit", "TERRIBLE in child", "TERRIBLE in parent"]


def test_importing_the_handler_loads_nothing_heavy() -> None:
    """An application that only imports the package pays next to nothing for it."""
    heavy = ["httpx", "slixmpp", "starlette", "asyncio", "hyperscan", "alarm_mw.master"]
    program = f"import sys, alarm_mw; alarm_mw.AlarmHandler; print([m for m in {heavy!r} if m in sys.modules])"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=environ) == "[]\n"


@pytest.mark.parametrize("others", [0, 1])
def test_what_our_own_loggers_say_is_shown_once(others: int) -> None:
    """An application whose only handler is ours hears of an alarm that goes nowhere, as it would without any."""
    program = (
        "import logging, alarm_mw\n"
        "handlers = [alarm_mw.AlarmHandler(), alarm_mw.AlarmHandler()]\n"
        f"logging.basicConfig(handlers=handlers + {others} * [logging.StreamHandler()], format='%(message)s')\n"
        "logging.error('one')\n"
        "logging.getLogger('alarm_mw.x').info('not even a warning')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["alarms go nowhere", *others * ["one"]]
