"""Fallback: when an alarm cannot deliver, another one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import structs

from alarm_mw.engine.messages import named
from alarm_mw.model.types import Firing


class Fallback(msgspec.Struct, frozen=True):
    """The alarm that delivers a firing once its own has failed for `after` seconds."""

    alarm: str
    after: float


class Fallbacks:
    """The fallbacks of all configured alarms, shared by their lanes. Lives on the event loop."""

    def __init__(self) -> None:
        self._chains: Mapping[str, Sequence[str]] = {}
        self._after: Mapping[str, float] = {}
        #: By alarm, for firings that no other alarm has handed over.
        self._first: dict[str, Fallback] = {}

    def configure(self, chains: Mapping[str, Sequence[str]], after: Mapping[str, float]) -> None:
        """Use these fallbacks from now on: those of each alarm in order, and the seconds after which they are used."""
        self._chains, self._after = chains, after
        found = {alarm: self._next(alarm, ()) for alarm in chains}
        self._first = {alarm: fallback for alarm, fallback in found.items() if fallback is not None}

    def of(self, firing: Firing) -> Fallback | None:
        """Return the fallback of a firing; None where none is left, or its alarm is not configured any more.

        Its own alarm's come first, then those that earlier alarms have left. No alarm is used twice.
        """
        has_more = firing.via and firing.alarm in self._chains
        return self._next(firing.alarm, firing.via) if has_more else self._first.get(firing.alarm)

    def _next(self, alarm: str, via: Sequence[str]) -> Fallback | None:
        for name in (alarm, *reversed(via)):
            for other in self._chains.get(name, ()):
                if other != alarm and other not in via and other in self._chains:
                    return Fallback(other, self._after[alarm])
        return None


def handed_over(firing: Firing, alarm: str) -> Firing:
    """Return the firing that `alarm` delivers in place of another alarm, which its message names."""
    message = firing.message.removesuffix(b"\n")
    newline = firing.message[len(message) :]
    text = message.removesuffix(_note(firing.via)) if firing.via else message
    via = (*firing.via, firing.alarm)
    return structs.replace(
        firing, id=f"{firing.id}.{named(alarm)}", alarm=alarm, message=text + _note(via) + newline, via=via
    )


def _note(via: Sequence[str]) -> bytes:
    return f" [instead of {', '.join(via)}]".encode()


def cycle(fallbacks: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names along one cycle, with the first one repeated at the end; an empty list where there is none."""
    done: set[str] = set()
    for start in fallbacks:
        if found := _cycle_from(start, fallbacks, [], done):
            return found
    return []


def _cycle_from(alarm: str, fallbacks: Mapping[str, Sequence[str]], path: list[str], done: set[str]) -> list[str]:
    if alarm in path:
        return [*path[path.index(alarm) :], alarm]
    if alarm in done:
        return []
    for other in fallbacks.get(alarm, ()):
        if found := _cycle_from(other, fallbacks, [*path, alarm], done):
            return found
    done.add(alarm)
    return []
