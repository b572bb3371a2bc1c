"""The values of an incident: its state, what each alarm was notified of, and what holds messages back.

All times are seconds since the epoch, of a clock that never jumps (see `tracker`).
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable, Mapping

import msgspec

from alarm_mw.model.types import Record

#: Fields of a record and named groups of a regexp, in the order of the rule's `key`.
Key = tuple[tuple[str, str], ...]

#: The key of the incident that counts the matches beyond a rule's `max_keys`.
OTHER: Key = (("key", "other"),)


#: The part of a step's period by which sums of times may be wrong.
_EPSILON = 1e-6


class State(enum.StrEnum):
    """Where an incident stands in its life."""

    #: It has matches, and not yet as many as its rule's `count`.
    PENDING = enum.auto()
    FIRING = enum.auto()
    RESOLVED = enum.auto()


class Status(enum.StrEnum):
    """What a message says of its incident."""

    FIRING = enum.auto()
    #: It is still firing, and the alarm's `repeat_interval` has passed.
    REMINDER = enum.auto()
    #: It is firing, and a later step of its escalation has been reached.
    ESCALATED = enum.auto()
    #: It begins and ends so often that single messages are held back.
    FLAPPING = enum.auto()
    #: Somebody has acknowledged it: for services that keep an alert of their own.
    ACKNOWLEDGED = enum.auto()
    RESOLVED = enum.auto()


class Mark(enum.StrEnum):
    """Holds messages back without changing the state. The names are those of the ledger's reasons."""

    SILENCED = enum.auto()
    INHIBITED = enum.auto()
    ACKNOWLEDGED = enum.auto()
    FLAPPING = enum.auto()
    MUTED = enum.auto()
    RATE = enum.auto()
    ALARM_RATE = enum.auto()
    UNAVAILABLE = enum.auto()


class EndedBy(enum.StrEnum):
    """Why an incident was resolved."""

    #: A line matched the rule's `resolve`, or its monitor said so.
    LINE = enum.auto()
    #: No match for `resolve_after`.
    TIMEOUT = enum.auto()
    #: The rule was removed from the configuration.
    REMOVED = enum.auto()
    #: Somebody resolved it by hand.
    OPERATOR = enum.auto()


class Step(msgspec.Struct, frozen=True, array_like=True):
    """An alarm that is notified some time after an incident began to fire."""

    alarm: str
    #: Seconds after the incident began to fire.
    after: float = 0.0
    #: Whether it is notified when the incident is resolved.
    send_resolved: bool = True
    #: Seconds between reminders; 0: none.
    repeat_interval: float = 0.0
    #: How often the step is repeated, and after how many seconds each time.
    repeat: int = 0
    period: float = 0.0
    #: Whether it is notified when somebody acknowledges the incident.
    send_acknowledged: bool = False

    def next_repetition(self, fired: float, last: float) -> float | None:
        """Return when the step is repeated that was last done at `last`; None where it is not any more."""
        if not self.repeat:
            return None
        done = int((last - fired - self.after) / self.period + _EPSILON)
        return fired + self.after + (done + 1) * self.period if done < self.repeat else None


class Notified(msgspec.Struct, frozen=True, array_like=True):
    """The last notification of an alarm about an incident."""

    status: Status
    episode: int
    time: float
    #: How many messages it was sent since its last `resolved`.
    messages: int = 1

    @property
    def is_open(self) -> bool:
        """Return whether the alarm believes that the incident is firing."""
        return self.status is not Status.RESOLVED


class Acknowledgement(msgspec.Struct, frozen=True, array_like=True):
    """Somebody has acknowledged an episode of an incident."""

    by: str
    time: float
    #: When it stops to hold reminders and escalation back.
    until: float
    comment: str = ""


class Incident(msgspec.Struct, array_like=True):
    """One value of a rule's key, over all of its episodes."""

    id: str
    #: Distinguishes this incident from an evicted one of the same key: when it was made, in microseconds.
    serial: int
    rule: str
    key: Key
    labels: dict[str, str]
    #: Whom it notifies and when: a copy of its rule's alarms and escalation, made when the episode began to fire.
    steps: tuple[Step, ...] = ()
    state: State = State.PENDING
    #: 1 for the first episode.
    episode: int = 0
    #: How many messages were made of it; with id and episode the identity of a message.
    sequence: int = 0
    #: Matches in this episode.
    count: int = 0
    #: When the episode had its first match.
    opened: float = 0.0
    #: When it began to fire.
    fired: float = 0.0
    #: When it last had a match.
    last: float = 0.0
    #: When it ends after all, unless it matches again before.
    ends: float | None = None
    ended: float | None = None
    ended_by: EndedBy | None = None
    ack: Acknowledgement | None = None
    notified: dict[str, Notified] = {}
    #: Why each alarm was not notified last time, so that this is counted once.
    held: dict[str, Mark] = {}
    #: When it last changed between firing and resolved.
    transitions: list[float] = []
    #: Matches that count towards `count` while it is pending.
    pending: list[float] = []
    #: When it was noticed to be flapping.
    flapping_since: float | None = None
    #: The record with which it began to fire, shortened.
    first: Record | None = None
    #: What ended the episode: the line, or who did it.
    end: str = ""
    #: Seconds of downtime before the last match, all together: only what comes behind is no quiet time.
    blind: float = 0.0
    #: Steps of former episodes whose alarms are still to be notified of the end.
    owed: tuple[Step, ...] = ()
    #: Of a rule with a schedule: its text, and the time for which a match is expected, in seconds since the epoch.
    expected: tuple[str, float] | None = None
    #: The record of the episode's worst match, shortened; None where none is worse than the first.
    worst: Record | None = None

    @property
    def is_open(self) -> bool:
        """Return whether it is firing."""
        return self.state is State.FIRING


class Marks(msgspec.Struct, frozen=True):
    """What holds the messages of one incident back, and until when; a time of 0 is past."""

    acknowledged_until: float = 0.0
    #: The end of the silence that covers the incident for an alarm; the name "" stands for every alarm.
    silenced_until: Mapping[str, float] = {}
    inhibited: bool = False
    muted_until: float = 0.0
    flapping: bool = False
    #: Asked last for each message but an end: counts the message, or returns what else holds it back.
    admit: Callable[[str], tuple[Mark, float | None] | None] = lambda _alarm: None

    def of(self, alarm: str, now: float) -> tuple[Mark, float | None] | None:
        """Return the first mark that holds a message to `alarm` back, with its end where that is known; else None.

        Flapping is none of them: it replaces the messages.
        """
        silenced = max(self.silenced_until.get(alarm, 0.0), self.silenced_until.get("", 0.0))
        if silenced > now:
            return Mark.SILENCED, silenced
        if self.inhibited:
            return Mark.INHIBITED, None
        if self.acknowledged_until > now:
            return Mark.ACKNOWLEDGED, self.acknowledged_until
        if self.muted_until > now:
            return Mark.MUTED, self.muted_until
        return self.admit(alarm)


def incident_id(rule: str, key: Key) -> str:
    """Return a short name for an incident: the same on every machine and after every restart."""
    return hashlib.blake2b(msgspec.msgpack.encode((rule, key)), digest_size=5).hexdigest()


def key_of(names: Iterable[str], facts: Mapping[str, str]) -> Key:
    """Return the key that facts have; a fact that is missing is empty."""
    return tuple([(name, facts.get(name, "")) for name in names])


def thread_of(incident: Incident) -> str:
    """Return what the ids of all messages about an episode begin with."""
    return f"{incident.id}-{incident.serial:x}-{incident.episode}"
