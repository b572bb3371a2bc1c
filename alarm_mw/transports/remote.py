"""The way to a master: prefilters here, sends what is left, counts what is not sent where the master sees it."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from time import monotonic

from msgspec import structs

from alarm_mw.engine.request_rules import NOTHING, Decision
from alarm_mw.model.errors import PatternError
from alarm_mw.model.types import Reason, Record
from alarm_mw.patterns.record_prefilter import RecordPrefilter
from alarm_mw.transports.published import NO_NOTICE, Published
from alarm_mw.transports.shared import SharedMemory, token_of
from alarm_mw.transports.unix import UnixTransport
from alarm_mw.transports.wire import MAX_CHANGES, MAX_PACKET, MetricChange, Packet, decode, encode

#: Seconds between looks for what the master has published, while there is nothing.
LOOK_PAUSE = 0.2

#: How many changes of metrics are kept for a master that cannot take them now.
MAX_UNSENT = 1_000


class RemoteClient:
    """A `Client` whose master listens at `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._shared = SharedMemory(token_of(os.environ))
        self._transport = UnixTransport(path, self._lose, self._shared)
        self._published = Published(path)
        #: The notice of something new, and what it said when this process last looked.
        self._notice = NO_NOTICE
        self._seen = 0
        self._prefilter: RecordPrefilter | None = None
        self._decision = NOTHING
        self._look_again = 0.0
        #: Counts a line by its outcome, without sending it. Not a method around it: nearly every log call ends here.
        self.count = self._shared.tally.add
        self._unsent: deque[MetricChange] = deque()

    def prefilter(self) -> RecordPrefilter | None:
        """Return what the master has published last; None until it has."""
        if self._notice[0] != self._seen:
            self._look()
        return self._prefilter

    def decision(self) -> Decision:
        """Return which requests concern a rule; none does until the master has published its rules."""
        if self._notice[0] != self._seen:
            self._look()
        return self._decision

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Send a record; what could not be sent is counted."""
        data = encode(Packet(record, alarm))
        if len(data) > MAX_PACKET:
            # A message twice in an alarm is better than none, and so is one without its fields and its context.
            data = encode(Packet(structs.replace(record, echoes=(), loose_echo=(), fields={}, context=b""), alarm))
        reason = self._transport.send(data)
        if reason is not None:
            self.count(record.source, f"skipped:{reason}")
        return reason is None

    def change_metric(self, change: MetricChange) -> bool:
        """Send a change, behind those that could not be sent before; return False where too many of these wait."""
        if len(self._unsent) >= MAX_UNSENT:
            self._send_metrics()
        if len(self._unsent) >= MAX_UNSENT:
            return False
        self._unsent.append(change)
        self._send_metrics()
        return True

    def metrics(self) -> dict[str, int]:
        """Ask the master; changes that are on their way to it may not be in the answer."""
        from alarm_mw.transports.control import ask_patiently  # noqa: PLC0415  # loads what few applications need

        values: dict[str, int] = ask_patiently(self._path, "/status")["metrics"]
        return values

    def greet(self) -> None:
        """Let the master know that this process may send records."""
        self._transport.greet()

    def prints_are_read(self) -> bool:
        """Return True: the supervisor has put its pipes in the place of our output."""
        return True

    def shutdown(self, timeout: float) -> bool:  # noqa: ARG002  # the master reads what is left, whenever it comes to it
        """Let the master know of this process, should it not, and end the connection."""
        self._send_metrics()
        if not (self._shared.is_known and self._transport.is_kept):
            self._transport.greet()
        self._transport.close()
        self._shared.close()
        self._notice, self._prefilter = NO_NOTICE, None
        self._published.close()
        return True

    def forget(self) -> None:
        """Close the parent's connection here; the parent's own end of it stays open."""
        self._transport.close()
        self._shared.close()

    def _send_metrics(self) -> None:
        while changes := self._next_changes():
            if self._transport.send(encode(Packet(metrics=changes))) is not None:
                self._unsent.extendleft(reversed(changes))
                return

    def _next_changes(self) -> tuple[MetricChange, ...]:
        """Take as many changes as fit into a packet, whatever their names."""
        changes: list[MetricChange] = []
        # Each is taken by one thread, and no other one waits for it.
        with contextlib.suppress(IndexError):
            while len(changes) < MAX_CHANGES:
                changes.append(self._unsent.popleft())
        return tuple(changes)

    def _lose(self, data: bytes, reason: Reason) -> None:
        """Count what was left to a thread that could not send it either."""
        packet = decode(data)
        assert packet is not None, "it is one of ours"
        self._unsent.extendleft(reversed(packet.metrics))
        if packet.record is not None:
            self.count(packet.record.source, f"skipped:{reason}")

    def _look(self) -> None:
        """Take over what the master has published, if there is something new."""
        now = monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_PAUSE
        if not self._published.open_notice():
            return
        # The number first: what is read after it is at least as new.
        notice = self._published.notice
        seen = notice[0]
        try:
            content = self._published.read()
            self._prefilter, self._decision = RecordPrefilter(content.rules), Decision(content.requests)
        except (OSError, ValueError, PatternError):
            # Rules that are not known here are left to the master: a prefilter that is out of date would hide lines.
            self._prefilter = None
            return
        self._notice, self._seen, self._look_again = notice, seen, 0.0
        self._transport.greet()
