"""Asks a fleet which machine sends a message. Only where one is configured."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence

from alarm_mw.delivery.outbox.entries import Entry
from alarm_mw.model.fleet import Claim, Left, Sharing
from alarm_mw.model.types import Firing

log = logging.getLogger(__name__)

#: Seconds of failed attempts after which a machine leaves a message to others: they may reach the receiver.
LEFT_AFTER = 30.0


class Claims:
    """What one group has claimed of a fleet. Lives on the event loop.

    `on_change` is called when it may have begun or ceased to wait for other machines alone.
    """

    def __init__(self, sharing: Sharing, on_change: Callable[[], object]) -> None:
        self._sharing = sharing
        self._on_change = on_change
        #: By the number of the entry.
        self._claims: dict[int, Claim] = {}
        #: When the last one was granted, in `time.monotonic`'s seconds.
        self._since = 0.0
        #: The numbers of the entries of which it is not known yet who sends them.
        self._open: set[int] = set()
        #: Those that have waited for another machine.
        self.deferred: set[int] = set()

    @property
    def is_deferred(self) -> bool:
        """Whether it waits at this moment, and for other machines alone."""
        return bool(self._open) and self._open <= self.deferred

    async def take(self, entries: Sequence[Entry]) -> dict[int, Left]:
        """Claim entries, or renew the claims; return those that this machine must not send, by their numbers.

        Takes as long as other machines own some of them.
        """
        self._open = {entry.seq for entry in entries}
        # Most groups are of one.
        found = [await self._take(entries[0])] if len(entries) == 1 else await asyncio.gather(*map(self._take, entries))
        return {entry.seq: left for entry, left in zip(entries, found, strict=True) if left is not None}

    async def _take(self, entry: Entry) -> Left | None:
        try:
            return await self._claim(entry) if self._sharing.shares(entry.firing) else None
        except Exception:  # better twice than not at all
            log.exception("alarm %s: the fleet cannot be asked, the message is sent", entry.firing.alarm)
            return None
        finally:
            self._open.discard(entry.seq)
            self._on_change()

    async def _claim(self, entry: Entry) -> Left | None:
        former = self._claims.get(entry.seq)
        if former is not None and await self._sharing.renew(former):
            return None
        self._claims.pop(entry.seq, None)
        found = await self._sharing.claim(entry.firing, functools.partial(self._defer, entry.seq))
        if isinstance(found, Left):
            return found
        self._claims[entry.seq] = found
        self._since = time.monotonic()
        return None

    def _defer(self, seq: int) -> None:
        self.deferred.add(seq)
        self._on_change()

    def firings(self, entries: Sequence[Entry]) -> list[Firing]:
        """Return what is to be sent, in the order of the entries."""
        return [self._claims[each.seq].firing if each.seq in self._claims else each.firing for each in entries]

    def failed(self, pause: float) -> None:
        """Take note of a failed attempt; after `LEFT_AFTER` seconds, including the next pause, others may try."""
        if time.monotonic() + pause - self._since >= LEFT_AFTER:
            self.settle(is_sent=False)

    def settle(self, *, is_sent: bool) -> None:
        """Say what became of all that is still claimed."""
        claims, self._claims = self._claims, {}
        for claim in claims.values():
            self._sharing.settle(claim, is_sent=is_sent)
