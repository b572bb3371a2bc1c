"""What `faulthandler` writes when a fatal signal ends a Python process: recognizes its lines, and reads its frames.

The text is that of CPython 3.11 to 3.14 (``Python/traceback.c``, ``Modules/faulthandler.c``)::

    Fatal Python error: Segmentation fault

    Thread 0x00007f0a1b2c36c0 (most recent call first):
      File "/usr/lib/python3.11/threading.py", line 331 in wait

    Current thread 0x00007f0a1d8b3740 (most recent call first):
      File "/srv/app.py", line 3 in app

    Extension modules: markupsafe._speedups (total: 1)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

#: What a dump begins with. Text without a newline may stand before it in the line.
BEGINNING = b"Fatal Python error: "

#: What `faulthandler` calls the signals; older Pythons write the hyphen as a blank.
SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}

_HEADER = re.compile(rf"{BEGINNING.decode()}(.*)")
#: What says the same where there is no dump: see `alarm_mw.monitors.segfault.monitor`.
_DIED = re.compile(r"\bdied of (SIG[A-Z0-9]+)")
_THREAD = re.compile(r"(?:(Current thread)|Thread) (0x[0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):")
_FRAME = re.compile(r'  File "(.*)", line (\d{1,9}|\?\?\?) in (.*)')
_LINE = re.compile(
    rb"""(?:Current\ thread|Thread)\ 0x[0-9a-f]+\ .*\(most\ recent\ call\ first\):
    |Stack\ \(most\ recent\ call\ first\):
    |Current\ thread's\ C\ stack\ trace\ \(most\ recent\ call\ first\):
    |\ \ File\ ".*",\ line\ (?:\d+|\?\?\?)\ in\ .*
    |\ \ Binary\ file\ ".*
    |\ \ (?:<.*>|\.\.\.|Garbage-collecting)
    |Python\ runtime\ state:\ .*
    |Extension\ modules:\ .*
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A call of a Python function."""

    file: str
    #: From 1; 0 where it is not known.
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread's calls."""

    #: As `threading.get_ident` in hexadecimal: ``0x00007f0a1d8b3740``.
    id: str
    #: Is this the thread that got the signal?
    is_current: bool
    #: The innermost first.
    frames: tuple[Frame, ...] = ()
    #: The name, from Python 3.14 on.
    name: str = ""


@dataclass(frozen=True, slots=True)
class Crash:
    """A dump, understood."""

    #: ``SIGSEGV`` and so on; empty where it is not named.
    signal: str
    #: The one that got the signal first, the others in the order of the dump.
    threads: tuple[Thread, ...] = ()


def parse_dump(text: str) -> Crash:
    """Return the signal and the frames in `text`: a dump, or a message of the monitor `segfault`.

    Other lines between those of the dump are passed over.
    """
    threads: list[Thread] = []
    for line in text.splitlines():
        if found := _THREAD.fullmatch(line):
            threads.append(Thread(found[2], found[1] is not None, (), found[3] or ""))
        elif threads and (found := _FRAME.fullmatch(line)):
            frame = Frame(found[1], int(found[2]) if found[2].isdigit() else 0, found[3])
            threads[-1] = replace(threads[-1], frames=(*threads[-1].frames, frame))
    return Crash(signal_in(text), tuple(sorted(threads, key=lambda thread: not thread.is_current)))


def signal_in(text: str) -> str:
    """Return the name of the signal of the dump in `text`; empty where it is no dump.

    Python ends by SIGABRT after every other fatal error.
    """
    if found := _HEADER.search(text):
        return SIGNALS.get(found[1].strip(), "SIGABRT")
    found = _DIED.search(text)
    return found[1] if found else ""


def is_beginning(line: bytes) -> bool:
    """Return whether `line` begins a dump: Python's own words to its end, or a fatal error of the interpreter's."""
    _, mark, cause = line.partition(BEGINNING)
    return bool(mark) and (line.startswith(BEGINNING) or cause.strip().decode("utf-8", "replace") in SIGNALS)


def is_dump_line(line: bytes) -> bool:
    """Return whether `line` can be one of a dump's, other than its first. Blank lines do not count."""
    return _LINE.fullmatch(line.rstrip(b"\r\n")) is not None


def is_end(line: bytes) -> bool:
    """Return whether nothing of the dump comes after `line`. A dump may end without such a line."""
    return line.startswith(b"Extension modules: ")
