"""Severities in their order: one word and one place for each, on the page, in a terminal and in the API."""

from __future__ import annotations

#: Severities from the worst. A word that is none of them stands behind them.
SEVERITIES = ("emergency", "alert", "critical", "page", "error", "", "warning", "notice", "info", "debug")

#: What an incident is called of which no severity is known. It wakes people as well: it stands before a warning.
UNKNOWN = "alarm"

#: The least severe of those that are as bad as an error, and of those that are a warning.
_LAST_BAD, _LAST_WARNING = SEVERITIES.index("error"), SEVERITIES.index("notice")


def word_of(severity: str) -> str:
    """Return what a severity is called."""
    return severity or UNKNOWN


def rank_of(severity: str) -> int:
    """Return how bad a severity is, from 0 on for the worst."""
    word = severity.lower()
    return SEVERITIES.index(word) if word in SEVERITIES else len(SEVERITIES)


def tone_of(severity: str) -> str:
    """Return how bad a severity is in three steps, for its color: ``bad``, ``warn`` or ``calm``."""
    rank = rank_of(severity)
    return "bad" if rank <= _LAST_BAD else "warn" if rank <= _LAST_WARNING else "calm"


def urgency(severity: str, acknowledged_by: str, started: float) -> tuple[int, bool, float]:
    """Return what puts incidents in order: the worst first; then what nobody has acknowledged, then the longest."""
    return rank_of(severity), bool(acknowledged_by), started
