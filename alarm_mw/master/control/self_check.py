"""The master checks itself: what stays wrong for longer than a moment is reported once, to the log and own alarms."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from alarm_mw.engine.ledger import Books, imbalances

log = logging.getLogger(__name__)

#: In how many checks in a row something must be wrong before it is reported.
TOLD_AFTER = 2

#: At so many looks in a row an alarm must have had firings waiting, and none delivered, before it is stuck.
STUCK_AFTER = 5

#: So many batches that wait for the rules, and more of them at each look, are a backlog.
BACKLOG = 100

#: What the keys of remarks begin with.
_REMARK = "remark "


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look sees."""

    books: Books
    #: What really lies in the outbox, by alarm; None where it could not be read.
    waiting: Mapping[str, int] | None
    #: What is wrong with writing the outbox; empty where nothing is.
    fault: str
    backlog: int
    #: What is wrong elsewhere, a sentence each: it is shown, and fires no alarm.
    remarks: tuple[str, ...] = ()
    #: When it looked, in seconds of any clock that does not jump.
    time: float = field(default_factory=time.monotonic)


class SelfCheck:
    """Judges one look after the other. Pure."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._before: Sight | None = None
        #: At how many looks in a row an alarm was stuck, and when at the first.
        self._stuck: dict[str, tuple[int, float]] = {}
        #: What is wrong at present, and was so for long enough to be reported.
        self.findings: tuple[str, ...] = ()

    def look(self, sight: Sight) -> list[tuple[str, str]]:
        """Return what must be reported now: a sentence each, with a key under which it is the same again."""
        wrong = {**_wrong(sight), **self._backlog(sight), **self._stuck_alarms(sight)}
        wrong |= {f"{_REMARK}{text}": text for text in sight.remarks}
        self._before = sight
        self._seen = {key: self._seen.get(key, 0) + 1 for key in wrong}
        self.findings = tuple(text for key, text in wrong.items() if self._seen[key] >= TOLD_AFTER)
        return [
            (key, text) for key, text in wrong.items() if self._seen[key] == TOLD_AFTER and not key.startswith(_REMARK)
        ]

    def _backlog(self, sight: Sight) -> dict[str, str]:
        before = self._before
        if before is None or sight.backlog < BACKLOG or sight.backlog <= before.backlog:
            return {}
        return {"backlog": f"{sight.backlog} batches wait for the rules, and more and more: rules or disk are too slow"}

    def _stuck_alarms(self, sight: Sight) -> dict[str, str]:
        """Return the alarms of which nothing was settled for a while though firings wait."""
        before = self._before
        former = {} if before is None else before.books["alarms"]
        rows = sight.books["alarms"]
        stuck = [
            name
            for name, row in rows.items()
            if row["waiting"] and name in former and _settled(row) == _settled(former[name]) and former[name]["waiting"]
        ]
        known = {name: self._stuck.get(name, (0, before.time)) for name in stuck} if before is not None else {}
        self._stuck = {name: (n + 1, since) for name, (n, since) in known.items()}
        return {
            f"stuck {name}": _stuck(name, rows[name]["waiting"], sight.time - since)
            for name, (n, since) in self._stuck.items()
            if n >= STUCK_AFTER
        }


def _settled(row: Mapping[str, object]) -> tuple[object, ...]:
    return row["delivered"], row["dead"], row["dropped"], row["handed_over"]


def _stuck(name: str, waiting: int, seconds: float) -> str:
    wait = "1 firing waits" if waiting == 1 else f"{waiting} firings wait"
    span = f"{seconds / 60:.0f} minutes" if seconds >= 2 * 60.0 else f"{seconds:.0f} seconds"
    return f"alarm {name}: {wait}, and none was delivered for {span}; `alarm-mw status` says why"


def _wrong(sight: Sight) -> dict[str, str]:
    found = {f"ledger {text.partition(':')[0]}": text for text in _unbalanced(sight)}
    if sight.fault:
        found["outbox"] = f"the outbox cannot be written: {sight.fault}"
    return found


def _unbalanced(sight: Sight) -> list[str]:
    return [] if sight.waiting is None else imbalances(sight.books, sight.waiting)


async def keep_looking(
    check: SelfCheck,
    look: Callable[[], Sight],
    report: Callable[[str, str], object],
    pause: Callable[[], Awaitable[bool]],
) -> None:
    """Check after each pause that returns True, until cancelled; log what is found, and call `report(text, key)`."""
    while True:
        if await pause():
            try:
                found = check.look(await asyncio.to_thread(look))
            except Exception:  # it must not be the last look
                log.exception("the self-check has failed")
                continue
            for key, text in found:
                log.error("self-check: %s", text)
                report(text, key)
