"""Tracks which recipients got a firing over several attempts, so that one refusal does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alarm_mw.model.errors import ActionError
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one recipient did not get a firing, and whether a retry can help. Never contains a secret."""

    text: str
    retry: bool


class Recipients:
    """The recipients of one alarm with one firing at a time."""

    def __init__(self, everybody: Sequence[str], plugin: str, write_log: Callable[[bytes], None]) -> None:
        self._everybody = tuple(everybody)
        self._mark = f"[uwsgi-alarm-{plugin}]"
        self._write_log = write_log
        self._firing = ""
        self._left = self._everybody
        self._has_reached = False

    def left(self, firing: Firing) -> tuple[str, ...]:
        """Return the recipients who still need `firing`: all of them, unless the last attempt was for the same firing.

        If nobody was left, all count again: the firing was a dead letter and is being retried.
        """
        if firing.id != self._firing or not self._left:
            self._firing, self._left, self._has_reached = firing.id, self._everybody, False
        return self._left

    def settle(self, refusals: Mapping[str, Refusal]) -> None:
        """Record who did not get it.

        Returns if at least one recipient got it and no retry can help the others; permanent refusals are logged. Raises
        `ActionError` otherwise.
        """
        self._has_reached = self._has_reached or any(recipient not in refusals for recipient in self._left)
        self._left = tuple(recipient for recipient, refusal in refusals.items() if refusal.retry)
        text = "; ".join(f"{recipient}: {refusal.text}" for recipient, refusal in refusals.items())
        if self._left or not self._has_reached:
            raise ActionError(text, retry=bool(self._left))
        if refusals:
            self._write_log(f"{self._mark} {printable(text)}\n".encode())
