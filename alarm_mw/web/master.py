"""What the page and the API ask of the master that they show."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from alarm_mw.config.settings import Settings
from alarm_mw.delivery.dead_letters import Answer, Order
from alarm_mw.delivery.outbox.incident_rows import Known, Reader
from alarm_mw.engine.incidents.measures.heartbeat import Beat
from alarm_mw.model.fleet import FleetHistory, FleetOverview, FleetRecord
from alarm_mw.model.measures import ExternalAlert
from alarm_mw.model.types import Rule
from alarm_mw.web.store import Store


class OutboxReader:
    """Reads the outbox's file by a connection of its own, so that neither the worker nor a lane waits for a page."""

    def __init__(self, path: str) -> None:
        # A new connection each time: the file may be moved aside and made again.
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=1.0)

    def query(self, sql: str, arguments: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Return the rows. Raises `sqlite3.Error`."""
        return self._connection.execute(sql, arguments).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class WantedSilence(NamedTuple):
    """A silence that somebody wants. Times are in seconds since the epoch."""

    matchers: Sequence[str]
    ends: float
    author: str
    comment: str = ""
    #: None: now.
    starts: float | None = None
    #: That of the silence to update; empty: create one.
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """What the page asks of the master. All of it may block, and is called in threads."""

    state_dir: Path
    #: The server's name; may be empty.
    name: str
    #: The configuration in force.
    settings: Callable[[], Settings]
    #: What ``alarm-mw status --json`` prints.
    status: Callable[[], Mapping[str, Any]]
    #: The alarms that fail, and how.
    failing: Callable[[], Mapping[str, Any]]
    #: When it started, in seconds since the epoch.
    started: float
    #: The metrics, as Prometheus reads them.
    metrics: Callable[[], bytes]
    #: Takes alerts of another program, and returns the names of those that no monitor takes; raises `TimeoutError`.
    receive: Callable[[Sequence[ExternalAlert]], Sequence[str]]
    #: The outbox: its path, and whether what is written there is up to date; else it is read by the second.
    outbox_path: str
    is_durable: Callable[[], bool]
    outbox: Reader
    #: What to add to the time of an incident to get seconds since the epoch.
    offset: Callable[[], float]
    #: Does something to incidents (verb, ids, by, seconds, comment), and returns the ids for which that was done.
    order: Callable[[str, Sequence[str], str, float | None, str], Sequence[str]]
    #: Incidents that were decoded before.
    known: Known = field(default_factory=dict)
    #: What signs links in messages; empty where nothing does.
    link_key: Callable[[], bytes]
    #: Takes a heartbeat in, and returns whether one of its name is expected; raises `ValueError` and `TimeoutError`.
    heartbeat: Callable[[Beat], bool]
    #: Lists, retries or drops dead letters.
    dead: Callable[[Order], Answer]
    #: Tries what waits for an alarm now.
    retry_now: Callable[[str], None]
    #: Fires an alarm as a test, by somebody; returns whether there is such an alarm.
    test: Callable[[str, str], bool]
    #: The silences, or all that are kept; each as ``alarm-mw silence --list --json`` prints it.
    silences: Callable[[bool], Sequence[Mapping[str, Any]]]
    #: Creates or updates a silence, and returns its id; raises `ValueError` and `LookupError`.
    put_silence: Callable[[WantedSilence], str]
    #: Ends the silences with these ids, alarms or matchers, or all; raises `LookupError`.
    expire_silences: Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]
    #: What has been counted (`web.samples`).
    count: Callable[[], Mapping[tuple[str, str], int]]
    #: The rules, and how often each has matched since they were loaded.
    matches: Callable[[], Sequence[tuple[Rule, int]]]
    #: The rules that are switched off, since their regexps took too long.
    switched_off: Callable[[], Sequence[Rule]]
    #: What is known of the fleet; None where the master is in none.
    fleet: Callable[[], FleetOverview | None] = lambda: None
    #: The episodes of the fleet that are open, and those that ended since a time; None where the master is in none.
    fleet_history: Callable[[float], FleetHistory | None] = lambda _: None
    #: What the fleet knows of an incident; None where it cannot be asked.
    fleet_incident: Callable[[str], FleetRecord | None] = lambda _: None
    #: What the page keeps samples in; None while no page is served.
    samples: Callable[[], Store | None] = lambda: None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """Give what reads the outbox, in the thread that calls. Raises `sqlite3.Error`."""
        if not self.is_durable():
            yield self.outbox
            return
        with contextlib.closing(OutboxReader(self.outbox_path)) as reader:
            yield reader
