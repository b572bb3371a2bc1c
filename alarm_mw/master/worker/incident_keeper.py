"""Between the incidents of an engine and the outbox: what has changed is written with the firings that follow."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox.clock import LastingClock, Reading
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.store import DAY, Transaction
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.incidents.stored import Changes, Saved
from alarm_mw.model.fleet import SharedOrder
from alarm_mw.model.types import Firing
from alarm_mw.system.garbage import no_search_for_cycles

log = logging.getLogger(__name__)

#: Seconds after which the present time is written down, and deadlines are looked at, while incidents have some: no
#: timer of the system goes on while the machine is suspended.
LOOK_EVERY = 1.0

#: Seconds by which the time of day is set that are noticed.
STEP = 1.0

#: Seconds between two looks for what is too old.
FORGET_EVERY = 3600.0


class IncidentKeeper:
    """Belongs to the worker's thread, apart from `clock`."""

    def __init__(self, outbox: Outbox, clock: Callable[[Reading | None], LastingClock] = LastingClock) -> None:
        """Go on with what a former process has written down; `clock` goes on from its reading."""
        self._outbox = outbox
        self._incidents: Incidents | None = None
        self._saved, before = Saved(), None
        try:
            with no_search_for_cycles():
                self._saved, before = incident_rows.load(outbox)
        except (ValueError, sqlite3.Error) as error:
            log.error("the incidents of the former process are forgotten: %s", error)
        #: What the incidents of all engines go by.
        self.clock = clock(before)
        self._wall_offset = self.clock.wall() - self.clock()
        self._unwritten: list[Changes] = []
        #: Episodes that somebody has acknowledged.
        self._canceled: list[str] = []
        #: The messages that were dropped for that.
        self._dropped: set[str] = set()
        self._looked_at = time.monotonic()
        self._losses = outbox.losses
        self._forget_at = 0.0
        #: Called with what people have done to incidents here. Must not block.
        self.on_order: Callable[[SharedOrder], object] = lambda _: None
        #: Days for which history is kept.
        self.history_days = 90.0

    def adopt(self, incidents: Incidents) -> list[Firing]:
        """Go on with another engine's incidents; return the messages that follow."""
        former, self._incidents = self._incidents, incidents
        with no_search_for_cycles():
            if former is not None:
                return incidents.go_on(former)
            saved, self._saved = self._saved, Saved()
            return incidents.start(saved, self.clock.gap, self.clock.blind)

    def due(self) -> float | None:
        """Return when to call `tick`, in the seconds of `time.monotonic`; None where there is no deadline."""
        if self._incidents is None:
            return None
        times = (self._incidents.due(), self._incidents.write_due() if self._outbox.has_file else None)
        due = min((each for each in times if each is not None), default=None)
        return None if due is None else min(time.monotonic() + due, self._looked_at + LOOK_EVERY)

    def tick(self) -> list[Firing]:
        """Return the messages that are due."""
        if self._incidents is None:
            return []
        now = time.monotonic()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            self._incidents.forget(self.history_days * DAY)
            if self._outbox.has_file:
                incident_rows.forget_events(self._outbox, self.history_days, time.time())
        if self._outbox.losses != self._losses:
            self._losses = self._outbox.losses
            self._incidents.note_all()
        if gap := self.clock.suspension():
            self._incidents.skip(gap)
        return [*(self._incidents.look_at_held() if self._is_wall_set() else ()), *self._incidents.tick()]

    def _is_wall_set(self) -> bool:
        """Return whether the time of day was set since the last call: mute intervals go by it."""
        before, self._wall_offset = self._wall_offset, self.clock.wall() - self.clock()
        return (
            self._incidents is not None and self._incidents.marking.has_mutes and abs(before - self._wall_offset) > STEP
        )

    def collect(self) -> bool:
        """Take what has changed, and count it; return whether that has to be written at once."""
        if self._incidents is None:
            return False
        now = time.monotonic()
        is_due = self._incidents.is_urgent or (self.due() is not None and now >= self._looked_at + LOOK_EVERY)
        if is_due:
            self._looked_at = now
        for order in self._incidents.orders:
            self.on_order(order)
        self._incidents.orders.clear()
        self._canceled += self._incidents.canceled
        self._incidents.canceled.clear()
        changes = self._incidents.take_changes()
        for rule, column in changes.counts:
            self._outbox.ledger.rule(rule, column)
        is_changed = changes.incidents or changes.forgotten or changes.seen or changes.measured
        if self._outbox.has_file and (is_due or is_changed):
            self._unwritten.append(changes)
        return is_due

    def write(self, outbox: Outbox, transaction: Transaction, refused: Sequence[Firing] = ()) -> None:
        """Write what has changed, within a transaction; call `written` behind it.

        The alarms of messages that were `refused` have not been notified.
        """
        self.refuse(refused)
        for thread in self._canceled:
            for firing in outbox.cancel(transaction, thread):
                if self._incidents is not None and firing.id not in self._dropped:  # a transaction may be repeated
                    self._incidents.forget_notification(firing)
                    self._dropped.add(firing.id)
        for changes in self._unwritten:
            incident_rows.write(outbox, changes, self.clock.read())

    def refuse(self, firings: Iterable[Firing]) -> None:
        """Take note that messages were not taken into the outbox."""
        if self._incidents is not None:
            for firing in firings:
                self._incidents.refuse(firing)

    def accept(self) -> None:
        """Take note that nothing of what was made so far will be refused any more."""
        if self._incidents is not None:
            self._incidents.accept()

    def written(self) -> None:
        """Take note that it was written."""
        self.accept()
        self._unwritten.clear()
        self._canceled.clear()
        self._dropped.clear()

    def count_firing(self) -> dict[str, int]:
        """Return how many incidents of each rule really are firing. From any thread."""
        if self._outbox.has_file:
            return incident_rows.count_firing(self._outbox)
        return {} if self._incidents is None else self._incidents.open_by_rule()
