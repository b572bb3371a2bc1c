"""What a master reports about itself: its status, its figures, and what its self-check sees."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import msgspec
from msgspec import structs

from alarm_mw.config.settings import Loaded
from alarm_mw.delivery.breaker import Failing
from alarm_mw.delivery.dead_letters import Answer, DeadLetters, Order
from alarm_mw.engine.ledger import AlarmRow, Books, RuleRow, SourceRow, imbalances
from alarm_mw.master.control import fleet
from alarm_mw.master.control.prometheus import Figures
from alarm_mw.master.control.self_check import Sight
from alarm_mw.master.control.silences import shown as shown_silences
from alarm_mw.master.reload import Reloaded
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.version import VERSION

if TYPE_CHECKING:  # few configurations have heartbeats, or follow logs
    from alarm_mw.engine.incidents.measures.heartbeat import Beat
    from alarm_mw.master.follow.following import Followed
    from alarm_mw.model.fleet import FleetState


class InForce(TypedDict):
    """The configuration that is in force."""

    #: How often it has been read again since the start.
    generation: int
    #: When it was read, in seconds since the epoch.
    read_at: float
    #: Its files, and whether each is still what was read: False for one that has changed since.
    files: dict[str, bool]
    #: Why it was not taken over when it was read last, a line each; empty where it was.
    refused: list[str]


class Silenced(TypedDict):
    """A silence that lasts."""

    #: How many more seconds.
    seconds: float
    comment: str
    id: str
    author: str


class Status(TypedDict):
    """What ``alarm-mw status --json`` prints."""

    pid: int
    server_pid: int | None
    #: What people call the server; empty: nothing.
    name: str
    #: How many masters of this server have ended and were replaced: killed, crashed or hung.
    masters_replaced: int
    state_dir: str
    #: The URL of the page; empty where none is served, or none is known.
    page: str
    configuration: InForce
    sources: dict[str, SourceRow]
    alarms: dict[str, AlarmRow]
    #: Of each rule with incidents: how many have begun, how many have ended and why, and how many are firing.
    rules: dict[str, RuleRow]
    #: The configured alarms for which nothing has matched yet.
    unmatched: list[str]
    #: The silences in force, by the alarm that they silence, or by their matchers.
    silences: dict[str, Silenced]
    #: What the application counts by `alarm_mw.metrics`.
    metrics: dict[str, int]
    #: How the receivers of alarms fail, of those that do.
    failing: dict[str, Failing]
    #: Since when an attempt at delivery goes on that takes long, in seconds since the epoch, by alarm.
    long_since: dict[str, float]
    #: How many dead letters lie in the outbox.
    letters: int
    #: How far the followed logs are; None where none is followed.
    followed: Followed | None
    #: Whether this master shares with the others of its fleet; None where it is in none.
    fleet: FleetState | None
    #: One sentence for every equation of the ledger that does not hold.
    imbalances: list[str]
    #: What the master has found wrong with itself, for more than a moment; a sentence each.
    findings: list[str]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the control API does when it is asked; all but `reload` is called in a thread."""

    status: Callable[[], Status]
    metrics: Callable[[], bytes]
    reload: Callable[[], Coroutine[None, None, Reloaded]]
    #: Returns the incidents that are firing, or all, as JSON.
    incidents: Callable[[bool], bytes]
    #: Takes a heartbeat in, and returns whether it is expected; raises `ValueError`.
    heartbeat: Callable[[Beat], bool]
    #: Notes that a drill was delivered by these alarms, and returns how many of them are watched.
    drilled: Callable[[Sequence[str]], int] = len
    #: Returns what is known of the fleet, as JSON; null where there is none.
    fleet: Callable[[], bytes] = lambda: b"null"
    #: Returns a URL by which a user with a role can log in to the page, once; empty where it is not served.
    login: Callable[[str, str], str] = lambda _user, _role: ""


def in_force(loaded: Loaded, refused: Sequence[str]) -> InForce:
    """Return what is in force, and why something newer is not. Looks at its files, and so may block."""
    changed = loaded.changed_files()
    return {
        "generation": loaded.generation,
        "read_at": loaded.time,
        "files": {file: file not in changed for file in loaded.files},
        "refused": [*refused],
    }


def status(
    runtime: Runtime,
    state_dir: str,
    server_pid: int | None,
    configuration: InForce,
    findings: tuple[str, ...],
    *,
    masters_replaced: int = 0,
    followed: Followed | None = None,
    page: str = "",
) -> Status:
    """Return the ledger as it stands."""
    books, waiting, unreadable = _readable_books(runtime)
    return {
        "pid": os.getpid(),
        "server_pid": server_pid,
        "name": runtime.name,
        "masters_replaced": masters_replaced,
        "state_dir": state_dir,
        "page": page,
        "configuration": configuration,
        "sources": dict(books["sources"]),
        "alarms": dict(books["alarms"]),
        "rules": dict(books["rules"]),
        "unmatched": [name for name in runtime.alarm_names if name not in books["alarms"]],
        "silences": silenced(runtime),
        "metrics": runtime.worker.metrics.values(),
        "failing": runtime.dispatcher.failing(),
        "long_since": runtime.dispatcher.long_since(),
        "letters": runtime.outbox.count_letters(),
        "followed": followed,
        "fleet": runtime.fleet_state(),
        "imbalances": imbalances(books, waiting) if waiting is not None else [],
        "findings": [*unreadable, *_findings(runtime, findings)],
    }


