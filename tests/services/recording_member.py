"""A member of a fleet that a runtime joins, without a fleet."""

from __future__ import annotations

from dataclasses import dataclass, field

from recording_fleet import RecordingFleet

from alarm_mw.model.fleet import (
    FleetHistory,
    FleetIncident,
    FleetOverview,
    FleetPlan,
    FleetRecord,
    FleetState,
    LocalState,
    SharedOrder,
    SharedSilence,
)
from alarm_mw.model.types import Firing


@dataclass
class RecordingMember(RecordingFleet):
    """Notes what it is told, in `asked` as well: ``start``, ``stop``, ``change``."""

    plan: FleetPlan | None = None
    local: LocalState | None = None
    silences: list[SharedSilence] = field(default_factory=list)
    orders: list[SharedOrder] = field(default_factory=list)
    #: What is firing in the fleet.
    incidents: tuple[FleetIncident, ...] = ()

    @property
    def sharing(self) -> RecordingMember:
        return self

    async def start(self) -> None:
        self.asked.append("start")

    async def stop(self, timeout: float) -> None:
        self.asked.append("stop")

    def change(self, plan: FleetPlan) -> None:
        self.plan = plan
        self.asked.append("change")

    def share_silence(self, silence: SharedSilence) -> None:
        self.silences.append(silence)

    def share_order(self, order: SharedOrder) -> None:
        self.orders.append(order)

    async def hand_over(self, firing: Firing) -> None:
        self.asked.append(f"hand over {firing.id}")

    def state(self) -> FleetState:
        assert self.plan is not None
        return {
            "name": self.plan.name,
            "machine": self.plan.machine,
            "state": "connected",
            "error": "",
            "lag": 0.0,
            "is_hub": False,
        }

    async def overview(self) -> FleetOverview:
        assert self.plan is not None
        return FleetOverview(self.plan.name, self.plan.machine, "connected", incidents=self.incidents)

    async def history(self, since: float) -> FleetHistory:
        return FleetHistory(self.incidents)

    async def incident(self, key: str) -> FleetRecord | None:
        return FleetRecord(tuple(each for each in self.incidents if each.id == key))


class Fleets:
    """Makes members, one for each fleet that is joined."""

    def __init__(self, *, is_refusing: bool = False) -> None:
        self.members: list[RecordingMember] = []
        self._is_refusing = is_refusing

    def join(self, plan: FleetPlan, local: LocalState) -> RecordingMember:
        """Return a member, or raise `ValueError`."""
        if self._is_refusing:
            raise ValueError("no such scheme")
        self.members.append(RecordingMember(plan=plan, local=local))
        return self.members[-1]

    @property
    def member(self) -> RecordingMember:
        """The last one."""
        return self.members[-1]

    @property
    def local(self) -> LocalState:
        """What its master does for it."""
        assert self.member.local is not None
        return self.member.local
