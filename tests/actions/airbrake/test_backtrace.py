"""Frames found in messages: those of real crashes and exceptions."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.actions.airbrake.backtrace import Backtrace, Frame, parse

UWSGI = """\
!!! uWSGI process 4242 got Segmentation Fault !!!
*** backtrace of 4242 ***
/usr/bin/uwsgi(uwsgi_backtrace+0x2e) [0x55d0]
/usr/bin/uwsgi(uwsgi_segfault+0x21) [0x55d1]
/usr/lib/libpython3.11.so(_PyEval_Frame+0xc5) [0x4515]
/usr/lib/libpython3.11.so(+0x1f00) [0x4516]
/usr/lib/libc.so.6() [0x4517]
/usr/bin/uwsgi [0x4518]
*** end of backtrace ***
"""


def test_a_backtrace_of_uwsgis_loses_its_marks_and_handlers() -> None:
    """Lines that begin with *** are no frames, nor are the functions that wrote the backtrace."""
    assert parse(UWSGI) == Backtrace(
        (
            Frame("/usr/lib/libpython3.11.so", 0, "_PyEval_Frame"),
            Frame("/usr/lib/libpython3.11.so"),
            Frame("/usr/lib/libc.so.6"),
            Frame("/usr/bin/uwsgi"),
        ),
        text="uWSGI segfault at _PyEval_Frame in /usr/lib/libpython3.11.so",
        pid="4242",
    )


def test_a_first_frame_without_a_name() -> None:
    """The message says only where, if it is not known in what."""
    assert parse("*** backtrace of 1 ***\n/lib/x.so() [0x1]\n").text == "uWSGI segfault in /lib/x.so"


@pytest.mark.parametrize("sign", ["got Floating Point Exception", "uWSGI process 1 got FPE", "died of SIGFPE"])
def test_a_floating_point_error_is_told_from_a_segfault(sign: str) -> None:
    """The message says FPE."""
    assert parse(f"{sign}\nlib(f+0x1) [0x1]\n").text == "uWSGI FPE at f in lib"


def test_a_real_backtrace_of_the_c_library() -> None:
    """What glibc's backtrace_symbols_fd writes is understood, every line of it."""
    program = (
        "import ctypes\nlibc = ctypes.CDLL(None)\nframes = (ctypes.c_void_p * 50)()\n"
        "libc.backtrace_symbols_fd(frames, libc.backtrace(frames, 50), 1)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    found = parse(shown.stdout)
    assert len(found.frames) == len(shown.stdout.splitlines()) > 2
    assert all(frame.file.startswith("/") for frame in found.frames)


def broken() -> None:
    raise KeyError("user: 7")


def broken_twice() -> None:
    raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])


def test_a_traceback_has_its_innermost_call_first() -> None:
    """Files, lines and functions are those of the traceback, the exception's line is the text."""
    try:
        broken()
    except KeyError as error:
        text = traceback.format_exc()
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)]
    found = parse(f"ERROR the request failed\n{text}")
    assert found.frames == (
        Frame(__file__, lines[1] or 0, "broken"),
        Frame(__file__, lines[0] or 0, "test_a_traceback_has_its_innermost_call_first"),
    )
    assert (found.type, found.text) == ("KeyError", "KeyError: 'user: 7'")


def test_of_a_chain_the_last_exception_counts() -> None:
    """What was raised in the end is the error; what caused it is in the message anyway."""
    try:
        try:
            broken()
        except KeyError as error:
            raise ValueError("bad") from error
    except ValueError:
        found = parse(traceback.format_exc())
    assert (found.type, found.text, len(found.frames)) == ("ValueError", "ValueError: bad", 1)


def test_a_group_of_exceptions_is_understood() -> None:
    """The margin of a group's traceback is no part of its frames."""
    try:
        broken_twice()
    except ExceptionGroup:
        found = parse(traceback.format_exc())
    assert found.type == "ExceptionGroup"
    assert [frame.function for frame in found.frames] == ["broken_twice", "test_a_group_of_exceptions_is_understood"]


def test_a_line_number_that_no_file_has_is_none() -> None:
    """A message may hold what it likes: that frame is passed over, and the alarm is delivered."""
    message = f'Traceback (most recent call last):\n  File "a.py", line {"9" * 5000}, in f\n{"x" * 9}Error: no\n'
    assert parse(message).frames == ()


@pytest.fixture
def crash() -> Callable[[str], str]:
    """Provide a function that runs a program until it dies, and returns what `faulthandler` wrote."""

    def run(program: str) -> str:
        command = [sys.executable, "-X", "faulthandler", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=os.sep)
        assert done.returncode < 0
        return done.stderr

    return run


def test_a_dump_of_faulthandler(crash: Callable[[str], str]) -> None:
    """The calls of the thread that crashed, the innermost first."""
    found = parse(
        crash(
            "import os, signal, threading, time\n"
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
            "def inner():\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
            "def outer():\n    inner()\n"
            "outer()\n"
        )
    )
    calls = [(frame.function, frame.line) for frame in found.frames if not frame.file.endswith(".so")]
    assert calls[:3] == [("inner", 4), ("outer", 6), ("<module>", 7)]


def test_frames_of_python_314s_c_stack() -> None:
    """Those of C come before those of Python."""
    dump = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n"
        '  File "/srv/app.py", line ??? in app\n\n'
        "Current thread's C stack trace (most recent call first):\n"
        '  Binary file "/usr/bin/python", at _Py_DumpStack+0x48 [0x6]\n'
        '  Binary file "/lib/libc.so.6", at +0x3c050 [0x7]\n'
        '  Binary file "/usr/bin/python" [0x8]\n'
    )
    assert parse(dump).frames == (
        Frame("/lib/libc.so.6"),
        Frame("/usr/bin/python"),
        Frame("/srv/app.py", 0, "app"),
    )


@pytest.mark.parametrize("line", ["", "ERR x", "GET / [0x]", "Error: bad", "see main.c(12) [warning]"])
def test_a_line_without_frames_has_none(line: str) -> None:
    """Most lines hold no backtrace."""
    assert parse(line) == Backtrace()


@given(st.text(st.sampled_from('File "x", line 3in f()+0x[]*\nTraceback (most recent call last):E|')))
def test_nothing_breaks_it(text: str) -> None:
    """Whatever a message holds, its frames have a file."""
    assert all(frame.file for frame in parse(text).frames if frame.function == "")
