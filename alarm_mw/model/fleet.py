"""What the parts of the program say to each other about a fleet: masters on several machines that share their alarms.

`alarm_mw.fleet` implements `Sharing`, and a master implements `LocalState`. Neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypedDict

import msgspec

from alarm_mw.model.types import Firing, Reason


class SharedAlarm(msgspec.Struct, frozen=True):
    """The limits of one alarm that the whole fleet keeps together."""

    #: Maximum number of messages, and in how many seconds; None: no limit.
    rate: tuple[int, float] | None = None
    #: Seconds in which no machine sends a message with the same fingerprint again.
    repeat_after: float = 60.0
    #: Seconds between reminders of an incident; 0: none.
    repeat_interval: float = 0.0
    #: Whether it is notified of the end of incidents.
    send_resolved: bool = True
    #: Whether it counts for `FleetPlan.alarm_rate`.
    for_humans: bool = True


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration says about its fleet."""

    #: ``redis://``, ``rediss://``, ``redis+sentinel://`` or ``unix://``, with its password.
    url: str
    #: Masters of the same name share.
    name: str
    #: Unique in the fleet.
    machine: str
    #: Seconds for which the owner of a message waits for other machines that have the same to say.
    group_wait: float
    labels: Mapping[str, str] = {}
    #: The alarms that are shared; all others are local.
    alarms: Mapping[str, SharedAlarm]
    #: Of all alarms for humans together.
    alarm_rate: tuple[int, float] | None = None
    #: Names and regexps of rules with ``scope = "machine"``.
    local_rules: frozenset[str] = frozenset()
    #: The same where the rules are.
    rules_hash: str = ""
    #: The name of the server: those of one name should have the same rules.
    program: str = ""
    #: Whether this master delivers what others leave to it.
    is_hub: bool = False
    #: The URL of its page, where one is configured.
    page: str = ""


class Claim(msgspec.Struct, frozen=True):
    """The right to send a message for all machines."""

    #: The message to send: with an id that all machines have in common, and with what they have to say together.
    firing: Firing
    #: Which message of the fleet it is; empty where the fleet could not be reached.
    key: str = ""
    #: Grows with each new owner of the message; 0 where the fleet could not be reached.
    token: int = 0


class Left(msgspec.Struct, frozen=True):
    """A message that this machine must not send."""

    reason: Reason
    #: For people: who has sent it, and when.
    text: str = ""


class Sharing(Protocol):
    """Decides which machine sends a message. Its methods belong on the dispatcher's event loop."""

    def shares(self, firing: Firing) -> bool:
        """Return whether the message concerns the fleet: others are sent without asking. Does not block."""
        ...

    async def claim(self, firing: Firing, on_deferred: Callable[[], object]) -> Claim | Left:
        """Wait until this machine may send a message, or need not.

        `on_deferred` is called, perhaps again, when it turns out that another machine owns the message: a program that
        ends does not wait for that. Takes as long as another machine owns the message and is alive; a fleet that cannot
        be reached within 2 seconds leads to a claim with the token 0. Raises nothing but `asyncio.CancelledError`,
        after which the message may be claimed again, by a later process as well.
        """
        ...

    async def renew(self, claim: Claim) -> bool:
        """Return whether the claim still holds; to be asked before each further attempt."""
        ...

    def settle(self, claim: Claim, *, is_sent: bool) -> None:
        """Say what became of a message, at once: it was sent, or this machine gives it up and leaves it to others.

        Does not wait for the fleet.
        """
        ...

    def hurry(self) -> None:
        """Let no message that this machine owns wait for other machines any more: the program ends soon."""
        ...


class OpenIncident(msgspec.Struct, frozen=True):
    """An incident that is firing on this machine. Times are seconds since the epoch by this machine's clock."""

    id: str
    rule: str
    key: Mapping[str, str]
    labels: Mapping[str, str]
    #: When it began to fire.
    fired: float
    #: What it says: the beginning of its first line.
    text: str
    count: int
    #: When each alarm was last notified.
    notified: Mapping[str, float]
    acknowledged_by: str = ""
    acknowledged_at: float = 0.0
    acknowledged_until: float = 0.0


class SharedSilence(msgspec.Struct, frozen=True):
    """A silence of the fleet. Times are seconds since the epoch by this machine's clock."""

    id: str
    matchers: tuple[str, ...]
    starts: float
    ends: float
    author: str
    comment: str
    #: The later change wins.
    updated: float
    #: The machine where it was changed; empty for this one.
    origin: str = ""


class SharedOrder(msgspec.Struct, frozen=True):
    """What somebody has done about an incident, to be done on all machines."""

    #: ``acknowledged``, ``unacknowledged`` or ``resolved``.
    kind: str
    incident: str
    by: str = ""
    comment: str = ""
    #: Seconds since the epoch by this machine's clock.
    time: float = 0.0
    until: float = 0.0
    #: The machine where it was given; empty for this one.
    origin: str = ""


class SilentMachine(msgspec.Struct, frozen=True):
    """A machine, or several that vanished together, of which nothing was heard for too long."""

    machines: tuple[str, ...]
    #: Seconds since the epoch by this machine's clock.
    since: float
    #: The last lines that it had shown, if it shares them.
    last_lines: tuple[str, ...] = ()


