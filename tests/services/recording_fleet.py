"""A fleet that decides what a test says, and notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import structs

from alarm_mw.model.fleet import Claim, Left
from alarm_mw.model.types import Firing, Reason


@dataclass
class RecordingFleet:
    """Grants every claim, but for what is in `left` and `owned`. Its messages say so."""

    #: The ids of firings that other machines have sent.
    left: set[str] = field(default_factory=set)
    #: The ids of firings that other machines own, until they are removed and `changed` is set.
    owned: set[str] = field(default_factory=set)
    #: The alarms that are shared; None: all.
    alarms: set[str] | None = None
    #: Whether claims still hold when they are renewed.
    is_kept: bool = True
    #: What is raised instead of an answer.
    error: Exception | None = None
    #: What it was asked, in order: ``claim ID``, ``renew ID``, ``sent ID``, ``given up ID``, ``hurry``.
    asked: list[str] = field(default_factory=list)
    #: To be set when `owned` has changed.
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def shares(self, firing: Firing) -> bool:
        """Return whether the alarm is shared."""
        return self.alarms is None or firing.alarm in self.alarms

    async def claim(self, firing: Firing, on_deferred: Callable[[], object]) -> Claim | Left:
        """Answer as the test says."""
        self.asked.append(f"claim {firing.id}")
        if self.error is not None:
            raise self.error
        while firing.id in self.owned:
            on_deferred()
            self.changed.clear()
            await self.changed.wait()
        if firing.id in self.left:
            return Left(Reason.FLEET, "sent by web-2")
        message = firing.message.removesuffix(b"\n") + b" (on 2 machines)\n"
        return Claim(structs.replace(firing, id=f"shared-{firing.id}", message=message), firing.id, 1)

    async def renew(self, claim: Claim) -> bool:
        """Answer as the test says."""
        self.asked.append(f"renew {claim.key}")
        return self.is_kept

    def settle(self, claim: Claim, *, is_sent: bool) -> None:
        """Take note of it."""
        self.asked.append(f"{'sent' if is_sent else 'given up'} {claim.key}")

    def hurry(self) -> None:
        """Take note of it."""
        self.asked.append("hurry")

    def free(self, *ids: str) -> None:
        """Let other machines no longer own these firings."""
        self.owned.difference_update(ids)
        self.changed.set()
