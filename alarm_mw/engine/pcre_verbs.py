"""The verbs of a PCRE pattern, such as ``(*NO_JIT)`` at its start."""

from __future__ import annotations

from alarm_mw.engine.pcre_chars import VERTICAL_SPACE, Scanner
from alarm_mw.engine.tree import bits
from alarm_mw.errors import PatternError

#: Verbs at the start that do not change what matches.
_HARMLESS = ("LF", "NO_JIT", "NO_START_OPT", "NO_AUTO_POSSESS", "NO_DOTSTAR_ANCHOR", "BSR_UNICODE")
_LIMITS = ("LIMIT_MATCH=", "LIMIT_DEPTH=", "LIMIT_RECURSION=", "LIMIT_HEAP=")


def line_breaks(scan: Scanner) -> int:
    r"""Take the verbs at the start, and return what ``\R`` matches then beside CR LF."""
    members = VERTICAL_SPACE
    while scan.take("(*"):
        start = scan.at
        stop = scan.data.find(")", start)
        name = scan.data[start : max(stop, start)]
        if name == "BSR_ANYCRLF":
            members = bits(b"\r\n")
        elif name not in _HARMLESS and not name.startswith(_LIMITS):
            scan.at = start - 2
            break
        scan.at = stop + 1
    return members


def refusal(name: str, start: int) -> PatternError:
    """Return the error that says why a verb cannot be had."""
    if name in {"UTF", "UTF8", "UCP"}:
        return PatternError("UTF mode cannot be had: these rules match bytes", start)
    return PatternError(f"the verb (*{name}) cannot be had", start)
