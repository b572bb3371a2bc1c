"""Dumps of `faulthandler`: told from other lines, and understood."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.monitors.segfault.crashdump import Crash, Frame, Thread, is_beginning, is_dump_line, is_end, parse_dump

DUMP = """\
Fatal Python error: Segmentation fault

Thread 0x00007f781a7eeb80 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  <no Python frame>

Current thread 0x00007f7818eff6c0 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/srv/my app.py", line ??? in app

Extension modules: markupsafe._speedups (total: 1)
"""


def test_signal_threads_and_frames_are_understood() -> None:
    """The guilty thread comes first, each with its frames, the innermost first."""
    guilty = (
        Frame("/usr/lib/python3.11/ctypes/__init__.py", 519, "string_at"),
        Frame("/srv/my app.py", 0, "app"),
    )
    waiting = (Frame("/usr/lib/python3.11/threading.py", 327, "wait"),)
    assert parse_dump(DUMP) == Crash(
        "SIGSEGV", (Thread("0x00007f7818eff6c0", True, guilty), Thread("0x00007f781a7eeb80", False, waiting))
    )


def test_names_of_threads_are_understood() -> None:
    """Python 3.14 writes a thread's name behind its number."""
    text = 'Current thread 0x7f01 [my [best] one] (most recent call first):\n  File "a", line 1 in <module>\n'
    assert parse_dump(text).threads == (Thread("0x7f01", True, (Frame("a", 1, "<module>"),), "my [best] one"),)


def test_lines_of_others_are_passed_over() -> None:
    """What another process writes between the lines of a dump does no harm."""
    lines = DUMP.splitlines()
    mixed = "\n".join(line for each in lines for line in (each, "[INFO] Booting worker", 'File "x", line 1, in y'))
    assert parse_dump(mixed) == parse_dump(DUMP)


@pytest.mark.parametrize(
    ("cause", "name"),
    [
        ("Segmentation fault", "SIGSEGV"),
        ("Aborted", "SIGABRT"),
        ("Bus error", "SIGBUS"),
        ("Floating point exception", "SIGFPE"),
        ("Floating-point exception", "SIGFPE"),
        ("Illegal instruction", "SIGILL"),
        ("_PyEval_Fini: some error of the interpreter", "SIGABRT"),
    ],
)
def test_the_cause_names_the_signal(cause: str, name: str) -> None:
    """Each of Python's words is its signal; the interpreter's own errors end in abort()."""
    assert parse_dump(f"Fatal Python error: {cause}\n").signal == name
    assert is_beginning(f"Fatal Python error: {cause}\n".encode())


def test_a_message_of_the_monitor_is_understood() -> None:
    """The signal is found in a message without a dump as well; other text has none."""
    assert parse_dump("process 7 (app) died of SIGBUS (Bus error)\n") == Crash("SIGBUS")
    assert parse_dump("all is well") == Crash("")


@pytest.mark.parametrize(
    "line",
    [line for line in DUMP.splitlines()[1:] if line]
    + [
        "Current thread's C stack trace (most recent call first):",
        '  Binary file "/usr/lib/libc.so.6", at raise+0x12 [0x7f]',
        "  <truncated rest of calls>",
        "  ...",
        "  Garbage-collecting",
        "Python runtime state: initialized",
        "Stack (most recent call first):",
    ],
)
def test_every_line_of_a_dump_is_recognized(line: str) -> None:
    """With its newline or without."""
    assert is_dump_line(line.encode())
    assert is_dump_line(line.encode() + b"\n")


@pytest.mark.parametrize(
    "line",
    ["", "Traceback (most recent call last):", '  File "a.py", line 3, in f', "    f()", "GET / 200", "Thread started"],
)
def test_other_lines_are_none(line: str) -> None:
    """Tracebacks, blank lines and logs are no lines of a dump."""
    assert not is_dump_line(line.encode())
    assert not is_beginning(line.encode())


def test_a_dump_may_begin_behind_a_half_line() -> None:
    """A half line that was printed before belongs to the first; but a line that only quotes the words is none."""
    assert is_beginning(b"working... Fatal Python error: Aborted\n")
    assert not is_beginning(b"the child said: Fatal Python error: something else\n")


def test_the_list_of_extension_modules_is_the_end() -> None:
    """Nothing comes after it."""
    assert is_end(b"Extension modules: a (total: 1)\n")
    assert not is_end(b"Current thread 0x1 (most recent call first):\n")


def test_a_line_number_that_no_file_has_is_none() -> None:
    """Who prints it keeps no crash from being told."""
    dump = f'Current thread 0x1 (most recent call first):\n  File "a.py", line {"9" * 5000} in f\n'
    assert [thread.frames for thread in parse_dump(dump).threads] == [()]


@given(st.text())
def test_any_text_can_be_given(text: str) -> None:
    """Whatever the text, the parser answers."""
    assert isinstance(parse_dump(text), Crash)
    assert is_dump_line(text.encode("utf-8", "surrogatepass")) in {True, False}


def test_a_real_dump_is_understood() -> None:
    """What this Python writes: the signal, the guilty thread, its function."""
    program = "import ctypes\ndef guilty(): ctypes.string_at(0)\nguilty()"
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program], stderr=subprocess.PIPE, check=False)
    crash = parse_dump(done.stderr.decode())
    assert crash.signal == "SIGSEGV"
    assert [frame.function for frame in crash.threads[0].frames] == ["string_at", "guilty", "<module>"]
    assert crash.threads[0].is_current
    lines = [line for line in done.stderr.splitlines() if line]
    assert is_beginning(lines[0])
    assert all(map(is_dump_line, lines[1:]))
