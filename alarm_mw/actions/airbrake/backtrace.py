"""Finds the frames of a crash or an exception in a message: native ones, Python's traceback, `faulthandler`'s."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: ``lib(method+0xc5) [0x4515]``, as the C library's `backtrace_symbols` writes a frame.
_NATIVE = re.compile(r"(?P<file>[^\s()\[\]][^()\[\]]*?)(?:\((?P<method>[^)+]*)(?:\+0x[0-9a-f]+)?\))? ?\[0x[0-9a-f]+\]")

#: The same in the words of `faulthandler`, from Python 3.14 on.
_BINARY = re.compile(r'Binary file "(?P<file>[^"]*)"(?:, at (?P<method>[^+\s]*)(?:\+0x[0-9a-f]+)?)? \[0x[0-9a-f]+\]')

#: ``File "x.py", line 3, in f`` of a traceback; `faulthandler` leaves out the comma, and may not know the line.
_PYTHON = re.compile(r'File "(?P<file>.*)", line (?P<line>\d{1,9}|\?\?\?)(?P<comma>,?) in (?P<method>.*)')

_TRACEBACK = re.compile(r"(?:Exception Group )?Traceback \(most recent call last\):")
_THREAD = re.compile(r"(?P<current>Current thread|Thread|Stack)\b.*\(most recent call first\):")

#: ``package.Error: what``, the line behind a traceback.
_RAISED = re.compile(r"(?P<type>[^\W\d][\w.]*)(?:: (?P<text>.*))?")

#: What stands at the left of a traceback in a group of exceptions, and of its lines.
_MARGIN = " \t|+-"

#: The functions that write a backtrace, and are in it.
_HANDLERS = frozenset(
    {"uwsgi_backtrace", "uwsgi_segfault", "uwsgi_fpe", "__restore_rt", "faulthandler_fatal_error", "_Py_DumpStack"}
)

#: What reports that a process has crashed, with the signal where it is named.
_CRASHED = re.compile(r"\*\*\* backtrace of |Fatal Python error: |\bdied of (?P<signal>SIG[A-Z0-9]+)")

#: How a crash names the process: a number that would make each crash differ from all others like it.
_PROCESS = re.compile(r"\*\*\* backtrace of (?P<traced>\d+) |^(?:the server, )?process (?P<pid>\d+)", re.MULTILINE)

_FPE = re.compile(r"\bfpe\b|\bSIGFPE\b|floating[ -]point|uwsgi_fpe", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Frame:
    """A call of a function."""

    file: str
    #: From 1; 0 where it is not known.
    line: int = 0
    #: Empty where it is not known.
    function: str = ""


@dataclass(frozen=True, slots=True)
class Backtrace:
    """What was found in a message."""

    #: The innermost call first.
    frames: tuple[Frame, ...] = ()
    #: The exception's type; empty for a crash.
    type: str = ""
    #: What happened, in one line; empty where no more is known than the message says.
    text: str = ""
    #: Of a crash, the number of its process; empty where it is not known.
    pid: str = ""


def parse(message: str) -> Backtrace:
    """Return the frames in `message`, or none.

    Of several tracebacks the last counts, since it shows what was raised in the end; of several threads the current
    one. Frames of C come before those of Python that they were called from.
    """
    lines = [line.strip(_MARGIN) for line in message.splitlines()]
    native = tuple(frame for line in lines if (frame := _native(line)) and frame.function not in _HANDLERS)
    raised = _traceback(lines)
    if raised.frames and not native:
        return raised
    frames = native + (raised.frames or _dump(lines))
    crashed = _CRASHED.search(message)
    text = _crash(frames[0], _kind(message)) if native or (frames and crashed) else ""
    found = _PROCESS.search(message)
    return Backtrace(frames, text=text, pid=found[found.lastgroup or 0] if found else "")


def _native(line: str) -> Frame | None:
    found = None if line.startswith("***") else _BINARY.fullmatch(line) or _NATIVE.fullmatch(line)
    return Frame(found["file"].strip(), function=found["method"] or "") if found else None


def _crash(first: Frame, kind: str) -> str:
    """Say what uWSGI says of a crash: people search for it."""
    place = f" at {first.function}" if first.function else ""
    return f"uWSGI {kind}{place} in {first.file}"


def _kind(message: str) -> str:
    """Return uWSGI's word for what happened; of a signal that it does not know, the name."""
    if _FPE.search(message):
        return "FPE"
    signals = [found["signal"] for found in _CRASHED.finditer(message) if found["signal"] not in {None, "SIGSEGV"}]
    return signals[0] if signals else "segfault"


def _traceback(lines: Iterable[str]) -> Backtrace:
    """Return the last traceback, whose calls stand in the order in which they were made."""
    frames: list[Frame] = []
    raised = ""
    is_inside = False
    for line in lines:
        if _TRACEBACK.fullmatch(line):
            frames, raised, is_inside = [], "", True
        elif is_inside and (found := _PYTHON.fullmatch(line)) and found["comma"]:
            frames.append(_python(found))
            raised = ""
        elif is_inside and frames and not raised and (found := _RAISED.fullmatch(line)) and _is_error(found):
            raised = line
    kind = raised.partition(":")[0]
    return Backtrace(tuple(reversed(frames)), kind, raised)


def _is_error(found: re.Match[str]) -> bool:
    """Return whether a line names an exception rather than source: exceptions are named as classes are."""
    return found["type"].rpartition(".")[2][:1].isupper()


def _dump(lines: Iterable[str]) -> tuple[Frame, ...]:
    """Return the calls of the thread that `faulthandler` calls the current one, else of the first."""
    threads: list[tuple[bool, list[Frame]]] = []
    for line in lines:
        if found := _THREAD.fullmatch(line):
            threads.append((found["current"] == "Current thread", []))
        elif threads and (found := _PYTHON.fullmatch(line)) and not found["comma"]:
            threads[-1][1].append(_python(found))
    threads.sort(key=lambda thread: not thread[0])
    return tuple(threads[0][1]) if threads else ()


def _python(found: re.Match[str]) -> Frame:
    return Frame(found["file"], int(found["line"]) if found["line"].isdigit() else 0, found["method"])
