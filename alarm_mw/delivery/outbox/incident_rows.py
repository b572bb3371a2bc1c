"""Incidents in the outbox: a row for each, their history, and which records they have seen.

Written in the transaction of the firings that follow from them: after a kill, none is sent twice or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

import msgspec

from alarm_mw.delivery.outbox.clock import Reading
from alarm_mw.delivery.outbox.limits import State as FiringState
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.store import DAY
from alarm_mw.engine.incidents.incident import Incident, State
from alarm_mw.engine.incidents.measures.measures import Row
from alarm_mw.engine.incidents.stored import SEEN, Changes, Event, Saved
from alarm_mw.model.types import Reason

#: How many events are kept at most.
EVENTS = 100_000


class Reader(Protocol):
    """An outbox, or another connection to its file."""

    def query(self, sql: str, arguments: tuple[object, ...] = (), /) -> list[tuple[object, ...]]:
        """Return the rows. Raises `sqlite3.Error`."""
        ...


_encode = msgspec.msgpack.Encoder().encode
_incident = msgspec.msgpack.Decoder(Incident)
_event = msgspec.msgpack.Decoder(Event)
_places = msgspec.msgpack.Decoder(dict[str, int])
_reading = msgspec.msgpack.Decoder(Reading)


def load(outbox: Outbox) -> tuple[Saved, Reading | None]:
    """Return what a former process has written down, and when that was. Raises `sqlite3.Error` and `ValueError`."""
    rows = outbox.query("SELECT data FROM incidents")
    seen = outbox.query("SELECT record FROM judged ORDER BY seq")
    observed = {name: data for name, data in outbox.query("SELECT name, data FROM observed")}  # noqa: C416  # for mypy
    incidents = tuple(_incident.decode(cast("bytes", data)) for (data,) in rows)
    places = _places.decode(cast("bytes", observed["places"])) if "places" in observed else {}
    reading = _reading.decode(cast("bytes", observed["clock"])) if "clock" in observed else None
    measured = [Row(*cast("tuple[str, str, bytes]", row)) for row in outbox.query("SELECT * FROM measured")]
    return Saved(incidents, tuple(cast("str", record) for (record,) in seen), places, tuple(measured)), reading


def write(outbox: Outbox, changes: Changes, reading: Reading) -> None:
    """Write down what has changed, within a transaction of the outbox."""
    outbox.change_all(
        "INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?)",
        [(each.id, each.rule, str(each.state), _encode(each)) for each in changes.incidents],
    )
    outbox.change_all("DELETE FROM incidents WHERE id = ?", [(name,) for name in changes.forgotten])
    outbox.change_all(
        "INSERT INTO events (time, incident, data) VALUES (?, ?, ?)",
        [(each.time, each.incident, _encode(each)) for each in changes.events],
    )
    outbox.change_all("INSERT INTO judged (record) VALUES (?)", [(key,) for key in changes.seen])
    outbox.change_all(
        "DELETE FROM measured WHERE rule = ? AND id = ?", [row[:2] for row in changes.measured if row.data is None]
    )
    outbox.change_all(
        "INSERT OR REPLACE INTO measured VALUES (?, ?, ?)", [row for row in changes.measured if row.data is not None]
    )
    if changes.seen:
        outbox.change("DELETE FROM judged WHERE seq <= (SELECT MAX(seq) FROM judged) - ?", (SEEN,))
    if changes.events:
        outbox.change("DELETE FROM events WHERE seq <= (SELECT MAX(seq) FROM events) - ?", (EVENTS,))
    observed: Mapping[str, bytes] = {"clock": _encode(reading), "places": _encode(changes.places)}
    outbox.change_all("INSERT OR REPLACE INTO observed VALUES (?, ?)", list(observed.items()))


def forget_events(outbox: Outbox, days: float, now: float) -> None:
    """Delete events that are more than this number of days older than `now`, in seconds since the epoch."""
    with outbox.transaction():
        outbox.change("DELETE FROM events WHERE time < ?", (now - days * DAY,))


def events(outbox: Reader, since: float, incident: str = "") -> list[Event]:
    """Return what has happened since a time, in seconds since the epoch, the oldest first; to all or one incident."""
    rows = outbox.query(
        "SELECT data FROM events WHERE time >= ? AND (? = '' OR incident = ?) ORDER BY seq", (since, incident, incident)
    )
    return [_event.decode(cast("bytes", data)) for (data,) in rows]


def count_firing(outbox: Reader) -> dict[str, int]:
    """Return how many incidents of each rule are firing."""
    rows = outbox.query("SELECT rule, COUNT(*) FROM incidents WHERE state = ? GROUP BY rule", (str(State.FIRING),))
    return {cast("str", rule): cast("int", n) for rule, n in rows}


#: The states of firings that have reached people.
REACHED = frozenset({str(FiringState.DELIVERED), "fleet"})

#: The state of a firing, and ``fleet`` for one that another machine has sent.
_SHOWN_STATE = "CASE reason WHEN 'fleet' THEN 'fleet' ELSE state END"


def deliveries(outbox: Reader, thread: str) -> dict[str, str]:
    """Return the state of each alarm's last firing about an episode; those that were forgotten are left out.

    The state is ``fleet`` where another machine of a fleet has sent the firing. An alarm that was notified stays so
    while a further firing, such as a reminder, waits.
    """
    rows = outbox.query(f"SELECT alarm, {_SHOWN_STATE} FROM firings WHERE id GLOB ? ORDER BY seq", (f"{thread}-*",))  # noqa: S608  # our own words
    found: dict[str, str] = {}
    for alarm, state in cast("list[tuple[str, str]]", rows):
        _note(found, alarm, state)
    return found


def _note(states: dict[str, str], alarm: str, state: str) -> None:
    """Note the state of a further firing."""
    if state != FiringState.WAITING or states.get(alarm) not in REACHED:
        states[alarm] = state


def is_unreached(outbox: Reader, thread: str, states: Mapping[str, str]) -> bool:
    """Return whether there are messages about an episode, and none has reached people; `states` are the last ones'."""
    if not states or not REACHED.isdisjoint(states.values()):
        return False
    query = "SELECT 1 FROM firings WHERE id GLOB ? AND (state = ? OR reason = ?) LIMIT 1"
    return not outbox.query(query, (f"{thread}-*", str(FiringState.DELIVERED), str(Reason.FLEET)))


