"""Masters that live and do not answer."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest

from alarm_mw.supervisor.carriers.carriers import TOO_MANY
from alarm_mw.supervisor.carriers.watchdog import LOOKS, PATIENCE, VARIABLE, Watchdog, patience_of

# Writes ten lines for each line of its input: more than a pipe holds.
LINES = """
import sys
n = 0
for line in sys.stdin:
    for i in range(n, n + 10):
        print(i, "x" * 20000)
    n += 10
"""


def looks(watchdog: Watchdog, n: int) -> list[bool]:
    """Look in time, so often."""
    return [watchdog.look(watchdog.due) for _ in range(n)]


def test_one_that_answers_is_left_alone() -> None:
    """An answer at any time before the last look is one."""
    watchdog = Watchdog(10.0, 0.0)
    for _ in range(5):
        assert not any(looks(watchdog, LOOKS))
        watchdog.heard()


def test_one_that_does_not_answer_is_given_up() -> None:
    """The time from the first question without an answer to the end is the patience."""
    watchdog = Watchdog(10.0, 0.0)
    first = watchdog.due
    assert looks(watchdog, LOOKS + 1) == [False] * LOOKS + [True]
    assert watchdog.due - 10.0 / LOOKS == pytest.approx(first + 10.0)


def test_a_supervisor_that_was_stopped_itself_blames_nobody() -> None:
    """After a stop of the whole job, or on a machine that starves us, counting begins anew."""
    watchdog = Watchdog(10.0, 0.0)
    looks(watchdog, LOOKS)
    assert not watchdog.look(watchdog.due + 1000.0)
    assert not any(looks(watchdog, LOOKS))
    assert watchdog.look(watchdog.due)


def test_a_watchdog_without_patience_never_looks() -> None:
    """Zero turns it off."""
    assert Watchdog(0.0, 5.0).due == math.inf


@pytest.mark.parametrize(
    ("said", "seconds"), [("2.5", 2.5), ("0", 0.0), ("", PATIENCE), ("inf", PATIENCE), ("x", PATIENCE)]
)
def test_the_patience_is_the_environments(said: str, seconds: float) -> None:
    """A number of seconds counts, anything else is as if it were not there."""
    assert patience_of({VARIABLE: said}) == seconds
    assert patience_of({}) == PATIENCE


def test_a_stopped_master_is_replaced(supervise_python: Any) -> None:
    """The server waits in its print for no longer than the patience; every line comes out once, and it is told why."""
    run = supervise_python(LINES, env={**os.environ, VARIABLE: "1"})
    run.say("more\n")
    numbers = [int(run.output.next().split()[0]) for _ in range(10)]
    first = int(run.heard.until("master").split()[1])
    os.kill(first, signal.SIGSTOP)
    run.say("more\n")
    numbers += [int(run.output.next().split()[0]) for _ in range(10)]
    assert numbers == list(range(20))
    assert int(run.heard.until("master").split()[1]) != first
    assert "does not answer" in run.errors().next()
    run.process.stdin.close()
    assert run.end() == 0


def test_masters_that_keep_hanging_are_given_up(supervise: Any) -> None:
    """When one after the other hangs, the output passes without a master for a while."""
    habit = {"habit": "deaf"}
    run = supervise("sh", "-c", "read line; echo through", settings=habit, env={**os.environ, VARIABLE: "0.3"})
    errors = run.errors()
    for _ in range(TOO_MANY):
        assert "does not answer" in errors.next()
    assert "keeps dying" in errors.next()
    run.say("\n")
    assert run.output.next() == "through"
    assert run.end() == 0
