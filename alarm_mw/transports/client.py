"""What a way to a master can do, and what stands in for one while there is none."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from alarm_mw.engine.request_rules import NOTHING, Decision
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.types import Reason, Record
from alarm_mw.patterns.record_prefilter import RecordPrefilter
from alarm_mw.transports.tally import Tally
from alarm_mw.transports.wire import MetricChange

log = logging.getLogger("alarm_mw")

#: How many records and changes of metrics are kept while the way to the master is being made.
MAX_EARLY = 1000


class Client(Protocol):
    """A way to a master."""

    def prefilter(self) -> RecordPrefilter | None:
        """Return what tells which records no rule can match; None where that is not known here."""
        ...

    def decision(self) -> Decision:
        """Return which requests concern a rule, by the configuration; the same one until that changes."""
        ...

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Give a record to the master, or an alarm past the rules; return whether it was taken."""
        ...

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Count lines of a source, without sending them, by what became of them: `SCREENED`, or ``skipped:REASON``."""
        ...

    def change_metric(self, change: MetricChange) -> bool:
        """Give a change of a metric to the master; return whether it was taken."""
        ...

    def metrics(self) -> dict[str, int]:
        """Return the application's metrics as the master has them; may block."""
        ...

    def prints_are_read(self) -> bool:
        """Return whether the master also sees what this process prints."""
        ...

    def shutdown(self, timeout: float) -> bool:
        """Deliver what was submitted; return whether that was done within `timeout` seconds."""
        ...

    def forget(self) -> None:
        """Let go, in a forked child, of what belongs to its parent."""
        ...


class Nowhere:
    """No master, and `init` was not called: says so once, and drops."""

    def __init__(self, *, has_told: bool = False) -> None:
        self._told = has_told

    def prefilter(self) -> None:
        """Let it come to `submit`, which tells."""

    def decision(self) -> Decision:
        """Return the one of no conditions."""
        return NOTHING

    def submit(self, record: Record, alarm: str | None = None) -> bool:  # noqa: ARG002  # a Client's
        """Drop it."""
        return self._tell()

    def change_metric(self, change: MetricChange) -> bool:  # noqa: ARG002  # a Client's
        """Drop it."""
        return self._tell()

    def metrics(self) -> dict[str, int]:
        """Raise `NotRunningError`."""
        raise NotRunningError("metrics are counted by a master: `alarm-mw run --`, or alarm_mw.init()")

    def _tell(self) -> bool:
        if not self._told:
            self._told = True
            log.warning("alarms go nowhere: start the server with `alarm-mw run --`, or call alarm_mw.init()")
        return False

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Do nothing: there is no ledger to count in."""

    def prints_are_read(self) -> bool:
        """Return False."""
        return False

    def shutdown(self, timeout: float) -> bool:  # noqa: ARG002  # a Client's
        """Return True: nothing waits."""
        return True

    def forget(self) -> None:
        """Do nothing: nothing is held."""


class Early(Nowhere):
    """Keeps what is submitted while another thread, or this one further up, is making the way to the master."""

    def __init__(self, find: Callable[[], Client | None]) -> None:
        """Ask `find` for the client that is there now, or None."""
        super().__init__()
        self._find = find
        self._kept: deque[Callable[[Client], object]] = deque()
        self._tally = Tally()

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Keep it, or drop it where too much is kept; that is counted."""
        if self._keeps(lambda client: client.submit(record, alarm)):
            return True
        self.count(record.source, f"skipped:{Reason.QUEUE_FULL}")
        return False

    def change_metric(self, change: MetricChange) -> bool:
        """Keep it, or drop it where too much is kept."""
        return self._keeps(lambda client: client.change_metric(change))

    def count(self, source: str, outcome: str, n: int = 1) -> None:
        """Count lines, for the client that comes."""
        self._tally.add(source, outcome, n)

    def _keeps(self, call: Callable[[Client], object]) -> bool:
        if len(self._kept) >= MAX_EARLY:
            return False
        self._kept.append(call)
        if (client := self._find()) is not None:
            self.hand_over(client)
        return True

    def hand_over(self, client: Client) -> None:
        """Give what was kept and counted to the client that is there now."""
        with contextlib.suppress(IndexError):  # another thread took the last one
            while self._kept:
                self._kept.popleft()(client)
        for source, columns in self._tally.take().items():
            for outcome, n in columns.items():
                if outcome != "lines":
                    client.count(source, outcome, n)


class Late(Nowhere):
    """Delivers at once what is submitted after the end, as by `atexit` handlers that run after ours."""

    def __init__(self, start: Callable[[], Client], timeout: float) -> None:
        """Start a client for each submission by `start`, for `timeout` seconds in all."""
        super().__init__()
        self._start = start
        self._deadline = time.monotonic() + timeout

    def submit(self, record: Record, alarm: str | None = None) -> bool:
        """Deliver it; blocks, since the interpreter does not wait for anything any more."""
        if (left := self._deadline - time.monotonic()) <= 0:
            return False
        client = self._start()
        return client.submit(record, alarm) and client.shutdown(left)
