"""What the outbox's tests share with the worker: how taken firings are counted; and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Firing


class Clock:
    """Seconds since the epoch."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def booking(outbox: Outbox) -> Callable[[Firing, bool], None]:
    """Return what counts a firing in the ledger: once, though the outbox may begin anew with it."""
    booked: set[str] = set()

    def book(firing: Firing, is_new: bool) -> None:  # the outbox's callback
        if firing.id not in booked:
            booked.add(firing.id)
            outbox.ledger.alarm(firing.alarm, "matched")
            outbox.ledger.alarm(firing.alarm, "fired" if is_new else "held_back:duplicate")

    return book
