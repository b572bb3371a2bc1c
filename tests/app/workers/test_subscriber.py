"""`on_signal`, in a process that is its own master; with a master, see ``tests/servers/test_signals.py``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import alarm_mw
from alarm_mw.model.errors import NotRunningError


def run(program: str) -> str:
    begin = "import alarm_mw, os, sys, threading, queue\nran = queue.Queue()\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_handler_runs_in_this_process() -> None:
    """Under `init` a `signal:` alarm runs the handlers here, each with the number, whatever the target."""
    program = """
@alarm_mw.on_signal(17)
def first(number):
    ran.put(("first", number, threading.current_thread().name))

@alarm_mw.on_signal(17, target="workers")
def second(number):
    ran.put(("second", number, os.getpid() == here))

here = os.getpid()
alarm_mw.init(alarms={"s": "signal:17"}, log_alarms=["s CACHE FULL"])
alarm_mw.alarm("s", "x")
print(ran.get(timeout=30), ran.get(timeout=30), first.__name__)
"""
    assert run(program) == "('first', 17, 'alarm-mw-handlers') ('second', 17, True) first\n"


def test_handlers_come_before_or_after_init_and_may_raise() -> None:
    """What one raises, even SystemExit, is logged, and the next signal is handled."""
    program = """
alarm_mw.init(alarms={"s": "signal:17", "t": "signal:18"})

@alarm_mw.on_signal(17)
def fail(number):
    sys.exit("on purpose")

alarm_mw.on_signal(18)(ran.put)
alarm_mw.alarm("s", "x")
alarm_mw.shutdown()
alarm_mw.init(alarms={"t": "signal:18"})
alarm_mw.alarm("t", "x")
print(ran.get(timeout=30))
"""
    printed = run(program)
    assert "18\n" in printed
    assert "exception in the handler of signal 17" in printed
    assert "SystemExit: on purpose" in printed


def test_a_forked_child_runs_its_parents_handlers() -> None:
    """A child that raises the signal itself runs the handlers that were registered before the fork, and its own."""
    program = """
alarm_mw.on_signal(17)(lambda number: ran.put(os.getpid()))
alarm_mw.init(alarms={"s": "signal:17"})
pid = os.fork()
alarm_mw.alarm("s", "x")
assert ran.get(timeout=30) == os.getpid()
assert ran.empty()
alarm_mw.shutdown()
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print("both")
"""
    assert run(program) == "both\n"


def test_a_master_that_is_not_there_does_no_harm() -> None:
    """The thread keeps looking for it, and nothing waits for the thread."""
    program = """
os.environ["ALARM_MW_SOCKET"] = "/nonexistent/alarm.sock"
alarm_mw.on_signal(17)(print)
if os.fork():
    os.wait()
    print(sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("alarm-mw")))
"""
    assert run(program) == "['alarm-mw-handlers', 'alarm-mw-signals']\n"


@pytest.mark.parametrize("number", [-1, 256])
def test_a_wrong_number_is_an_error(number: int) -> None:
    """There are the signals 0 to 255."""
    with pytest.raises(ValueError, match="a number from 0 to 255"):
        alarm_mw.on_signal(number)


def test_a_wrong_target_is_an_error() -> None:
    """It is told where it is written, not when the signal comes."""
    with pytest.raises(ValueError, match="unknown target 'wroker'"):
        alarm_mw.on_signal(17, target="wroker")


def test_messages_are_for_mules() -> None:
    """A process that is no mule is told how to start one."""
    with pytest.raises(NotRunningError, match="alarm-mw run --mule FILE"):
        alarm_mw.mule_get_msg(timeout=0)
