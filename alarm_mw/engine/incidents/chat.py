"""Orders about incidents that people write in a chat: ``ack a7f3 on it``, ``silence a7f3 2h``, ``incidents``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from alarm_mw.engine.flood_control.limits import read_duration, span
from alarm_mw.engine.incidents.incident import Incident
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.matchers import equal_to
from alarm_mw.model.types import Firing

#: How many incidents an answer lists, and how many characters of a key or a comment it keeps.
LISTED = 10
LENGTH = 200

#: The order that lists the incidents that are firing.
LIST = "incidents"

#: Seconds by which the clocks of two machines may differ.
SKEW = 5.0


class Order(NamedTuple):
    """What somebody has written."""

    verb: str
    #: The first digits of the incident's id.
    incident: str = ""
    #: For how long; None: not said.
    seconds: float | None = None
    comment: str = ""


class Author(NamedTuple):
    """Who wrote an order, and when."""

    name: str
    #: Seconds since the epoch, of an order that was delivered late; None: just now.
    sent: float | None = None


class Answer(NamedTuple):
    """What is answered to an order, and the messages to alarms that follow."""

    text: str
    firings: Sequence[Firing] = ()
    #: Of a silence to be put in force for the order's time: what its messages have in common.
    matchers: tuple[str, ...] = ()


def parse(text: str) -> Order | None:
    """Return the order in a chat message; None for a message that is none."""
    verb, *words = text.split()[:_MOST_WORDS] or [""]
    verb = verb.lower()
    if verb not in {*_VERBS, LIST} or (verb == LIST and words):
        return None
    incident, *rest = words or [""]
    seconds = _duration(rest[0]) if rest else None
    return Order(verb, incident.lower()[:LENGTH], seconds, " ".join(rest if seconds is None else rest[1:])[:LENGTH])


_MOST_WORDS = 50

#: Digits of an id in an example.
_SHORT = 4


def _duration(text: str) -> float | None:
    """Return the seconds of a time such as ``2h``; None for another word."""
    try:
        return read_duration(text)
    except ValueError:
        return None


def carry_out(incidents: Incidents, order: Order, author: Author, expire: float) -> Answer:
    """Do what an order says, and return what to answer; `expire` is how long an acknowledgement lasts by default."""
    if order.verb == LIST:
        return Answer(_listing(incidents.tracker.starting_with("")) or "no incidents")
    if not order.incident:
        return Answer(f"expected the first digits of an incident's id, such as {order.verb} a7f3")
    found = incidents.tracker.starting_with(order.incident)
    if len(found) > 1:
        return Answer(f"{order.incident!r} begins the ids of several incidents:\n{_listing(found)}")
    if not found:
        return Answer(f"no open incident has an id that begins with {order.incident!r}")
    (incident,) = found
    if author.sent is not None and incidents.wall(incident.fired) > author.sent + SKEW:
        return Answer(f"{incident.id} has begun again since this was written; nothing was done")
    return _VERBS[order.verb](incidents, incident, order, author.name, expire)


def _ack(incidents: Incidents, incident: Incident, order: Order, by: str, expire: float) -> Answer:
    seconds = expire if order.seconds is None else order.seconds
    firings = incidents.acknowledge(incident.id, by, seconds, order.comment) or []
    return Answer(f"{_name(incident)}: acknowledged for {span(seconds)}", firings)


def _unack(incidents: Incidents, incident: Incident, _: Order, by: str, __: float) -> Answer:
    return Answer(f"{_name(incident)}: not acknowledged any more", incidents.unacknowledge(incident.id, by) or [])


def _resolve(incidents: Incidents, incident: Incident, _: Order, by: str, __: float) -> Answer:
    return Answer(f"{_name(incident)}: resolved", incidents.resolve_by_hand(incident.id, by) or [])


def _silence(_: Incidents, incident: Incident, order: Order, __: str, ___: float) -> Answer:
    if order.seconds is None:
        return Answer(f"expected how long, such as silence {incident.id[:_SHORT]} 2h")
    matchers = equal_to([("rule", incident.rule), *incident.key])
    return Answer(f"{_name(incident)}: silenced for {span(order.seconds)}", matchers=matchers)


_VERBS: Mapping[str, Callable[[Incidents, Incident, Order, str, float], Answer]] = MappingProxyType(
    {"ack": _ack, "unack": _unack, "resolve": _resolve, "silence": _silence}
)


def _name(incident: Incident) -> str:
    """Return an incident in words that people know it by."""
    key = ",".join(f"{name}={value}" for name, value in incident.key)[:LENGTH]
    return " ".join(filter(None, (incident.id, incident.rule, key)))


def _listing(found: list[Incident]) -> str:
    lines = [_line(incident) for incident in found[:LISTED]]
    more = len(found) - len(lines)
    return "\n".join([*lines, *([f"and {more} more"] if more else [])])


def _line(incident: Incident) -> str:
    return _name(incident) + (f": acknowledged by {incident.ack.by}" if incident.ack else "")
