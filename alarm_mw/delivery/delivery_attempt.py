"""The attempts at one group: when the next one is due, and when the group is given up or handed over."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

from alarm_mw.delivery.fallback import Fallback
from alarm_mw.delivery.grouping import Group
from alarm_mw.delivery.policy import GRACE, DeliveryPolicy
from alarm_mw.delivery.sharing import Claims
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing, Reason


class Ended(enum.Enum):
    """Why a lane is done with a group without an outcome of its own."""

    #: Somebody has dropped it meanwhile.
    DROPPED = enum.auto()
    #: Other machines of the fleet send it.
    LEFT = enum.auto()
    #: The lane is to finish: the group stays in the outbox.
    FINISHING = enum.auto()


@dataclass(slots=True)
class DeliveryAttempt:
    """The attempts at one group so far, and the next one. Times are `time.monotonic`'s seconds."""

    group: Group
    policy: DeliveryPolicy
    #: When the group began to wait.
    began: float
    #: The number of attempts, including those of earlier processes.
    attempts: int
    #: Seconds to wait before the next attempt.
    pause: float = 0.0
    #: The alarm that delivers when this one cannot, by the present configuration; None for none.
    fallback: Fallback | None = None
    #: When attempts began to fail; None while none has failed.
    failing_since: float | None = None
    #: The error of the last attempt.
    error: str = ""
    #: What is sent; None: the group's firing.
    message: Firing | None = None
    #: What is claimed of a fleet; None without one.
    claims: Claims | None = None

    @property
    def firing(self) -> Firing:
        """What is sent."""
        return self.message or self.group.firing

    @classmethod
    def of(cls, group: Group, policy: DeliveryPolicy) -> DeliveryAttempt:
        """Return the attempt at a group, which is as old as its first firing."""
        first = group.entries[0]
        began = first.read_at - policy.age(first.before, first.since)
        attempts = max(entry.attempts for entry in group.entries)
        return cls(group, policy, began, attempts, failing_since=began if attempts else None)

    def failed(self, error: ActionError, chance: float) -> Reason | None:
        """Note a failed attempt; return why it is the last one, or None. `chance` is as in `DeliveryPolicy.pause`."""
        self.error = str(error)
        self.pause = max(error.after or 0.0, self.policy.pause(self.attempts, chance))
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        if not error.retry:
            return Reason.REFUSED
        return Reason.GAVE_UP if time.monotonic() - self.began >= self.policy.give_up_after else None

    def is_overdue(self, failing_since: float | None) -> bool:
        """Return whether it has waited too long behind others, whose attempts fail since then."""
        now, limit = time.monotonic(), self.policy.give_up_after
        has_failed_for = 0.0 if failing_since is None else now - failing_since
        return now - self.began >= limit and has_failed_for >= min(limit, GRACE)

    def patience(self, failing_since: float | None) -> float | None:
        """Return the seconds before the fallback is used, where other attempts fail since then; None without one."""
        known = [since for since in (self.failing_since, failing_since) if since is not None]
        if self.fallback is None or not known:
            return None
        return max(min(known) + self.fallback.after - time.monotonic(), 0.0)
