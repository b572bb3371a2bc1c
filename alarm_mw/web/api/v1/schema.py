"""The values of our API. Times are in seconds since the epoch, lengths of time in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from alarm_mw.engine.incidents.episodes import Remedy
from alarm_mw.engine.ledger import AlarmRow, RuleRow, SourceRow


def _about(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident."""

    id: str
    rule: str
    key: Mapping[str, str]
    labels: Mapping[str, str]
    state: Annotated[str, _about("`pending`, `firing` or `resolved`")]
    marks: Annotated[tuple[str, ...], _about("what holds messages back, such as `acknowledged` and `silenced`")]
    episode: int
    started: float
    ended: float | None
    ended_by: Annotated[str, _about("`line`, `timeout`, `operator` or `removed`")]
    end: Annotated[str, _about("the line that ended it, or who did it")]
    count: Annotated[int, _about("matches in this episode")]
    last: Annotated[float, _about("the time of the last match")]
    trend: Annotated[
        tuple[int, ...],
        _about("matches in each minute of the last hour, the newest last; empty where no page is configured"),
    ] = ()
    notified: Annotated[Mapping[str, str], _about("the status of the last message to each alarm")]
    acknowledged_by: str
    acknowledged_until: float | None
    comment: str
    severity: str
    message: Annotated[str, _about("the line of the first match that says what happened")]
    fields: Annotated[Mapping[str, str], _about("what else is known of the first match")]
    delivery: Annotated[
        Mapping[str, str],
        _about(
            "the state of each alarm's last message: `waiting`, `delivered`, `dead`, `dropped`, `handed_over`, or "
            "`fleet` where another machine has sent it"
        ),
    ]
    is_unreached: Annotated[
        bool, _about("it is firing, some alarm should have reported it, and no message about it was delivered yet")
    ] = False
    machines: Annotated[tuple[str, ...], _about("the first machines of an incident that only other machines have")] = ()


class HistoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has happened to an incident."""

    time: float
    incident: str
    rule: str
    key: Mapping[str, str]
    episode: int
    kind: Annotated[
        str,
        _about("`opened`, `resolved`, `acknowledged`, `unacknowledged`, or the status of a message, such as `firing`"),
    ]
    text: Annotated[str, _about("the alarm of a message, the cause of an end, or who acknowledged it and why")]
    machine: Annotated[str, _about("the machine that has sent the message, if it is another one of the fleet")] = ""


class OneIncident(msgspec.Struct, frozen=True):
    """An incident and its time line."""

    incident: Incident
    events: tuple[HistoryEvent, ...]


class IncidentsWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which incidents."""

    all: Annotated[bool, _about("also those that are pending or resolved")] = False
    filter: Annotated[str, _about("words that all must be found; a word can be a label, as in `severity=critical`")] = (
        ""
    )


class EventsWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the history."""

    since: Annotated[float, _about("seconds since the epoch"), msgspec.Meta(ge=0)] = 0.0
    incident: Annotated[str, _about("only of this incident")] = ""
    fleet: Annotated[bool, _about("also of incidents that only other machines of the fleet had")] = False


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Incidents to acknowledge."""

    ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1000)]
    seconds: Annotated[float, msgspec.Meta(ge=0, le=2_592_000)] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class Ids(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Incidents."""

    ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1000)]


class Done(msgspec.Struct, frozen=True):
    """For which incidents it was done."""

    done: tuple[str, ...]
    unknown: Annotated[tuple[str, ...], _about("those that are no open incidents")]


class RuleFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and what it does."""

    id: str
    name: str
    pattern: str
    alarms: tuple[str, ...]
    labels: Mapping[str, str]
    where: Annotated[str, _about("its place in the configuration")]
    kind: Annotated[str, _about("`incidents`, `excludes`, `ends incidents`, or empty")]
    matches: Annotated[int, _about("since it was loaded")]
    today: Annotated[int, _about("matches of the last 24 hours")]
    open: Annotated[int, _about("incidents that are firing")]
    episodes: Annotated[int, _about("episodes of the last 14 days")]
    messages: Annotated[int, _about("messages about these episodes")]
    acknowledged: Annotated[int, _about("episodes that somebody acknowledged")]
    noise: Annotated[int, _about("episodes that nobody acknowledged and that were over within a minute")]
    again: Annotated[int, _about("episodes that began within five minutes after the end of the one before")]
    flapping: Annotated[int, _about("episodes that began and ended so often that messages were held back")]
    remedies: Annotated[tuple[Remedy, ...], _about("settings that would have spared episodes and messages")]
    is_off: Annotated[bool, _about("it is switched off because its regexp took too long")]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The counts that account for every line and every message."""

    sources: dict[str, SourceRow]
    alarms: dict[str, AlarmRow]
    rules: dict[str, RuleRow]
    imbalances: Annotated[tuple[str, ...], _about("equations that do not hold")]
    findings: Annotated[tuple[str, ...], _about("what the master finds wrong with itself")]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm, and how it is delivered."""

    alarm: str
    action: str
    target: Annotated[str, _about("its options, with secrets masked")]
    waiting: int
    dead: int
    delivered: int
    today: Annotated[int, _about("delivered since midnight")]
    latency: Annotated[float | None, _about("seconds; half of the latest messages took no longer")]
    last: Annotated[float, _about("the time of the last delivery; 0: none is known")]
    error: Annotated[str, _about("what the receiver says while it fails")]
    failing_since: float | None
    next_attempt: float | None


class LettersWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters."""

    id: Annotated[tuple[int, ...], _about("only those with these numbers")] = ()
    alarm: Annotated[tuple[str, ...], _about("only those of these alarms")] = ()
    waiting: Annotated[bool, _about("also waiting messages whose alarm is not configured")] = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


class LettersMeant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dead letters to retry or drop: by their numbers, by their alarms, or all."""

    ids: Annotated[tuple[int, ...], msgspec.Meta(max_length=10_000)] = ()
    alarms: tuple[str, ...] = ()
    all: bool = False
    waiting: Annotated[bool, _about("also waiting messages whose alarm is not configured")] = False
    to: Annotated[str, _about("the alarm that delivers them instead of their own; only to retry")] = ""

    def __post_init__(self) -> None:
        """Raise `ValueError` where no letters are meant: all of them must be asked for."""
        if not (self.ids or self.alarms or self.all):
            raise ValueError("no letters selected: give ids, alarms or all")
        if self.ids and self.all:
            raise ValueError("both ids and all given, expected one of them")


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A silence."""

    id: str
    matchers: Annotated[tuple[str, ...], _about("in Alertmanager's notation, one each")]
    alarm: Annotated[str, _about("the alarm all of whose messages it holds back; else empty")]
    state: Annotated[str, _about("`pending`, `active` or `expired`")]
    starts: float
    ends: float
    updated: float
    author: str
    comment: str


class NewSilence(Silence, frozen=True, kw_only=True):
    """A silence that was created or updated, and what it means at present."""

    covers: Annotated[int, _about("of how many open incidents it holds messages back")]
    open: Annotated[int, _about("how many incidents are open")]
    doubts: Annotated[tuple[str, ...], _about("sentences about matchers that select nothing of the configuration")]


class SilencesWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which silences."""

    all: Annotated[bool, _about("also those that expired in the last days")] = False


class SilenceWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A silence to create or update."""

    targets: Annotated[
        tuple[str, ...],
        _about('matchers such as `rule="db"`, or the name of an alarm'),
        msgspec.Meta(min_length=1, max_length=50),
    ]
    seconds: Annotated[float, _about("how long it lasts"), msgspec.Meta(gt=0)]
    starts: Annotated[float | None, _about("by default, now")] = None
    comment: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    id: Annotated[str, _about("that of the silence to update")] = ""


class SilencesMeant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Silences to end: by their ids, their alarms or their matchers, or all."""

    targets: Annotated[
        tuple[str, ...], _about("ids of silences or their beginnings, names of alarms, or all matchers of a silence")
    ] = ()
    all: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` unless it is clear which silences are meant."""
        if bool(self.targets) is self.all:
            raise ValueError("give targets, or all")


class PingWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The times that a heartbeat brings with it."""

    every: Annotated[str | None, _about("when the next one is expected, such as `10m`")] = None
    grace: Annotated[str | None, _about("how late the next one may be")] = None
    last: Annotated[bool, _about("expect no other")] = False


class FailureWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has failed."""

    message: Annotated[str, _about("what has failed")] = ""


class Pong(msgspec.Struct, frozen=True):
    """A heartbeat was taken in."""

    name: str
