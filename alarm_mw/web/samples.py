"""Samples of what is counted, once a minute, and their sums for charts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from alarm_mw.engine.messages import rule_text
from alarm_mw.model.types import Rule
from alarm_mw.web.store import Sample, Store

log = logging.getLogger(__name__)

MINUTE = 60

#: Bars of the trend of an hour, of the hours of a day, and of 14 days in steps of two hours.
HOUR, DAY, FORTNIGHT = (60, 1), (24, 60), (168, 120)


def rule_id(rule: Rule) -> str:
    """Return what a rule is called in samples and URLs: its name, or a short hash of what it says."""
    if rule.name:
        return rule.name
    import hashlib  # noqa: PLC0415  # rules have names, mostly

    text = "\0".join((rule_text(rule), *rule.alarms)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=5).hexdigest()


class Sampler:
    """Writes down, each minute, how much what is counted has grown. Lives on one event loop."""

    def __init__(self, store: Store, count: Callable[[], Mapping[Sample, int]]) -> None:
        """`count` returns what was counted since any time; it may begin again at zero."""
        self._store = store
        self._count = count
        self._before: Mapping[Sample, int] = {}

    async def run(self) -> None:
        """Work until it is cancelled."""
        # What was counted before is nobody's minute; but what begins with this process is.
        self._before = {name: n for name, n in (await asyncio.to_thread(self._count)).items() if name[0] != "rule"}
        while True:
            await asyncio.sleep(MINUTE - time.time() % MINUTE)
            try:
                await asyncio.to_thread(self.sample, int(time.time() - 1) // MINUTE)
            except sqlite3.Error as error:
                log.error("a sample for the page could not be written: %s", error)

    def sample(self, minute: int) -> None:
        """Write down what a minute has brought. May block."""
        found = self._count()
        self._store.add_samples(minute, {name: growth(self._before.get(name, 0), n) for name, n in found.items()})
        self._before = found


def growth(before: int, now: int) -> int:
    """Return how much a counter has grown; one that began again at zero by what it shows."""
    return now - before if now >= before else now


def trend(
    store: Store, kind: str, names: Sequence[str], bars: tuple[int, int] = HOUR, until: float | None = None
) -> dict[str, list[int]]:
    """Return sums of samples for each name, the newest last; `bars` says how many, of how many minutes. May block."""
    n, step = bars
    end = int((time.time() if until is None else until) // MINUTE) + 1
    with contextlib.suppress(sqlite3.Error):
        return store.series(kind, names, end - n * step, step, n)
    return {name: [0] * n for name in names}
