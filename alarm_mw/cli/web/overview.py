"""What one page of all servers knows of them, and has them do: over their control sockets."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import urllib.parse
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alarm_mw.cli.top.masters import TIMEOUT, Masters
from alarm_mw.cli.top.now import Server, remembered, verdict
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask, fetch
from alarm_mw.transports.places import SOCKET_NAME
from alarm_mw.web.api.v1.schema import Incident
from alarm_mw.web.incidents import Row, Told
from alarm_mw.web.live import Seen, delivery_badge, stamps
from alarm_mw.web.navigation import Nav, Tab
from alarm_mw.web.proof import Trouble, failing_alarm

#: Seconds for which an answer of the masters serves all pages, and after which they are asked in any case.
FRESH = 0.4
STALE = 2.0

#: Names that can be a part of a URL as they are.
_PLAIN = re.compile(r"[\w.-]{1,64}", re.ASCII)

GONE = "not running any more"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A server, for the page."""

    key: str
    name: str
    #: How it is, in words; the error of one that does not answer.
    state: str
    #: ``good``, ``warn`` or ``bad``.
    tone: str
    open: int
    lines: int
    waiting: int
    #: The URL of its own page; empty where it has none.
    page: str


def key_of(socket: str) -> str:
    """Return what stands for a server in URLs: the name of its state directory, or a hash of another name."""
    name = Path(socket).parent.name
    return name if _PLAIN.fullmatch(name) else hashlib.blake2b(socket.encode(), digest_size=5).hexdigest()


class Overview:
    """The masters as they were seen last, asked again when that is too old. From any thread; may block."""

    def __init__(self, masters: Masters) -> None:
        self._masters = masters
        self._lock = threading.Lock()
        self._servers: list[Server] = []
        self._seen = 0.0

    def servers(self, age: float = FRESH) -> list[Server]:
        """Return the servers, as they were at most `age` seconds ago; those that have ended are at the end."""
        with self._lock:
            if time.monotonic() - self._seen > age:
                found = remembered(self._masters.look(), self._servers)
                sockets = {each.socket for each in found}
                gone = [Server(each.socket, each.name, error=GONE) for each in self._servers]
                self._servers = [*found, *(each for each in gone if each.socket not in sockets)]
                self._seen = time.monotonic()
            return self._servers

    # What pages watch (`web.live.Source`)

    def files(self) -> tuple[tuple[int, int], ...]:
        """Return the times and sizes of the outboxes."""
        folders = [Path(each.socket).parent for each in self._servers]
        return stamps(str(folder / name) for folder in folders for name in ("outbox.db", "outbox.db-wal", SOCKET_NAME))

    def is_complete(self) -> bool:
        """Return whether the masters need not be asked: not after a while, in which servers may have come."""
        return time.monotonic() - self._seen < STALE

    def read(self) -> Seen:
        """Ask the masters."""
        servers = self.servers()
        letters = sum(each.status["letters"] for each in servers if each.status is not None)
        failing = sum(len(each.status["failing"]) for each in servers if each.status is not None)
        state = tuple((each.socket, each.error, *map(_state, each.incidents)) for each in servers)
        return Seen(sum(len(each.incidents) for each in servers), delivery_badge(letters, failing), state)

    # What pages show

    def shown(self) -> list[Shown]:
        """Return the servers, those with trouble first."""
        order = {"bad": 0, "warn": 1, "good": 2}
        return sorted(map(_shown, self.servers()), key=lambda each: order[each.tone])

    def troubles(self) -> list[Trouble]:
        """Return the alarms that fail, with how many incidents have reached nobody for that."""
        return [
            failing_alarm(
                alarm,
                how["since"],
                sum(alarm in each.delivery and each.is_unreached for each in server.incidents),
                f"/open/{key_of(server.socket)}?next=/delivery" if server.status.get("page") else "",
                f" of {server.name}",
            )
            for server in self.servers()
            if server.status is not None and not server.error
            for alarm, how in server.status["failing"].items()
        ]

    def rows(self, text: str = "") -> tuple[list[Row], dict[str, Sequence[int]], int]:
        """Return the open incidents that match a filter, the worst first, with their trends, and how many there are."""
        found = [(row_of(server, each), each.trend) for server in self.servers() for each in server.incidents]
        rows = sorted((row for row, _ in found if row.matches(text)), key=lambda row: row.urgency)
        return rows, {row.id: trend for row, trend in found}, len(found)

    def navigation(self) -> Nav:
        """Return a tab for each server's page, beside the one of all."""
        servers = self.shown()
        count = sum(each.open for each in servers)
        own = (
            Tab(f"server-{each.key}", f"/open/{each.key}", each.name, str(each.open or ""), "bad")
            for each in sorted(servers, key=lambda each: each.name)
            if each.page
        )
        is_well = not any(each.tone != "good" and not each.open for each in servers)
        return Nav(count, [Tab("now", "/", "Now", str(count or ""), "bad"), *own], is_well)

    def server(self, key: str) -> Server:
        """Return a server by its key; raise `NotRunningError` where it does not run."""
        found = next((each for each in self.servers(STALE) if key_of(each.socket) == key), None)
        if found is None or found.error == GONE:
            raise NotRunningError(f"there is no server {key!r}")
        return found

    def incident(self, name: str) -> tuple[Server, str]:
        """Return the server of an incident, and its id there; raise `NotRunningError` as `server`."""
        key, _, own = name.rpartition(":")
        return self.server(key), own

    # What masters answer and do. All of it raises `NotRunningError`.

    def get(self, server: Server, path: str, **query: str) -> dict[str, Any]:
        """Return what a master's API says."""
        url = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        return ask(server.socket, url, timeout=TIMEOUT)

    def page(self, server: Server, path: str, headers: Mapping[str, str] | None = None) -> str:
        """Return a page of a master, or the part of one; empty where there is none."""
        status, body = fetch(server.socket, path, headers=headers, timeout=TIMEOUT)
        return body.decode() if status == 200 else ""  # noqa: PLR2004  # RFC 9110

    def post(self, server: Server, path: str, body: object) -> dict[str, Any]:
        """Have a master do something, and return its answer, which may have an ``error``; what is known is old then."""
        try:
            return ask(server.socket, path, method="POST", body=msgspec.json.encode(body), timeout=TIMEOUT)
        finally:
            self._seen = 0.0

    def login_url(self, server: Server, role: str) -> str:
        """Return a URL that logs in to a server's own page, once; empty where it has none."""
        return str(ask(server.socket, f"/login-url?role={role}", method="POST", timeout=TIMEOUT)["url"])


