"""Log calls inside of log calls: in signal handlers, formatters, values and whatever runs when an alarm fires."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

SIGNALS = """
import signal
logged = 0
def log_too(*_):
    global logged
    logged += 1
    logger.error("TERRIBLE in handler %d", logged)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
signal.signal(signal.SIGALRM, log_too)
log_too()
for n in range(500): logger.error("TERRIBLE %d", n)
signal.setitimer(signal.ITIMER_REAL, 0)
print(logged)
"""

RECURSION = """
class Chatty(logging.Formatter):
    def format(self, record):
        logger.error("TERRIBLE formatter")
        return "formatted " + super().format(record)
class Value:
    def __str__(self):
        logging.getLogger("app").error("TERRIBLE value")
        return "shown"
logger.handlers[0].setFormatter(Chatty())
logger.error("TERRIBLE 1")
logger.handlers[0].setFormatter(None)
logger.error("TERRIBLE 2 %s", Value())
"""

RECEIVER = """
from alarm_mw import signals
@signals.fired.connect
def tell(alarm, firing): logger.error("TERRIBLE told %s", firing.text)
logger.error("TERRIBLE 1")
"""


@pytest.mark.parametrize("how", ["supervised", "alone"])
def test_a_signal_handler_logs_while_the_handler_is_at_work(hazard: Any, how: str) -> None:
    """However often it interrupts, nothing hangs, and each record is fired once."""
    logged = int(getattr(hazard, how)(SIGNALS))
    expected = [*(f"TERRIBLE {n}" for n in range(500)), *(f"TERRIBLE in handler {n + 1}" for n in range(logged))]
    assert Counter(hazard.fired()) == Counter(expected)


def test_what_formats_a_record_may_log(hazard: Any) -> None:
    """A formatter that logs to its own handler has its record fired once, in its bare form, and so has a value."""
    hazard.supervised(RECURSION)
    assert Counter(hazard.fired()) == Counter(
        ["TERRIBLE formatter", "formatted TERRIBLE 1", "TERRIBLE value", "TERRIBLE 2 shown"]
    )


def test_who_is_told_of_a_firing_may_log(hazard: Any) -> None:
    """A receiver of our signals that logs what it was told raises no alarm, which would be told again."""
    hazard.alone(RECEIVER)
    assert hazard.fired() == ["TERRIBLE 1"]
