"""Asks masters over their control sockets for their state, and sends them orders."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec

from alarm_mw.cli.dead import carry_out
from alarm_mw.cli.servers import names_of
from alarm_mw.cli.top.now import Row, Server
from alarm_mw.delivery.dead_letters import Order
from alarm_mw.engine.flood_control.limits import span
from alarm_mw.engine.matchers import equal_to
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask
from alarm_mw.web.api.v1.schema import HistoryEvent, Incident

#: Seconds to wait for a master: one that hangs keeps the others from being shown.
TIMEOUT = 3.0

#: How many masters are asked at once.
AT_ONCE = 8


class Masters:
    """The masters that are shown. Every call blocks for their answers."""

    def __init__(self, sockets: Callable[[], Sequence[str]]) -> None:
        """`sockets` returns the records sockets of the masters; it is called again for each look."""
        self._sockets = sockets
        self._names: dict[str, str] = {}

    def look(self) -> list[Server]:
        """Return what each master says now; raise `NotRunningError` where there are none."""
        sockets = self._sockets()
        names = names_of(Path(socket).parent for socket in sockets)
        if len(sockets) < 2:  # noqa: PLR2004  # nobody else waits
            return [self._look(socket, names[Path(socket).parent]) for socket in sockets]
        with ThreadPoolExecutor(min(len(sockets), AT_ONCE), "alarm-mw-masters") as pool:
            return list(pool.map(lambda socket: self._look(socket, names[Path(socket).parent]), sockets))

    def _look(self, socket: str, name: str) -> Server:
        try:
            status = cast("Any", ask(socket, "/status", timeout=TIMEOUT))
            incidents = msgspec.convert(ask(socket, "/api/1/incidents", timeout=TIMEOUT), tuple[Incident, ...])
        except NotRunningError as error:
            return Server(socket, self._names.get(socket, name), error=str(error))
        self._names[socket] = status["name"] or name
        return Server(socket, self._names[socket], status, incidents)

    def events(self, row: Row) -> list[HistoryEvent]:
        """Return what has happened to an incident in this episode, the oldest first."""
        query = urllib.parse.urlencode({"since": row.incident.started - 1.0, "incident": row.incident.id})
        found = ask(row.server.socket, f"/api/1/history?{query}", timeout=TIMEOUT)
        return msgspec.convert(found, list[HistoryEvent])

    def acknowledge(self, row: Row, comment: str) -> str:
        """Acknowledge an incident, and return a sentence for people."""
        answer = _post(row, "/api/1/incidents/ack", {"ids": [row.incident.id], "comment": comment})
        done = "acknowledged" if answer.get("done") else answer.get("error", "this incident is not open any more")
        return f"{row.incident.id}: {done}"

    def silence(self, row: Row, seconds: float, comment: str) -> str:
        """Silence incidents like this one, and return a sentence for people."""
        wanted = {"targets": matchers_like(row), "seconds": seconds, "comment": comment}
        answer = _post(row, "/api/1/silences", wanted)
        return answer.get("error") or f"silence {answer['id']}: {', '.join(answer['matchers'])} for {span(seconds)}"

    def letters(self, row: Row) -> list[int]:
        """Return the numbers of the dead letters about an incident."""
        answer = carry_out(row.server.socket, Order(verb="list", alarms=tuple(row.incident.delivery)))
        return [letter.id for letter in answer.letters if letter.key.startswith(f"{row.incident.id}-")]

    def retry(self, row: Row, letters: Sequence[int]) -> str:
        """Retry dead letters, and what waits for the same alarms; return a sentence for people."""
        answer = carry_out(row.server.socket, Order(verb="retry", ids=tuple(letters)))
        waiting = f", {answer.retried_now} waiting tried now" if answer.retried_now else ""
        return "; ".join([f"{answer.count} queued for delivery{waiting}", *answer.refused])


def _post(row: Row, url: str, body: object) -> dict[str, Any]:
    return ask(row.server.socket, url, method="POST", body=msgspec.json.encode(body), timeout=TIMEOUT)


def matchers_like(row: Row) -> tuple[str, ...]:
    """Return what messages about an incident, and about no other, have in common."""
    return equal_to([("rule", row.incident.rule), *row.incident.key.items()])
