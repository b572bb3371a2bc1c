"""What a rule measures over a time: its incidents begin and end by that, instead of by single matches."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import msgspec

#: The source of the records that are heartbeats, and the field of their name, which is the key of their incidents.
HEARTBEAT = "heartbeat"


#: The source of the records that are alerts of other programs, and the label of their name.
ALERT = "alert"
ALERTNAME = "alertname"

#: The key of a rule whose incidents differ by all labels that they have.
ALL_LABELS = "*"


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """Heartbeats that are expected at an interval: an incident begins when one is overdue."""

    every: float
    #: Seconds beyond `every` after which it is overdue.
    grace: float
    #: Those that are expected from the start, and patterns with ``*``, ``?`` and ``[…]``, for names that are expected
    #: from their first heartbeats on. Empty: any name.
    names: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether a heartbeat of this name is among those that are expected."""
        return not self.names or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)

    def expected(self) -> tuple[str, ...]:
        """Return the names that are expected from the start."""
        return tuple(name for name in self.names if not any(mark in name for mark in "*?["))


class ExternalAlert(msgspec.Struct, frozen=True):
    """An alert, as another program posts it."""

    #: They identify it.
    labels: Mapping[str, str]
    #: What happened.
    text: str
    #: Seconds until it is over, unless it is posted again; 0: it is over.
    ends_in: float
    annotations: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """Its name."""
        return self.labels.get(ALERTNAME, "")


class ExternalAlerts(msgspec.Struct, frozen=True, tag=True):
    """Alerts that other programs post: each is an incident as long as it is firing there."""

    #: Their names, and patterns with ``*``, ``?`` and ``[…]``; beside that of the rule.
    names: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether an alert of this name is among those that are taken."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)


class Ratio(msgspec.Struct, frozen=True, tag=True):
    """The share of matches among all records that the rule's `of` matches."""

    #: From 0 to 1: an incident begins above it …
    above: float
    #: … and ends at this or below it.
    below: float
    #: So many records are needed for an incident to begin.
    at_least: int
    #: Seconds.
    within: float


class Quantile(msgspec.Struct, frozen=True, tag=True):
    """The value of a field that a share of the matches does not exceed."""

    #: From 0 to 1: 0.95 for the value that 95 % do not exceed.
    quantile: float
    field: str
    #: An incident begins when the value is above it …
    above: float
    #: … and ends when the value is at this or below it.
    below: float
    at_least: int
    within: float
    #: The values are seconds.
    is_time: bool = False


class Spike(msgspec.Struct, frozen=True, tag=True):
    """The number of matches, compared with the time before."""

    #: An incident begins with so many times as many matches.
    times: float
    at_least: int
    #: Seconds of each of the two times.
    within: float


class Cardinality(msgspec.Struct, frozen=True, tag=True):
    """The number of different values of a field."""

    field: str
    #: An incident begins above it …
    above: int
    #: … and ends at this or below it.
    below: int
    within: float


class New(msgspec.Struct, frozen=True, tag=True):
    """A value of the key that was not seen for a time: only such matches count."""

    #: Seconds.
    unseen_for: float
    #: Seconds from the rule's first start on during which values are learned.
    learn_for: float
    #: Of a rule without incidents: the groups and fields that are the key, and how many values are remembered.
    key: tuple[str, ...] = ()
    max_keys: int = 10_000


Measure = Heartbeat | ExternalAlerts | Ratio | Quantile | Spike | Cardinality | New
