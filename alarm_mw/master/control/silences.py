"""Silences, as people see and change them: on the control socket, on the page, and for other programs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.silences import Silence, UnknownSilenceError, alarm_of, labels_of, matcher_of_alarm
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.keyvalue import did_you_mean

#: What an alarm's name is unlikely to have, and a matcher has.
_OPERATOR = re.compile("=|!~|~")


class ShownSilence(TypedDict):
    """A silence, as ``alarm-mw silence --list --json`` prints it. Times are in seconds since the epoch."""

    id: str
    #: In Alertmanager's notation, one each.
    matchers: list[str]
    #: The alarm all of whose messages it holds back; empty where its matchers say something else.
    alarm: str
    #: ``pending``, ``active`` or ``expired``.
    state: str
    starts: float
    ends: float
    updated: float
    author: str
    comment: str


@dataclass(frozen=True, slots=True)
class SilenceOrder:
    """A silence that somebody wants. Times are in seconds since the epoch."""

    #: The names of alarms, or matchers; one of each for a single alarm.
    targets: tuple[str, ...]
    ends: float
    #: None: now.
    starts: float | None = None
    author: str = ""
    comment: str = ""
    #: That of the silence to update; empty: create one.
    id: str = ""


class UnknownAlarmError(LookupError):
    """A silence names an alarm that is not configured."""


def shown(runtime: Runtime, *, is_all: bool = False) -> list[ShownSilence]:
    """Return the silences that are pending or active, or also those that expired in the last days. From any thread."""
    offset, now = time.time() - time.monotonic(), time.monotonic()
    found = [silence for silence in runtime.engine.silences() if is_all or silence.ends > now]
    return [_shown(silence, now, offset) for silence in sorted(found, key=lambda each: each.starts)]


def _shown(silence: Silence, now: float, offset: float) -> ShownSilence:
    return {
        "id": silence.id,
        "matchers": list(silence.matchers),
        "alarm": alarm_of(silence),
        "state": str(silence.state(now)),
        "starts": silence.starts + offset,
        "ends": silence.ends + offset,
        "updated": silence.updated + offset,
        "author": silence.author,
        "comment": silence.comment,
    }


def put(runtime: Runtime, order: SilenceOrder) -> ShownSilence:
    """Create or update a silence; takes effect, and is written down, before this returns.

    Raises `ValueError`, `UnknownAlarmError` or `UnknownSilenceError` with a sentence for people, and `TimeoutError`.
    May block; from any thread but the event loop's.
    """
    matchers = read_targets(order.targets, runtime.alarm_names)
    offset = time.time() - time.monotonic()
    starts = -math.inf if order.starts is None else order.starts - offset
    wanted = Silence(order.id, matchers, starts, order.ends - offset, order.author, order.comment)
    silence = runtime.silence(lambda engine, now: engine.put_silence(wanted, now))
    return _shown(silence, time.monotonic(), offset)


def expire(runtime: Runtime, targets: Sequence[str]) -> list[ShownSilence]:
    """End the silences with these ids, those of these alarms, and those with these matchers; without targets, all.

    The beginning of an id is enough if no other begins so. All matchers together are those of one silence.

    Returns those that were ended. Raises `LookupError` with a sentence for people where a target means none that is
    pending or active, and `TimeoutError`. May block; from any thread but the event loop's.
    """
    offset = time.time() - time.monotonic()
    ended = runtime.silence(lambda engine, now: _expired(engine, targets, runtime.alarm_names, now))
    return [_shown(silence, time.monotonic(), offset) for silence in ended]


def _expired(engine: Engine, targets: Sequence[str], alarms: Sequence[str], now: float) -> list[Silence]:
    live = [silence for silence in engine.silences() if silence.ends > now]
    matchers = [target for target in targets if target not in alarms and _OPERATOR.search(target)]
    meant = {each.id: each for each in live} if not targets else _of_matchers(live, matchers) if matchers else {}
    for target in targets:
        if target not in matchers:
            meant |= _meant(live, target, alarms)
    return [engine.expire_silence(name, now) for name in meant]


def _of_matchers(live: Sequence[Silence], targets: Sequence[str]) -> dict[str, Silence]:
    """Return the silences that were set with all of these matchers; raise `UnknownSilenceError`."""
    from alarm_mw.engine.matchers import parse_matchers  # noqa: PLC0415  # with all that is known of regexps

    try:
        texts = tuple(sorted(map(str, parse_matchers(targets))))
    except ValueError as error:
        raise UnknownSilenceError(str(error)) from None
    found = {silence.id: silence for silence in live if silence.matchers == texts}
    if not found:
        raise UnknownSilenceError(f"there is no silence {', '.join(texts)} in force")
    return found


def _meant(live: Sequence[Silence], target: str, alarms: Sequence[str]) -> dict[str, Silence]:
    """Return the silences of an alarm, or the one whose id begins so; raise `UnknownSilenceError`."""
    if target in alarms:
        return {silence.id: silence for silence in live if alarm_of(silence) == target}
    found = {silence.id: silence for silence in live if target and silence.id.startswith(target)}
    if len(found) > 1:
        raise UnknownSilenceError(f"several silences begin with {target!r}: {', '.join(found)}")
    if not found:
        hint = did_you_mean(target, [*alarms, *(silence.id for silence in live)])
        raise UnknownSilenceError(f"there is no silence {target!r} in force, and no such alarm{hint}")
    return found


def read_targets(targets: Sequence[str], alarms: Sequence[str]) -> tuple[str, ...]:
    """Return the matchers that targets mean: the name of an alarm, or matchers in Alertmanager's notation.

    Raises `UnknownAlarmError` with a sentence for people; `Silences.put` finds matchers that are wrong.
    """
    return tuple(_matcher(target, alarms) for target in targets)


def _matcher(target: str, alarms: Sequence[str]) -> str:
    if target in alarms:
        return matcher_of_alarm(target)
    if _OPERATOR.search(target) is None:
        known = f"; there are: {', '.join(alarms)}" if alarms else ""
        raise UnknownAlarmError(f"unknown alarm {target!r}{did_you_mean(target, alarms)}{known}")
    return target


def silenced_by(runtime: Runtime, alarm: str, rule: str, labels: Mapping[str, str]) -> list[str]:
    """Return the ids of the silences that hold back a message of an alarm about a rule. From any thread."""
    found = runtime.engine.silenced_by(labels_of(alarm, rule, labels), time.monotonic())
    return [silence.id for silence in found]
