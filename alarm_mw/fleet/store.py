"""The operations on what the members of a fleet share. All times are milliseconds by the clock of the shared state.

Those of silences and orders as well: `relay` converts them on their way from and to this machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from alarm_mw.model.fleet import SharedOrder, SharedSilence

#: What an alarm believes of an incident.
Belief = Literal["open", "over"]


class FleetUnreachableError(Exception):
    """The shared state cannot be used now. The text says why, for people."""

    def __init__(self, text: str, waited: float = 0.0) -> None:
        super().__init__(text)
        #: For how many seconds an answer was awaited.
        self.waited = waited


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of which an alarm was notified."""

    at: int
    #: The episode of the incident.
    ep: int
    #: What the alarm believes since.
    status: Belief
    #: The message's id.
    id: str
    by: str = ""
    #: The number of the message in its episode.
    seq: int = 1
    #: How many machines had the same to say.
    n: int = 1
    #: Known from before a restart only: it counts where the shared state knows nothing else.
    is_guess: bool = False


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody has acknowledged an incident."""

    by: str
    at: int
    until: int
    comment: str = ""


class Over(msgspec.Struct, frozen=True):
    """Somebody has ended an incident by hand."""

    by: str
    at: int


class Offer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A message that a member has to send. The same `id` is the same message, however often it is offered."""

    machine: str
    #: The message key.
    key: str
    alarm: str
    #: The alarm's name as a part of ids.
    name: str = ""
    #: The id of this machine's firing.
    id: str = ""
    #: When this was asked, by the shared clock: much later it changes nothing. 0: it holds whenever it comes.
    sent: int = 0
    #: ``restore`` wants no answer: it says what a member knows.
    kind: Literal["begin", "repeat", "acknowledged", "resolved", "event", "restore"]
    #: It is about no incident.
    is_event: bool = False
    #: The incident is firing on this machine.
    is_member: bool = False
    #: How many matches or firings this machine has counted.
    count: int = 1
    #: Names this machine's own episode.
    thread: str = ""
    #: When the incident began to fire.
    fired: int | None = None
    #: When the incident began to fire on this machine, or something before which says that it is firing.
    began: int | None = None
    #: Facts for people, as JSON.
    info: str | None = None
    #: The id that the message was given by an earlier answer.
    given: str | None = None
    #: The episode that the message belongs to, as far as known.
    ep: int = 0
    #: Of the claim to be confirmed, and its kind.
    token: int | None = None
    claimed: str = ""
    #: This member knows that this was sent.
    told: Told | None = None
    #: This member knows that these messages of the alarm were sent, with ids and times: nothing but budgets follows.
    spent: tuple[tuple[str, int], ...] = ()
    ack: Ack | None = None
    #: Of a repeated message: the time between two.
    interval: int | None = None
    #: Of an event: no machine sends another one within this time.
    window: int | None = None
    #: Maximum number of messages, within how long: of the alarm, and of all alarms for humans.
    rate: tuple[int, int] | None = None
    alarm_rate: tuple[int, int] | None = None
    #: The alarm is not notified of the end of incidents.
    no_resolved: bool = False
    #: Of an end: ``line``, ``timeout``, ``operator`` or ``removed``, and who has ended it by hand.
    cause: str = ""
    by: str = ""
    #: How long a new generation waits for what members know.
    grace: int = 6_000
    #: An owner that was not heard of for so long may lose its claims.
    owner_timeout: int = 15_000
    #: For how long a machine that has released a message leaves it to others.
    release_pause: int = 10_000


