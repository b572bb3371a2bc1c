"""What differs from line to line of one kind: times, numbers, addresses and identifiers, each with its regexp.

These are not the masks of fingerprints (`engine/flood_control/fingerprint.py`): each becomes a part of a regexp that a
person reads, edits and keeps, and some become its keys, so they are short, and a line that they mask wrongly costs a
worse proposal only. A fingerprint decides, in bounded time and for good, which messages count as one.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Mask(NamedTuple):
    """A variable part of a line."""

    name: str
    #: Finds the part in a line, and stands for it in a rule unless `plainly` does.
    regexp: str
    #: Whether its values are worth an incident each.
    is_key: bool = False
    plainly: str = ""


_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"

#: In the order in which they are looked for: what contains others stands before them.
MASKS = (
    Mask("time", rf"{_DAY} {_MONTH} +\d+ \d\d:\d\d:\d\d(?:\.\d+)?(?: \d{{4}})?"),
    Mask("time", rf"{_MONTH} +\d+ \d\d:\d\d:\d\d"),
    Mask("time", rf"\d{{1,2}}/{_MONTH}/\d{{4}}:\d\d:\d\d:\d\d(?: [+-]\d{{4}})?"),
    Mask("time", r"\d{4}[-/]\d\d[-/]\d\d(?:[T _]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?"),
    Mask("time", r"\d\d:\d\d:\d\d(?:[.,]\d+)?"),
    Mask("quoted", r'"[^"]*"'),
    Mask("quoted", r"'[^']*'"),
    Mask("uuid", r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    Mask("address", r"\d{1,3}(?:\.\d{1,3}){3}", is_key=True),
    Mask("address", r"(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}", is_key=True),
    Mask("hex", r"0x[0-9a-fA-F]+"),
    Mask("hex", r"(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}", plainly="[0-9a-fA-F]{8,}"),
    Mask("number", r"\d+\.\d+(?![\d.:-])"),
    Mask("number", r"\d+"),
)

#: In a masked text, a mask's number is written as one character of a private range, which no log holds.
_FIRST = 0xE000

_ANY = re.compile("|".join(f"(?P<m{number}>{mask.regexp})" for number, mask in enumerate(MASKS)))
_MARKED = re.compile(f"[{chr(_FIRST)}-{chr(_FIRST + len(MASKS) - 1)}]")


def masked(line: str) -> str:
    """Return a line with a mark in the place of each variable part."""
    return _ANY.sub(lambda found: chr(_FIRST + int(str(found.lastgroup)[1:])), line)


def mask_of(mark: str) -> Mask | None:
    """Return the mask for which a character stands, or None."""
    return MASKS[ord(mark) - _FIRST] if _MARKED.fullmatch(mark) else None


def is_time(token: str) -> bool:
    """Return whether a masked token has a time in it."""
    return any((mask := mask_of(letter)) is not None and mask.name == "time" for letter in token)


def has_words(token: str) -> bool:
    """Return whether a masked token says anything but variable parts and punctuation."""
    return any(letter.isalpha() for letter in _MARKED.sub("", token))