def _state(incident: Incident) -> Hashable:
    """Return what of an incident is shown at once when it changes; its counts are not."""
    told = tuple(incident.delivery.items())
    return incident.id, incident.episode, incident.marks, incident.acknowledged_by, told


def _shown(server: Server) -> Shown:
    status = server.status
    is_bad = bool(server.error) or (status is not None and bool(status["imbalances"]))
    troubled = status is not None and bool(status["failing"] or status["letters"] or status["findings"])
    needs_look = troubled or any(not incident.acknowledged_by for incident in server.incidents)
    return Shown(
        key=key_of(server.socket),
        name=server.name,
        state=server.error or verdict([server]),
        tone="bad" if is_bad else "warn" if needs_look else "good",
        open=len(server.incidents),
        lines=0 if status is None else sum(row["lines"] for row in status["sources"].values()),
        waiting=0 if status is None else sum(row["waiting"] for row in status["alarms"].values()),
        page="" if status is None or server.error else status.get("page", ""),
    )


def row_of(server: Server, incident: Incident) -> Row:
    """Return an incident of a server for a page; its id says which server's it is."""
    return Row(
        id=f"{key_of(server.socket)}:{incident.id}",
        rule=incident.rule,
        key=incident.key,
        labels=incident.labels,
        state=incident.state,
        episode=incident.episode,
        severity=incident.severity,
        message=incident.message,
        started=incident.started,
        last=incident.last,
        ended=incident.ended,
        ended_by=incident.ended_by,
        end=incident.end,
        count=incident.count,
        marks=tuple(mark for mark in incident.marks if mark != "acknowledged"),
        acknowledged_by=incident.acknowledged_by,
        acknowledged_until=incident.acknowledged_until or 0.0,
        comment=incident.comment,
        told=tuple(Told(alarm, state) for alarm, state in incident.delivery.items()),
        server=server.name,
        is_unreached=incident.is_unreached,
    )
