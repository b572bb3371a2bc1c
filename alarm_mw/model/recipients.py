"""Who has got a firing, over several attempts: one that refuses does not keep it from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alarm_mw.model.errors import ActionError
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one recipient has not got it, and whether it may later. Never holds a secret."""

    text: str
    retry: bool


class Recipients:
    """The recipients of one alarm, whose firings come one after the other."""

    def __init__(self, everybody: Sequence[str], plugin: str, write_log: Callable[[bytes], None]) -> None:
        self._everybody = tuple(everybody)
        self._mark = f"[uwsgi-alarm-{plugin}]"
        self._write_log = write_log
        self._firing = ""
        self._left = self._everybody
        self._has_reached = False

    def left(self, firing: Firing) -> tuple[str, ...]:
        """Return who still has to get `firing`: everybody, unless the last attempt was at the same one.

        Where nobody was left, everybody counts again: it was a dead letter, and somebody has put it back.
        """
        if firing.id != self._firing or not self._left:
            self._firing, self._left, self._has_reached = firing.id, self._everybody, False
        return self._left

    def settle(self, refusals: Mapping[str, Refusal]) -> None:
        """Take note of who did not get it.

        Returns when at least one got it and nobody is left who may still; who refused for good is named in the log.
        Raises `ActionError` otherwise.
        """
        self._has_reached = self._has_reached or any(recipient not in refusals for recipient in self._left)
        self._left = tuple(recipient for recipient, refusal in refusals.items() if refusal.retry)
        text = "; ".join(f"{recipient}: {refusal.text}" for recipient, refusal in refusals.items())
        if self._left or not self._has_reached:
            raise ActionError(text, retry=bool(self._left))
        if refusals:
            self._write_log(f"{self._mark} {printable(text)}\n".encode())
