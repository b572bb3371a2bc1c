"""Which kinds of line look like trouble: by their level, their words, and how rare they are."""

from __future__ import annotations

import math
import re

#: What a line must reach to be suggested: one word of trouble is enough, being rare is not.
LEAST = 1.0

_LEVELS = (
    (re.compile(r"\b(?:panic|emerg(?:ency)?|fatal|crit(?:ical)?|alert)\b", re.IGNORECASE), 4.0),
    (re.compile(r"\b(?:error|err|severe)\b", re.IGNORECASE), 3.0),
    (re.compile(r"\bwarn(?:ing)?\b", re.IGNORECASE), 1.5),
)
_QUIET = re.compile(r"\b(?:debug|trace|info|notice)\b", re.IGNORECASE)

#: Beginnings of words.
_TROUBLE = re.compile(
    r"\b(?:fail|exception|traceback|denied|refus|reject|forbidden|unauthori[sz]ed|invalid|illegal|timed? ?out|timeout|"
    r"unable|cannot|can't|could not|couldn't|not found|no such|lost|los[st]|dead|died|kill|abort|crash|corrupt|broken|"
    r"unreachable|disconnect|out of|overflow|overload|exceed|exhaust|full\b|deadlock|stuck|hung|unexpected|unknown|"
    r"mismatch|expired|violation|break-?in|attack|missing|down\b|segfault|oops|panic|terminat|too many|exited)",
    re.IGNORECASE,
)


def score(text: str, count: int, lines: int) -> float:
    """Return how much a kind of line looks like trouble: by level and words, and up to 1 for being rare."""
    level = next((weight for regexp, weight in _LEVELS if regexp.search(text)), 0.0)
    words = min(len({found.lower() for found in _TROUBLE.findall(text)}), 3)
    trouble = level + 1.5 * words
    if not trouble:
        return 0.0
    if not level and _QUIET.search(text):
        trouble *= 0.6
    rarity = -math.log10(max(count, 1) / max(lines, 1)) / 4
    return trouble + min(max(rarity, 0.0), 1.0)


def level_of(text: str) -> str:
    """Return the severity that an alarm for such a line should have."""
    return next(
        (name for (regexp, _), name in zip(_LEVELS, _SEVERITIES, strict=True) if regexp.search(text)), "warning"
    )


_SEVERITIES = ("critical", "error", "warning")