class LocalState(Protocol):
    """What a master knows and does for the fleet. Its methods are called on the event loop and must not block it."""

    async def open_incidents(self) -> Sequence[OpenIncident]:
        """Return the incidents of shared rules that are firing here."""
        ...

    async def silences(self) -> Sequence[SharedSilence]:
        """Return the silences of this master, with those that expired in the last days."""
        ...

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of output that may be shown to the fleet."""
        ...

    def take_silence(self, silence: SharedSilence) -> None:
        """Put a silence in force, or end it, unless the one of this id was changed later here."""
        ...

    def take_order(self, order: SharedOrder) -> None:
        """Do what somebody has done elsewhere; nothing where it is done already."""
        ...

    def report_silent(self, machines: Mapping[str, SilentMachine]) -> None:
        """Take in which machines are silent, all of them, by a name for each incident."""
        ...

    def send(self, firing: Firing) -> None:
        """Deliver a message that no engine of this machine has made: the end of an incident of machines that are gone.

        Called on the event loop. The message goes through the outbox, and is claimed like all others; where its alarm
        is not configured, nothing happens. The same id is taken once.
        """
        ...

    async def take_over(self, firings: Sequence[Firing]) -> Collection[str]:
        """Put messages into the outbox that other machines have left to this hub, and return when they are there.

        Returns the alarms that are not configured: their messages are not taken. The same id is taken once.
        """
        ...


class FleetMember(msgspec.Struct, frozen=True):
    """A machine of the fleet."""

    machine: str
    #: ``alive``, ``silent`` or ``left``.
    state: str
    #: Seconds since it was last heard of.
    seen: float
    labels: Mapping[str, str] = {}
    version: str = ""
    rules_hash: str = ""
    #: Seconds that its last call took.
    lag: float = 0.0
    #: The name of its server.
    program: str = ""
    #: The URL of its page, where one is configured.
    page: str = ""

    def is_comparable(self, other: FleetMember) -> bool:
        """Return whether both should have the same rules: they run the same program, and neither is a hub."""
        return bool(self.rules_hash and other.rules_hash) and self.program == other.program


class FleetNotification(msgspec.Struct, frozen=True):
    """What the fleet has told one alarm about an incident."""

    #: The machine that is about to send a message; empty where none is.
    owner: str = ""
    #: When it was notified last, in seconds since the epoch by this machine's clock; None before the first message.
    told_at: float | None = None
    told_by: str = ""
    #: When it was notified first, and that the episode is over.
    first_at: float | None = None
    first_by: str = ""
    over_at: float | None = None
    over_by: str = ""
    #: How many messages there were.
    messages: int = 0


class FleetIncident(msgspec.Struct, frozen=True):
    """An episode of an incident in the fleet. Times are seconds since the epoch by this machine's clock."""

    id: str
    rule: str
    started: float
    #: The machines on which it is firing; of one that is over, all on which it was.
    machine_count: int
    #: The first 20.
    machines: tuple[str, ...]
    key: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    text: str = ""
    #: Matches on all machines.
    count: int = 0
    alarms: Mapping[str, FleetNotification] = {}
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    acknowledged_until: float | None = None
    comment: str = ""
    #: Counts the episodes of the incident.
    episode: int = 0
    #: None while it is open.
    ended: float | None = None
    #: ``line``, ``timeout``, ``operator``, ``removed``, ``gone``: no machine has said so; empty: nobody knows.
    ended_by: str = ""
    #: Who has ended it by hand.
    resolved_by: str = ""


class FleetHistory(msgspec.Struct, frozen=True):
    """The episodes of the fleet."""

    #: Those that are open, and those that ended in the time that was asked for, the latest first.
    incidents: tuple[FleetIncident, ...] = ()
    #: Why they are not known, for people; empty where they are.
    error: str = ""
    #: The one that was asked.
    machine: str = ""


class FleetRecord(msgspec.Struct, frozen=True):
    """What the fleet knows of one incident."""

    #: Its episodes, the latest first: the first one may be open.
    episodes: tuple[FleetIncident, ...] = ()
    #: The URLs of the pages of its machines, as far as they have some.
    pages: Mapping[str, str] = {}


class FleetBudget(msgspec.Struct, frozen=True):
    """How much of a rate is used up; the alarm "" stands for all alarms for humans together."""

    alarm: str
    used: int
    limit: int
    seconds: float


def while_away(*, is_hub: bool) -> str:
    """Return what it means that the fleet cannot be reached, for people."""
    return "the hub gets no messages" if is_hub else "alarms are sent by this machine alone"


class FleetState(TypedDict):
    """Whether a machine shares with the others at this moment."""

    #: Of the fleet.
    name: str
    machine: str
    #: ``connecting``, ``connected`` or ``away``.
    state: str
    #: Why it is away, or what else is wrong; empty where nothing is.
    error: str
    #: Seconds that the last heartbeat took.
    lag: float
    #: Whether this master delivers what others leave to it.
    is_hub: bool


class FleetOverview(msgspec.Struct, frozen=True):
    """What a member knows of its fleet."""

    name: str
    machine: str
    #: ``connecting``, ``connected`` or ``away``.
    state: str
    #: Why it is away, or what else is wrong; empty where nothing is.
    error: str = ""
    #: Seconds that the last call took.
    lag: float = 0.0
    members: tuple[FleetMember, ...] = ()
    incidents: tuple[FleetIncident, ...] = ()
    budgets: tuple[FleetBudget, ...] = ()
    counters: Mapping[str, int] = {}
    #: Whether this master delivers what others leave to it.
    is_hub: bool = False
