"""The delivery policy of an alarm: time limits, backoff, grouping and when to give up."""

from __future__ import annotations

from typing import Annotated

import msgspec

#: A number of seconds, which a configuration may also write as a time such as ``90m``.
Seconds = Annotated[float, msgspec.Meta(ge=0, extra={"duration": True}, extra_json_schema={"duration": True})]


#: The shortest pause between two attempts, in seconds, whatever is configured.
SHORTEST = 0.01

#: Minimum seconds for which a firing is tried after a restart, or half of `give_up_after` where that is less.
GRACE = 60.0


class DeliveryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an alarm's lane delivers: every key of it may stand in the alarm's table, under ``delivery``."""

    attempt_timeout: Annotated[
        Seconds, msgspec.Meta(description="seconds that one attempt may take; 0 is no limit")
    ] = 30.0
    give_up_after: Annotated[
        Seconds, msgspec.Meta(description="seconds after which a firing goes to the dead letters")
    ] = 86_400.0
    backoff_first: Annotated[Seconds, msgspec.Meta(description="seconds before the first retry")] = 0.5
    backoff_max: Annotated[Seconds, msgspec.Meta(description="the longest pause between retries, in seconds")] = 60.0

    group_wait: Annotated[
        Seconds, msgspec.Meta(description="seconds for which firings are gathered, to be delivered as one; 0 for never")
    ] = 0.0
    group_by: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="what firings of one group have in common: ``fingerprint``, ``rule``, ``logger``, ``level``, "
            "``source``, ``message``, or the name of a field; nothing puts all of them into one group"
        ),
    ] = ()

    def __post_init__(self) -> None:
        if self.group_by and not self.group_wait:
            raise ValueError("group_by without group_wait, which says for how many seconds firings are gathered")

    def age(self, before: float, since: float) -> float:
        """Return the age of a firing in seconds, for `give_up_after`.

        It waits for `since` seconds in this process, and waited `before` seconds by the clocks of earlier ones, which
        may have been wrong: `before` alone leaves it a last `GRACE`.
        """
        return min(before, max(self.give_up_after - GRACE, self.give_up_after / 2)) + since

    def pause(self, attempt: int, chance: float) -> float:
        """Return the seconds to wait after failed attempt number `attempt` (from 1): full jitter over a doubling limit.

        `chance` is a random number from 0 to 1. The pause is at least half of the limit, so that a retry never
        follows at once.
        """
        limit = min(self.backoff_max, self.backoff_first * 2.0 ** min(attempt - 1, 30))
        return max(limit * (0.5 + 0.5 * chance), SHORTEST)
