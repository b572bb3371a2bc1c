"""What lies in the outbox: firings with their states and outcomes, and their bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import structs

from alarm_mw.delivery.outbox.limits import State
from alarm_mw.model.types import Firing, Reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A firing in the outbox. `seq` grows in the order in which firings were taken."""

    seq: int
    firing: Firing
    #: Failed attempts so far, including those of earlier processes.
    attempts: int = 0
    #: Seconds for which it has been waiting in this process, when it was read.
    since: float = 0.0
    #: Seconds for which it was waiting before, by the clocks of earlier processes.
    before: float = 0.0
    #: When it was read, in `time.monotonic`'s seconds.
    read_at: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final outcome of a firing."""

    state: State
    attempts: int
    error: str = ""
    reason: Reason | None = None
    #: Whether it has waited for another machine of a fleet.
    is_deferred: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of firings that were handled as one."""

    entries: Sequence[Entry]
    outcome: Outcome
    #: The firing of another alarm that replaces them.
    successor: Firing | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The firings that the outbox has taken, in order."""

    entries: list[Entry]
    #: The outbox's `bypasses` at that time.
    bypasses: int


#: Precedes a firing whose record has the same message, which is then stored once. No MessagePack map begins with it.
SHARED = b"="

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Firing)


def encode(firing: Firing) -> bytes:
    """Return a firing as bytes."""
    if not firing.message or firing.message != firing.record.message:
        return _encoder.encode(firing)
    record = structs.replace(firing.record, message=b"")
    return SHARED + _encoder.encode(structs.replace(firing, record=record))


def decode(data: bytes) -> Firing:
    """Return the firing that `encode` was given. Raises `ValueError` or `TypeError` for anything but its result."""
    if data[:1] != SHARED:
        return _decoder.decode(data)
    firing = _decoder.decode(memoryview(data)[len(SHARED) :])
    structs.force_setattr(firing.record, "message", firing.message)  # frozen, but not shared yet
    return firing


def incident_of(firing: Firing) -> str | None:
    """Return what a firing has in common with others about the same episode of an incident; None where it has none."""
    return None if firing.trigger is None or firing.trigger.incident is None else firing.trigger.incident.thread


def origin_of(firing: Firing) -> str:
    """Return the alarm that a firing was for, before others had to deliver it."""
    return firing.via[0] if firing.via else firing.alarm
