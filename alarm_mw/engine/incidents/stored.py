"""What is stored of incidents: their history, what one process leaves to the next, and which records it has judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from alarm_mw.engine.incidents.incident import Incident
from alarm_mw.engine.incidents.measures.measures import Row
from alarm_mw.model.types import Record

#: How many records that concerned an incident are remembered by their keys. After the death of a master, the next one
#: sees again what was not yet acknowledged, which is far less.
SEEN = 20_000

#: The key of a line of an output stream: where it was seen, and its place there.
_PLACE = re.compile(r"(.+)\.(\d+)\.[0-9a-f]{8}")


class Event(msgspec.Struct, frozen=True):
    """Something that has happened to an incident, for its history."""

    #: Seconds since the epoch.
    time: float
    incident: str
    rule: str
    key: Mapping[str, str]
    episode: int
    #: ``opened``, ``resolved``, ``acknowledged``, ``unacknowledged``, or the status of a message.
    kind: str
    #: The alarm of a message, the cause of an end, or who acknowledged it and why.
    text: str = ""


class Saved(msgspec.Struct, frozen=True):
    """What a former process has written down."""

    incidents: tuple[Incident, ...] = ()
    #: Keys of the records that it had judged.
    seen: tuple[str, ...] = ()
    #: The last place that it had seen of each output stream.
    places: Mapping[str, int] = {}
    #: The states of what rules measure.
    measured: tuple[Row, ...] = ()


class Changes(NamedTuple):
    """What must be stored, in one transaction with the firings."""

    incidents: tuple[Incident, ...]
    forgotten: tuple[str, ...]
    events: tuple[Event, ...]
    seen: tuple[str, ...]
    places: Mapping[str, int]
    #: By rule: how many incidents have begun, and how many have ended, by cause.
    counts: tuple[tuple[str, str], ...]
    #: The states of what rules measure.
    measured: tuple[Row, ...]


class SeenRecords:
    """Which records have been judged: a master's successor sees again what the former one had not acknowledged."""

    def __init__(self, keys: Iterable[str] = (), places: Mapping[str, int] | None = None) -> None:
        self._keys = dict.fromkeys(keys)
        self.places = dict(places or {})
        #: Those that are not written down yet.
        self.fresh: list[str] = []

    def is_new(self, record: Record) -> bool:
        """Return whether a record was not judged before, and remember it."""
        found = _PLACE.fullmatch(record.key)
        if found is not None:
            return self._is_behind(found[1], int(found[2]))
        if record.key in self._keys:
            return False
        self._keys[record.key] = None
        self.fresh.append(record.key)
        if len(self._keys) > SEEN:
            del self._keys[next(iter(self._keys))]
        return True

    def _is_behind(self, stream: str, place: int) -> bool:
        """Return whether a line comes behind all that were seen: those of a stream come in order."""
        if place <= self.places.get(stream, -1):
            return False
        if stream not in self.places and len(self.places) >= SEEN:
            del self.places[next(iter(self.places))]
        self.places[stream] = place
        return True