def sent(outbox: Reader, thread: str) -> dict[str, bool]:
    """Return whether some message about an episode was sent, by alarm, of those that are remembered.

    What another machine of a fleet has sent counts; what only waits does not.
    """
    rows = outbox.query("SELECT alarm, state, reason FROM firings WHERE id GLOB ?", (f"{thread}-*",))
    found: dict[str, bool] = {}
    for alarm, state, reason in cast("list[tuple[str, str, str]]", rows):
        is_sent = state in ("delivered", "handed_over") or reason == Reason.FLEET
        found[alarm] = found.get(alarm, False) or is_sent
    return found


def all_deliveries(outbox: Reader) -> dict[str, dict[str, str]]:
    """Return the same for all episodes."""
    found: dict[str, dict[str, str]] = {}
    rows = outbox.query(f"SELECT id, alarm, {_SHOWN_STATE} FROM firings ORDER BY seq")  # noqa: S608  # our own words
    for name, alarm, state in rows:
        # Other firings are of no episode that anybody asks for.
        _note(found.setdefault(episode_of(cast("str", name)), {}), cast("str", alarm), cast("str", state))
    return found


def episode_of(name: str) -> str:
    """Return what the ids of all firings about the same episode begin with, by one of them."""
    return name.partition(".")[0].rpartition("-")[0]


def count(outbox: Reader) -> int:
    """Return how many incidents are remembered."""
    ((n,),) = outbox.query("SELECT COUNT(*) FROM incidents")
    return cast("int", n)


def each(outbox: Reader, *, is_all: bool = False) -> Iterator[Incident]:
    """Yield the incidents that are firing, or all that are remembered, as they were written down last."""
    where = "" if is_all else f"WHERE state = '{State.FIRING}'"
    for (data,) in outbox.query(f"SELECT data FROM incidents {where}"):  # noqa: S608  # our own words
        yield _incident.decode(cast("bytes", data))


def incidents(outbox: Reader, *, is_all: bool = False) -> list[Incident]:
    """Return the same."""
    return list(each(outbox, is_all=is_all))


def find(outbox: Reader, name: str) -> Incident | None:
    """Return an incident by its id; None where it is not remembered."""
    rows = outbox.query("SELECT data FROM incidents WHERE id = ?", (name,))
    return next((_incident.decode(cast("bytes", data)) for (data,) in rows), None)


#: The bytes of incidents, and what they were decoded to, by id.
Known = dict[str, tuple[bytes, Incident]]


def firing(outbox: Reader, known: Known) -> list[Incident]:
    """Return the incidents that are firing. What is in `known` unchanged is not decoded again; `known` is replaced.

    Of 10,000 incidents, of which few change, decoding all would take a second.
    """
    fresh: Known = {}
    rows = outbox.query("SELECT id, data FROM incidents WHERE state = ?", (str(State.FIRING),))
    for name, data in cast("list[tuple[str, bytes]]", rows):
        former = known.get(name)
        fresh[name] = former if former is not None and former[0] == data else (data, _incident.decode(data))
    known.clear()
    known.update(fresh)
    return [incident for _, incident in fresh.values()]
