"""Fallback: when one way fails, another alarm delivers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec import structs

from alarm_mw.engine.messages import named
from alarm_mw.model.types import Firing


class Way(msgspec.Struct, frozen=True):
    """Another way for a firing: the alarm that delivers it, once the present one has failed for `after` seconds."""

    alarm: str
    after: float


def next_way(firing: Firing, fallbacks: Mapping[str, Sequence[str]]) -> str | None:
    """Return the alarm that delivers when the firing's own cannot; None where there is none left.

    `fallbacks` names those of each alarm there is. Its own come first, then those that an earlier one has left; none is
    asked twice.
    """
    tried: Collection[str] = {*firing.via, firing.alarm}
    for alarm in (firing.alarm, *reversed(firing.via)):
        for other in fallbacks.get(alarm, ()):
            if other not in tried and other in fallbacks:
                return other
    return None


def handed_over(firing: Firing, alarm: str) -> Firing:
    """Return the firing that `alarm` delivers in the place of another one; its message tells of which."""
    message = firing.message.removesuffix(b"\n")
    newline = firing.message[len(message) :]
    told = message.removesuffix(_note(firing.via)) if firing.via else message
    via = (*firing.via, firing.alarm)
    return structs.replace(
        firing, id=f"{firing.id}.{named(alarm)}", alarm=alarm, message=told + _note(via) + newline, via=via
    )


def _note(via: Sequence[str]) -> bytes:
    return f" [instead of {', '.join(via)}]".encode()


def cycle(fallbacks: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names along one cycle, the first one again at the end; nothing where there is none."""
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
