"""A trial: one parcel on its way, with what has become of its attempts so far."""

from __future__ import annotations

import time
from dataclasses import dataclass

from alarm_mw.delivery.fallback import Way
from alarm_mw.delivery.grouping import Parcel
from alarm_mw.delivery.policy import GRACE, Delivery
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Reason


@dataclass(slots=True)
class Trial:
    """Times are `time.monotonic`'s seconds."""

    parcel: Parcel
    policy: Delivery
    #: When it began to wait.
    began: float
    #: How many were made, in earlier processes too.
    attempts: int
    #: Seconds to wait before the next attempt.
    pause: float = 0.0
    #: Who delivers when this alarm cannot, as the configuration has it now; None for nobody.
    way: Way | None = None
    #: Since when it has been tried in vain; None while it has not.
    failing_since: float | None = None
    #: What the last attempt said.
    error: str = ""

    @classmethod
    def of(cls, parcel: Parcel, policy: Delivery) -> Trial:
        """Return the trial of a parcel: it is as old as its first firing."""
        first = parcel.entries[0]
        began = first.read_at - policy.age(first.before, first.since)
        attempts = max(entry.attempts for entry in parcel.entries)
        return cls(parcel, policy, began, attempts, failing_since=began if attempts else None)

    def failed(self, error: ActionError, chance: float) -> Reason | None:
        """Note an attempt in vain; return why none is to follow, or None. `chance` is as in `Delivery.pause`."""
        self.error = str(error)
        self.pause = max(error.after or 0.0, self.policy.pause(self.attempts, chance))
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        if not error.retry:
            return Reason.REFUSED
        return Reason.GAVE_UP if time.monotonic() - self.began >= self.policy.give_up_after else None

    def is_overdue(self, failing_since: float | None) -> bool:
        """Return whether it has waited for too long behind others, for which this alarm has failed since then."""
        now, limit = time.monotonic(), self.policy.give_up_after
        has_failed_for = 0.0 if failing_since is None else now - failing_since
        return now - self.began >= limit and has_failed_for >= min(limit, GRACE)

    def patience(self, failing_since: float | None) -> float | None:
        """Return for how many seconds to stay with this alarm, which has failed for others since; None for ever."""
        known = [since for since in (self.failing_since, failing_since) if since is not None]
        if self.way is None or not known:
            return None
        return max(min(known) + self.way.after - time.monotonic(), 0.0)
