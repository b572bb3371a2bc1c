"""A server that writes to a terminal still does."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from typing import Any


def test_is_terminal(supervise_in_terminal: Any) -> None:
    """The server sees a terminal of our terminal's size on each of its descriptors."""
    run = supervise_in_terminal("import os\nfor fd in 0, 1, 2: print(os.isatty(fd), *os.get_terminal_size(fd))")
    assert [run.output.next() for _ in range(3)] == ["True 80 24"] * 3
    assert run.end() == 0


def test_output_modes(supervise_in_terminal: Any) -> None:
    """The terminal translates line ends once."""
    run = supervise_in_terminal("print('one\\ntwo')")
    assert run.end() == 0
    assert os.read(run.keyboard, 100) == b"one\r\ntwo\r\n"


def test_order(supervise_in_terminal: Any) -> None:
    """Standard output and standard error keep their order on one terminal."""
    run = supervise_in_terminal("import os\nfor n in range(200): os.write(1 + n % 2, b'%d\\n' % n)")
    assert [run.output.next() for _ in range(200)] == [str(n) for n in range(200)]
    assert run.end() == 0


def test_window_size(supervise_in_terminal: Any) -> None:
    """When the window changes, the server is told and finds the new size."""
    run = supervise_in_terminal(
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {28})\n"
        "print('up')\n"
        "while signal.sigwait({28}): print('size', *os.get_terminal_size(1))"
    )
    run.output.until("up")
    termios.tcsetwinsize(run.keyboard, (50, 132))
    run.output.until("size 132 50")
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


def test_only_what_is_a_terminal(supervise_in_terminal: Any) -> None:
    """A stream that is redirected stays what it is."""
    run = supervise_in_terminal(
        "import os; os.write(2, b'%d%d\\n' % (os.isatty(1), os.isatty(2)))", stdout=subprocess.PIPE
    )
    assert os.read(run.keyboard, 100) == b"01\r\n"
    assert run.end() == 0
