"""Exceptions that nobody caught, each in a program of its own: pytest has hooks of its own here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ALARM_MW = str(Path(sys.executable).with_name("alarm-mw"))

BEGIN = """
import asyncio, os, sys, threading
import alarm_mw
def fail(): raise ValueError("boom")
class Broken:
    def __del__(self): fail()
    def __repr__(self): return "<broken>"
async def unawaited():
    asyncio.ensure_future(failing())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
async def failing(): fail()
HOOKS = {
    "excepthook": fail,
    "threading": lambda: [t := threading.Thread(target=fail, name="worker"), t.start(), t.join()],
    "unraisable": Broken,
    "asyncio": lambda: asyncio.run(unawaited()),
}
"""
# One write for each alarm: the next command may begin before this one has ended.
ACTION = 'cmd:text=$(cat); printf "%s\\n----\\n" "$text" >> out.txt'
RULE = "a ^ValueError: boom"
INIT = f"alarm_mw.init(alarms={{'a': {ACTION!r}}}, log_alarms=[{RULE!r}], alarm_freq=0)\n"
INSTALL = "alarm_mw.excepthooks.install()\nalarm_mw.excepthooks.install()\n"

WHERE = {
    "excepthook": "MainThread",
    "threading": "thread worker",
    "unraisable": "<function Broken.__del__ at …>",
    "asyncio": "asyncio",
}


def run(directory: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


def fired(directory: Path) -> list[list[str]]:
    """Return the lines of each alarm."""
    out = directory / "out.txt"
    return [part.splitlines() for part in out.read_text().split("----\n")[:-1]] if out.exists() else []


@pytest.mark.parametrize("hook", WHERE)
def test_an_exception_that_nobody_caught_raises_an_alarm(tmp_path: Path, hook: str) -> None:
    """Its record has one line that says it all, and the traceback; Python prints what it prints without us."""
    plain = run(tmp_path, f"HOOKS[{hook!r}]()")
    hooked = run(tmp_path, INIT + INSTALL + f"HOOKS[{hook!r}]()")
    assert (hooked.returncode, len(hooked.stderr.splitlines())) == (plain.returncode, len(plain.stderr.splitlines()))
    (alarm,) = fired(tmp_path)
    assert alarm[0].startswith(f"Unhandled exception in {WHERE[hook].partition('…')[0]}")
    assert alarm[0].endswith(": ValueError: boom")
    assert "Traceback (most recent call last):" in alarm
    assert alarm[-1] == "ValueError: boom"


@pytest.mark.parametrize("hook", WHERE)
def test_the_record_and_the_printed_traceback_are_one_alarm(tmp_path: Path, hook: str) -> None:
    """Under `alarm-mw run`, which sees what is printed as well, the exception fires once."""
    (tmp_path / "program.py").write_text(BEGIN + INSTALL + f"HOOKS[{hook!r}]()")
    alarm = ["--alarm", f"a {ACTION}", "--log-alarm", RULE, "--alarm-freq", "0"]
    command = [ALARM_MW, "run", *alarm, "--state-dir", "state", "--", sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "ValueError: boom" in done.stderr
    assert len(fired(tmp_path)) == 1


def test_what_was_there_before_is_called_and_put_back(tmp_path: Path) -> None:
    """Hooks of others run with the same arguments, and after `uninstall` nothing of ours is left."""
    program = (
        INIT + "seen = []\n"
        "sys.excepthook = theirs = lambda *args: seen.append(args)\n" + INSTALL + "error = ValueError('boom')\n"
        "sys.excepthook(ValueError, error, None)\n"
        "assert seen == [(ValueError, error, None)]\n"
        "ours = sys.excepthook\n"
        "alarm_mw.excepthooks.uninstall()\n"
        "assert sys.excepthook is theirs\n"
        "assert threading.excepthook is threading.__excepthook__ and sys.unraisablehook is sys.__unraisablehook__\n"
        "import logging\n"
        "assert not logging.getLogger('asyncio').filters\n"
        "ours(ValueError, error, None)\n"
        "assert len(seen) == 2\n"
    )
    result = run(tmp_path, program)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(fired(tmp_path)) == 1


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "sys.exit(3)", "threading.Thread(target=sys.exit).start()"])
def test_what_was_wanted_is_no_alarm(tmp_path: Path, end: str) -> None:
    """A person's ^C and the program's own exit raise nothing."""
    program = INIT.replace("ValueError: boom", "") + INSTALL + end
    run(tmp_path, program)
    assert fired(tmp_path) == []


def test_forked_children_have_the_hooks_too(tmp_path: Path) -> None:
    """What nobody caught in a child is an alarm of the child's."""
    program = INIT + INSTALL + "if not (pid := os.fork()): HOOKS['threading'](); fail()\nos.waitpid(pid, 0)\n"
    run(tmp_path, program)
    assert sorted(alarm[0] for alarm in fired(tmp_path)) == [
        "Unhandled exception in MainThread: ValueError: boom",
        "Unhandled exception in thread worker: ValueError: boom",
    ]


def test_the_handler_and_the_hook_see_one_error_of_a_loop(tmp_path: Path) -> None:
    """With `AlarmHandler` on the root logger, what asyncio logs is one alarm."""
    program = (
        INIT + INSTALL + "import logging\nlogging.basicConfig(handlers=[alarm_mw.AlarmHandler()])\nHOOKS['asyncio']()\n"
    )
    run(tmp_path, program)
    assert len(fired(tmp_path)) == 1


def test_whatever_goes_wrong_in_ours_the_next_hook_is_called(tmp_path: Path) -> None:
    """An exception that cannot be shown is told by Python as before."""
    program = (
        INIT + INSTALL + "class Odd(ValueError):\n    def __str__(self): raise RuntimeError\n"
        "alarm_mw.app.client.screened = None\nraise Odd\n"
    )
    assert "<exception str() failed>" in run(tmp_path, "import alarm_mw.app.client\n" + program).stderr
