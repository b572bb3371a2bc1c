"""Heartbeats of an application: a sign of life, whose absence is an alarm."""

from __future__ import annotations

import logging

from alarm_mw.app import current_master
from alarm_mw.engine.incidents.measures.heartbeat import Beat
from alarm_mw.model.measures import HEARTBEAT
from alarm_mw.transports.records import to_bytes

log = logging.getLogger("alarm_mw")


def heartbeat(
    name: str,
    *,
    every: str | float | None = None,
    grace: str | float | None = None,
    failed: str | None = None,
    last: bool = False,
) -> bool:
    """Send a sign of life to the monitor `heartbeat`, and return whether the master took it.

    If none comes again within `every` and `grace`, an incident begins. Both are seconds, or texts such as ``"5m"``;
    None leaves what the configuration says. `failed` says what has failed, and begins the incident at once; the next
    heartbeat without it ends it. After the `last` one, no other is expected.

    Neither blocks nor raises; may be called from any thread. A `name` has up to 200 ASCII characters without blanks.
    One that no monitor expects is counted by the master, and named in its log once.
    """
    try:
        beat = Beat(name, every, grace, failed, last)
        record = current_master.this.records.make(to_bytes(f"{name}\n"), source=HEARTBEAT, fields=beat.fields())
        return current_master.current().submit(record)
    except Exception:  # what the application gives us must not harm it
        log.exception("heartbeat() could not send %r", name)
        return False
