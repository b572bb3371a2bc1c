"""Keeps the application's metrics in a file, for the next master of the same run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

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
