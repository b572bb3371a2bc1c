"""The application's metrics, the file that keeps them for the next master, and the ledger's columns as metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from alarm_mw.engine.ledger import Books
from alarm_mw.transports.wire import MetricChange

log = logging.getLogger(__name__)


class _Content(msgspec.Struct, frozen=True):
    run_id: str
    values: dict[str, int]


class MetricsFile:
    """The file at `path`. What another run has left in it does not count: metrics begin at 0 with each server."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._path = path
        self._run_id = run_id
        self._has_failed = False

    def load(self) -> dict[str, int]:
        """Return what an earlier master of this run has left; nothing where there is no such file."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}
        return content.values if content.run_id == self._run_id else {}

    def save(self, values: Mapping[str, int]) -> None:
        """Write them down, whole or not at all; may block for the time of a write. The first failure is logged."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            fresh.touch(mode=0o600)
            fresh.write_bytes(msgspec.json.encode(_Content(self._run_id, dict(values))))
            fresh.replace(self._path)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning("metrics cannot be kept for the next master: %s", error)


#: How many metrics there may be: their names come from the application, and a name made of data would have no end.
MAX_METRICS = 10_000

#: The largest number that can be written down, either way; a metric stays there.
MAX_VALUE = 2**63 - 1


class Metrics:
    """Numbers by name. Safe to use from any thread, though not from signal handlers."""

    def __init__(self, file: MetricsFile | None = None) -> None:
        self._file = file
        self._values: dict[str, int] = {} if file is None else file.load()
        self._lock = threading.Lock()

    def change(self, changes: Sequence[MetricChange]) -> None:
        """Do what `changes` say, in their order; what would be one metric too many is not begun."""
        with self._lock:
            for change in changes:
                self._make(change)
            if changes and self._file is not None:
                self._file.save(self._values)

    def _make(self, change: MetricChange) -> None:
        if change.name in self._values or len(self._values) < MAX_METRICS:
            before = self._values.get(change.name, 0) if change.adds else 0
            self._values[change.name] = max(-MAX_VALUE, min(before + change.value, MAX_VALUE))

    def values(self) -> dict[str, int]:
        """Return them all as they stand."""
        with self._lock:
            return self._values.copy()


def ledger_metrics(books: Books) -> dict[str, int]:
    """Return the ledger's columns by names such as ``source.stdout.lines`` or ``alarm.jabber.held_back.same_message``.

    A column that is counted by reason is there as a whole as well.
    """
    rows: dict[str, Mapping[str, Mapping[str, object]]] = {"source": books["sources"], "alarm": books["alarms"]}
    return {
        name: n
        for scope, named in rows.items()
        for row_name, row in named.items()
        for column, cell in row.items()
        for name, n in _cells(f"{scope}.{row_name}.{column}", cell)
    }


def _cells(name: str, cell: object) -> Iterator[tuple[str, int]]:
    if isinstance(cell, dict):
        yield name, sum(cell.values())
        for reason, n in cell.items():
            yield f"{name}.{reason}", n
    else:
        assert isinstance(cell, int)
        yield name, cell