class Settlement(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of a claimed message."""

    machine: str
    key: str
    alarm: str
    token: int
    #: The message's id.
    id: str
    is_event: bool = False
    window: int | None = None
    grace: int = 6_000


class Beat(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A sign of life."""

    machine: str
    #: Names the process.
    instance: str
    #: Facts about the machine, as JSON.
    info: str = "{}"
    #: The first one over a connection.
    hello: bool = False
    #: The last one: the machine is not missed.
    leaving: bool = False
    grace: int = 6_000
    owner_timeout: int = 15_000
    sweep_every: int = 5_000


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Look for machines that are gone, and for what they have left."""

    machine: str
    silent_after: int
    #: After which what a machine reported counts as over.
    gone_after: int
    #: After which nobody misses a machine.
    forget_after: int
    #: After which some member sends the end of an incident without machines.
    owed_after: int
    grace: int = 6_000
    owner_timeout: int = 15_000


class Owed(msgspec.Struct, frozen=True):
    """An incident that no machine reports any more, and the alarms that still believe that it is firing."""

    key: str
    alarms: tuple[str, ...]
    info: str = "{}"
    ep: int = 0
    n: int | str = 0
    #: When it began, the last machine that has reported it, and who has ended it by hand.
    started: int | None = None
    machine: str = ""
    by: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What the shared state answers."""

    #: To an offer: ``own``, ``deferred``, ``wait``, ``left``, ``lost`` or ``told``.
    kind: str
    #: Changes when the state was lost, or may be incomplete.
    gen: int
    now: int
    #: The message's id.
    id: str = ""
    ep: int = 0
    token: int = 0
    #: The kind of the message that this machine owns.
    claimed: str = ""
    #: How many machines have the same to say, the names of some, and what they have counted.
    n: int = 0
    machines: tuple[str, ...] = ()
    count: int = 0
    started: int | None = None
    #: How many firings were held back since the last message, and since when.
    held: int = 0
    since: int | None = None
    #: Who owns or has sent the message.
    by: str = ""
    #: Ask again after so long.
    wait: int = 0
    #: Why a message is not to be sent.
    reason: str = ""
    told: int = 0
    seq: int = 1
    status: str = ""
    ack: Ack | None = None
    #: The incident of this machine was ended by hand, while it was away.
    over: Over | None = None
    #: Other alarms to be notified of the same end; to a sweep, what nobody reports any more.
    owed: tuple[str | Owed, ...] = ()
    #: Of a heartbeat: how long the generation still waits, whether this member is to sweep, who has the same name.
    grace: int = 0
    sweep: bool = False
    twin: str = ""


class Settled(msgspec.Struct, frozen=True, tag_field="t", tag="settled"):
    """A message was sent."""

    key: str
    alarm: str
    at: int
    id: str
    gen: int = 0
    by: str = ""
    ep: int = 0
    seq: int = 1
    status: str = ""
    event: bool = False


class Event(NamedTuple):
    """Something that all members get."""

    #: Its place in the stream.
    id: str
    #: ``settled``, ``released``, ``order``, ``silence``, ``gen``, ``left`` or ``dead``.
    kind: str
    #: JSON.
    body: bytes

    @property
    def time(self) -> int:
        """When it happened."""
        return int(self.id.partition("-")[0])


class IncidentFacts(NamedTuple):
    """An incident as it is now."""

    #: Its hash.
    fields: Mapping[str, bytes]
    #: The first ones, and how many there are.
    machines: tuple[str, ...]
    machine_count: int
    #: What they have counted together.
    matches: int


class PastEpisode(NamedTuple):
    """An episode of an incident that is over."""

    #: The incident's message key.
    key: str
    #: JSON.
    facts: bytes


class IncidentRecord(NamedTuple):
    """All that the shared state knows of one incident."""

    #: As it is, or was when it ended last; None where that is forgotten.
    now: IncidentFacts | None
    #: Its episodes that are over, in no order.
    past: Sequence[PastEpisode]
    #: What the machines say of themselves that `now` names, as JSON.
    machines: Mapping[str, bytes]


class Facts(NamedTuple):
    """The shared state as it is now, for people."""

    now: int
    #: JSON, by machine.
    machines: Mapping[str, bytes]
    #: By machine: its last sign of life, since when it is silent (JSON), when it left.
    beats: Mapping[str, float]
    dead: Mapping[str, bytes]
    left: Mapping[str, float]
    #: By message key.
    incidents: Mapping[str, IncidentFacts]
    #: By alarm, and "" for all together: the times of messages.
    budgets: Mapping[str, Sequence[float]]


class Store(Protocol):
    """What a member needs of the engine that keeps the shared state.

    Every operation is atomic, ends within some seconds, and raises `FleetUnreachableError`.
    """

    async def connect(self) -> None:
        """Connect again; find the server that has the state now."""
        ...

    async def close(self) -> None:
        """Close the connections. May be called again."""
        ...

    async def offer(self, offer: Offer) -> Answer:
        """Ask whether this member sends a message, or confirm that it does."""
        ...

    async def settle(self, settlement: Settlement) -> Answer:
        """Say that a message was sent."""
        ...

    async def release(self, settlement: Settlement) -> Answer:
        """Give a message up."""
        ...

    async def resolve(self, offer: Offer) -> Answer:
        """Say that an incident is over on this machine, and ask whether this member says so for all."""
        ...

    async def beat(self, beat: Beat) -> Answer:
        """Give a sign of life."""
        ...

    async def sweep(self, sweep: Sweep) -> Answer:
        """Look after what others have left."""
        ...

    async def silence(self, silence: SharedSilence) -> Answer:
        """Share a silence, unless a later change of it is known."""
        ...

    async def order(self, order: SharedOrder) -> Answer:
        """Share what somebody has done about an incident."""
        ...

    async def silences(self) -> Sequence[SharedSilence]:
        """Return all silences."""
        ...

    async def dead(self) -> Mapping[str, tuple[bytes, bytes]]:
        """Return the machines that are silent: since when, and their facts, as JSON."""
        ...

    async def events(self, after: str) -> Sequence[Event]:
        """Return the events behind a place in the stream; wait some time for the next one if there is none."""
        ...

    async def hand_over(self, name: str, data: bytes, most: int) -> bool:
        """Leave a message to the hub; return False where `most` others wait already."""
        ...

    async def waits_for_hub(self, name: str) -> bool:
        """Return whether the hub has not taken a message yet."""
        ...

    async def handed_over(self) -> Mapping[str, bytes]:
        """Return the messages that wait for the hub, by their names."""
        ...

    async def took(self, names: Sequence[str]) -> None:
        """Take messages away that the hub has taken."""
        ...

    async def facts(self, alarms: Mapping[str, float]) -> Facts:
        """Return the state for people, with the budgets of these alarms, each over so many milliseconds."""
        ...

    async def past(self, since: int, until: int, skip: int) -> Sequence[PastEpisode]:
        """Return a part of the episodes that ended in this time, the latest first; none behind the last one.

        The next part begins as many behind this one as it has. A member that asks on uses the same `until`.
        """
        ...

    async def incident(self, key: str) -> IncidentRecord:
        """Return what is known of one incident."""
        ...
