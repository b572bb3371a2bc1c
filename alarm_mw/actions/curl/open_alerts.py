"""Alertmanager as a receiver: it forgets alerts that are not sent again, so open incidents are sent each minute."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from alarm_mw import texts
from alarm_mw.actions.curl.formats import alertmanager
from alarm_mw.actions.curl.http import HttpClient
from alarm_mw.actions.curl.url import Content
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing
from alarm_mw.texts.facts import rfc3339

log = logging.getLogger(__name__)

#: Seconds between two sendings of an open alert, and seconds after the last one until it is over for Alertmanager.
#: Prometheus has the same.
REFRESH = 60.0
LASTS = 240.0

#: How many open alerts are sent again, and how many in one request.
MOST = 1000
AT_ONCE = 50

_HEADERS = {"Content-Type": "application/json"}

Alert = Mapping[str, object]


class OpenAlerts:
    """Sends alerts, and those of open incidents again and again until they are over. Belongs to one event loop."""

    def __init__(self, client: HttpClient, context: ActionContext) -> None:
        self._client = client
        self._context = context
        #: By what the messages about an episode have in common.
        self._open: dict[str, Alert] = {}
        #: The end of an alert must not be overtaken by the alert.
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_failing = False

    async def send(self, firing: Firing) -> None:
        """Send a firing; raise `ActionError`."""
        (alert,) = json.loads(alertmanager.alerts(texts.message_for(firing, self._context)))
        notice = None if firing.trigger is None else firing.trigger.incident
        async with self._lock:
            if notice is None:
                await self._post(firing.id, [alert])
            elif notice.status == "resolved":
                self._open.pop(notice.thread, None)
                await self._post(firing.id, [alert])
            else:
                await self._post(firing.id, [_lasting(alert)])
                self._open.pop(notice.thread, None)
                self._open[notice.thread] = alert
                if len(self._open) > MOST:
                    del self._open[next(iter(self._open))]
        if self._open and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), name=f"alarm-mw-refresh-{self._context.alarm}")

    async def close(self) -> None:
        """Stop sending: what is open is over for Alertmanager after `LASTS` seconds, unless a successor sends it."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        await self._client.close()

    async def _refresh(self) -> None:
        for number in itertools.count():
            await asyncio.sleep(REFRESH)
            async with self._lock:
                for n, alerts in enumerate(_parts(self._open.values())):
                    await self._try(f"{self._context.alarm}.{time.time_ns():x}.{number}.{n}", alerts)

    async def _try(self, name: str, alerts: Iterable[Alert]) -> None:
        try:
            await self._post(name, map(_lasting, alerts))
            self._is_failing = False
        except ActionError as error:
            if not self._is_failing:
                log.warning("alarm %s: open alerts could not be sent again: %s", self._context.alarm, error)
            self._is_failing = True

    async def _post(self, name: str, alerts: Iterable[Alert]) -> None:
        await self._client.post(name, Content(_HEADERS, json.dumps([*alerts]).encode()))


def _lasting(alert: Alert) -> Alert:
    """Return an alert that is over after `LASTS` seconds, unless it is sent again."""
    return {**alert, "endsAt": rfc3339(time.time() + LASTS)}


def _parts(alerts: Iterable[Alert]) -> Iterator[tuple[Alert, ...]]:
    rest = iter(tuple(alerts))
    while part := tuple(itertools.islice(rest, AT_ONCE)):
        yield part