def silenced(runtime: Runtime) -> dict[str, Silenced]:
    """Return the active silences, by the alarm that they silence, or by their matchers."""
    now = time.time()
    return {
        each["alarm"] or ", ".join(each["matchers"]): {
            "seconds": each["ends"] - now,
            "comment": each["comment"],
            "id": each["id"],
            "author": each["author"],
        }
        for each in shown_silences(runtime)
        if each["state"] == "active"
    }


def figures(runtime: Runtime, loaded: Loaded, findings: tuple[str, ...], followed: Followed | None = None) -> Figures:
    """Return what Prometheus is shown."""
    books, waiting, unreadable = _readable_books(runtime)
    master = {
        "alarm_mw_imbalances": len(imbalances(books, waiting)) if waiting is not None else 0,
        "alarm_mw_findings": len(unreadable) + len(_findings(runtime, findings)),
        "alarm_mw_backlog": runtime.worker.backlog(),
        "alarm_mw_reloads": loaded.generation,
        "alarm_mw_configuration_timestamp_seconds": loaded.time,
    }
    if (state := runtime.fleet_state()) is not None:
        master["alarm_mw_fleet_connected"] = int(state["state"] == "connected")
        master["alarm_mw_fleet_lag_seconds"] = state["lag"]
    if followed is not None:
        files, journals = followed["files"], followed["journals"]
        master["alarm_mw_followed_files"] = 0 if files is None else len(files["files"])
        master["alarm_mw_followed_behind_bytes"] = 0 if files is None else files["behind"]
        master["alarm_mw_followed_journals_failing"] = sum(bool(journal["problem"]) for journal in journals)
    return Figures(books, master, runtime.worker.metrics.values(), VERSION)


def _findings(runtime: Runtime, checked: Sequence[str]) -> list[str]:
    """Return what is wrong: what checks have found, an outbox that lives in memory against its will, unused alarms."""
    outbox = runtime.outbox
    try:
        unused = runtime.last_deliveries.overdue()
    except sqlite3.Error:  # said elsewhere
        unused = []
    return [*([outbox.fault] if outbox.fault and not outbox.is_durable else []), *checked, *unused]


def sight(runtime: Runtime) -> Sight:
    """Look at a master (`SelfCheck`); what the ledger has not written down is written. May block for a write."""
    fault, waiting = runtime.checkpointer.fault, None
    try:
        runtime.outbox.flush()
        books, waiting = _steady_books(runtime)
    except sqlite3.Error as error:
        fault, books = str(error), runtime.outbox.ledger.books()
    remarks = fleet.faults(fleet.overview(runtime))
    return Sight(books, waiting, fault, runtime.worker.backlog(), remarks)


def _readable_books(runtime: Runtime) -> tuple[Books, dict[str, int] | None, list[str]]:
    """Return the ledger, what really waits, and why the latter is unknown: every caller gets an answer."""
    try:
        return *_steady_books(runtime), []
    except sqlite3.Error as error:
        return runtime.outbox.ledger.books(), None, [f"the outbox cannot be read: {error}"]


def _steady_books(runtime: Runtime) -> tuple[Books, dict[str, int]]:
    """Read ledger and outbox at one moment, between two transactions."""
    with runtime.outbox.still():
        return runtime.books()


def carry_out(runtime: Runtime, order: bytes) -> bytes:
    """Return the JSON of an `Answer` to that of an `Order`; what is put back, and what waits, is tried at once.

    May block for the time of disk reads and writes; from any thread.
    """
    return msgspec.json.encode(_answer(runtime, order))


def _answer(runtime: Runtime, text: bytes) -> Answer:
    names = runtime.dispatcher.names()
    try:
        order = msgspec.json.decode(text, type=Order)
        retried_now = _retried_now(runtime, order) if order.verb == "retry" else 0
        answer = DeadLetters(runtime.outbox, names, is_running=True).carry_out(order)
    except msgspec.DecodeError as error:
        return Answer(refused=(f"the master does not understand the command: {error}",))
    except sqlite3.Error as error:
        return Answer(refused=(f"the outbox cannot be used: {error}",))
    runtime.dispatcher.wake(names)
    return structs.replace(answer, retried_now=retried_now)


def _retried_now(runtime: Runtime, order: Order) -> int:
    """Try what waits for the alarms of an order now, and return how many firings that is."""
    alarms = runtime.dispatcher.names() & _meant(runtime, order)
    runtime.dispatcher.retry_now(alarms)
    waiting = runtime.outbox.count_waiting()
    return sum(waiting.get(alarm, 0) for alarm in alarms)


def _meant(runtime: Runtime, order: Order) -> set[str]:
    if order.to:
        return {order.to}
    if order.ids:
        found = DeadLetters(runtime.outbox, is_running=True).carry_out(structs.replace(order, verb="list"))
        return {letter.alarm for letter in found.letters}
    return {*order.alarms} or runtime.dispatcher.names()
