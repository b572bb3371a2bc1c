"""Pending digests: what was held back and not yet reported, and the message that reports it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from alarm_mw.model.types import Reason, Record, Trigger

#: How many bytes of a line are kept for display.
SHOWN = 1024

#: For how many fingerprints of an alarm repeats are counted one by one; those of further ones are counted together.
REPEATED = 100

#: How many bytes of a repeated message are kept for display: of the line that says what happened.
HEADLINE = 256

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
    #: Of repeats: facts of the message that they repeat.
    rule: str = ""
    trigger: Trigger | None = None
    level: int | None = None
    logger: str = ""

    def add(self, reason: Reason, until: float, last: bytes, n: int, due: float | None) -> None:
        """Add `n` firings, the last of them `last`, to be reported at `due`."""
        self.count += n
        self.reasons[reason] = self.reasons.get(reason, 0) + n
        self.until, self.last = until, last
        if due is not None and (self.due is None or due < self.due):
            self.due = due


class Repeated(NamedTuple):
    """What is known of a message that is repeated."""

    fingerprint: bytes = b""
    #: The rule as text, and further facts about it.
    rule: str = ""
    trigger: Trigger | None = None


class PendingDigests:
    """Counts what was held back for each alarm since its last message.

    Repeats of a message are counted by its fingerprint: they are reported by themselves, or with the next message that
    has the fingerprint.
    """

    def __init__(
        self,
        alarms: dict[str, PendingDigest] | None = None,
        repeats: dict[str, dict[bytes, PendingDigest]] | None = None,
    ) -> None:
        self.alarms: dict[str, PendingDigest] = {} if alarms is None else alarms
        #: By alarm and fingerprint.
        self.repeats: dict[str, dict[bytes, PendingDigest]] = {} if repeats is None else repeats

    def add(self, alarm: str, reason: Reason, first: Record, *, last: bytes, n: int = 1, due: float | None) -> None:
        """Add `n` firings, from the line `first` to the line `last`, to be reported at `due`."""
        pending = self.alarms.get(alarm)
        if pending is None:
            shown = first.message[:SHOWN]
            pending = self.alarms[alarm] = PendingDigest(first.key, first.time, first.time, shown, shown, reasons={})
        pending.add(reason, first.time, last[:SHOWN], n, due)

    def add_repeats(
        self, alarm: str, repeated: Repeated, first: Record, *, last: bytes, n: int = 1, due: float | None
    ) -> None:
        """Add `n` repeats of a message."""
        repeats = self.repeats.setdefault(alarm, {})
        pending = repeats.get(repeated.fingerprint)
        if due is None or (pending is None and len(repeats) >= REPEATED):
            self.add(alarm, Reason.REPEAT, first, last=last, n=n, due=due)
            return
        if pending is None:
            shown = _headline(first.message)
            pending = PendingDigest(
                first.key,
                first.time,
                first.time,
                shown,
                shown,
                reasons={},
                rule=repeated.rule,
                trigger=repeated.trigger,
                level=first.level,
                logger=first.logger,
            )
            repeats[repeated.fingerprint] = pending
        pending.add(Reason.REPEAT, first.time, _headline(last), n, due)

    def take(self, alarm: str) -> PendingDigest | None:
        """Remove and return the pending digest of an alarm."""
        return self.alarms.pop(alarm, None)

    def take_repeats(self, alarm: str, fingerprint: bytes) -> PendingDigest | None:
        """Remove and return what is known of the repeats of a message."""
        return self.repeats.get(alarm, {}).pop(fingerprint, None)

    def keep_only(self, alarms: Container[str]) -> None:
        """Forget all other alarms."""
        self.alarms = {alarm: pending for alarm, pending in self.alarms.items() if alarm in alarms}
        self.repeats = {alarm: pending for alarm, pending in self.repeats.items() if alarm in alarms}

    def due_before(self, now: float) -> list[tuple[str, bytes, PendingDigest]]:
        """Return the alarms and the digests that are due, those of repeats with their fingerprints."""
        return [each for each in self._all() if each[2].due is not None and each[2].due <= now]

    def look_at(self, reason: Reason, now: float) -> None:
        """Look at once at digests of what a reason held back: what holds them back may have changed."""
        for _, _, pending in self._all():
            if pending.due is not None and reason in pending.reasons:
                pending.due = now

    def due(self) -> float | None:
        """Return when the next digest is due, or None."""
        return min((pending.due for _, _, pending in self._all() if pending.due is not None), default=None)

    def _all(self) -> Iterator[tuple[str, bytes, PendingDigest]]:
        for alarm, pending in self.alarms.items():
            yield alarm, b"", pending
        for alarm, repeats in self.repeats.items():
            for fingerprint, pending in repeats.items():
                yield alarm, fingerprint, pending


def _headline(message: bytes) -> bytes:
    """Return the line that says what happened: of a traceback the last one."""
    lines = [line for line in message.splitlines() if line.strip()] or [b""]
    return lines[-1 if b"Traceback (most recent call last):" in lines[0] else 0][:HEADLINE]


def repeats_text(pending: PendingDigest) -> bytes:
    """Return the message about repeats: how many there were with the one that was sent, and the last line."""
    head = b"%d times: %b" % (pending.count + 1, pending.first)
    last = [] if pending.first == pending.last else [b"last: " + pending.last]
    return b"\n".join([head, f"repeated {_span(pending)}".encode(), *last]) + b"\n"


def _span(pending: PendingDigest) -> str:
    since = datetime.fromtimestamp(pending.since, UTC)
    span = round(pending.until - pending.since)
    return f"since {since:%Y-%m-%d %H:%M:%S} UTC{f', within {_duration(span)}' if span > 0 else ''}"


def text(pending: PendingDigest) -> bytes:
    """Return the message: how many, since when, for which reasons, the first and the last line."""
    head = f"{pending.count:,} more {_span(pending)}, held back by {_reasons(pending.reasons)}"
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
