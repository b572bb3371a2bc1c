"""Pending digests: what was held back and not yet reported, and the message that reports it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from alarm_mw.model.types import Reason, Record

#: How many bytes of a line are kept for display.
SHOWN = 1024

#: Names for reasons in messages, where they differ from the reason.
_WHAT_HOLDS: Mapping[str, str] = {Reason.SILENCED: "a silence"}


class PendingDigest(msgspec.Struct, array_like=True):
    """What was held back for one alarm since its last message."""

    #: The key of the first record.
    key: str
    #: When the first and the last one arrived, in seconds since the epoch.
    since: float
    until: float
    first: bytes
    last: bytes
    count: int = 0
    reasons: dict[str, int] = {}
    #: When the digest is due, in seconds of the memory's clock; None: reported with the alarm's next message.
    due: float | None = None


class PendingDigests:
    """Counts what was held back for each alarm since its last message."""

    def __init__(self, alarms: dict[str, PendingDigest] | None = None) -> None:
        self.alarms: dict[str, PendingDigest] = {} if alarms is None else alarms

    def add(self, alarm: str, reason: Reason, first: Record, *, last: bytes, n: int = 1, due: float | None) -> None:
        """Add `n` firings, from the line `first` to the line `last`, to be reported at `due`."""
        pending = self.alarms.get(alarm)
        if pending is None:
            shown = first.message[:SHOWN]
            pending = self.alarms[alarm] = PendingDigest(first.key, first.time, first.time, shown, shown, reasons={})
        pending.count += n
        pending.reasons[reason] = pending.reasons.get(reason, 0) + n
        pending.until, pending.last = first.time, last[:SHOWN]
        if due is not None and (pending.due is None or due < pending.due):
            pending.due = due

    def take(self, alarm: str) -> PendingDigest | None:
        """Remove and return the pending digest of an alarm."""
        return self.alarms.pop(alarm, None)

    def look_at(self, reason: Reason, now: float) -> None:
        """Look at once at digests of what a reason held back: what holds them back may have changed."""
        for pending in self.alarms.values():
            if pending.due is not None and reason in pending.reasons:
                pending.due = now

    def due(self) -> float | None:
        """Return when the next digest is due, or None."""
        return min((pending.due for pending in self.alarms.values() if pending.due is not None), default=None)


def text(pending: PendingDigest) -> bytes:
    """Return the message: how many, since when, for which reasons, the first and the last line."""
    since = datetime.fromtimestamp(pending.since, UTC)
    head = f"{pending.count:,} more since {since:%Y-%m-%d %H:%M:%S} UTC"
    if (span := round(pending.until - pending.since)) > 0:
        head += f", within {_duration(span)}"
    head += f", held back by {_reasons(pending.reasons)}"
    return b"\n".join([head.encode(), *_lines(pending)]) + b"\n"


def _lines(pending: PendingDigest) -> Iterable[bytes]:
    first, last = (line.rstrip(b"\r\n") for line in (pending.first, pending.last))
    if first != last:
        return b"first: " + first, b"last: " + last
    return (b"first and last: " + first,) if pending.count > 1 else (first,)


def _reasons(reasons: Mapping[str, int]) -> str:
    by = {_WHAT_HOLDS.get(reason, reason): n for reason, n in reasons.items()}
    if len(by) == 1:
        return next(iter(by))
    return ", ".join(f"{what} ({n:,})" for what, n in by.items())


def _duration(seconds: int) -> str:
    """Return seconds in their two largest units: ``2 h 5 min``."""
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        n, seconds = divmod(seconds, size)
        if n or parts:
            parts.append(f"{n} {unit}" if n else "")
    return " ".join(part for part in parts[:2] if part)
