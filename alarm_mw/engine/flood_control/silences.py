"""Silences hold back, for a time, the messages whose labels their matchers select.

`now` is in seconds of the memory's clock, which never goes back.
"""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from alarm_mw.engine.flood_control.limits import LONGEST
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:
    from alarm_mw.engine.matchers import Matcher

#: How many silences may be pending or active, and how many are kept, expired ones included.
MOST_LIVE = 500
MOST = 1000

#: Seconds for which an expired silence is kept, to be shown.
KEEP = 5 * 86_400.0

#: How many matchers a silence may have, and how many characters its texts may have together.
MOST_MATCHERS = 50
MOST_TEXT = 4096

#: Seconds that a caller may take to convert times between clocks.
TOLERANCE = 60.0

#: Seconds by which a time may differ when it went from the clock of one machine to that of another.
CLOCKS = 0.1

#: The label that names the alarm of a message.
ALARM = "alarm"

_WHOLE_ALARM = re.compile(ALARM + r'="((?:[^"\\]|\\.)*)"')


class SilenceState(enum.StrEnum):
    """Where a silence stands."""

    PENDING = enum.auto()
    ACTIVE = enum.auto()
    EXPIRED = enum.auto()


class Silence(msgspec.Struct, frozen=True, array_like=True):
    """Holds back the messages whose labels all of its matchers select, from `starts` to `ends`."""

    #: A UUID; empty for one that is to be created.
    id: str
    #: In the notation of `parse_matchers`, one each.
    matchers: tuple[str, ...]
    starts: float
    ends: float
    author: str = ""
    comment: str = ""
    #: When it was last changed.
    updated: float = 0.0

    def state(self, now: float) -> SilenceState:
        """Return where it stands."""
        if self.ends <= now:
            return SilenceState.EXPIRED
        return SilenceState.PENDING if self.starts > now else SilenceState.ACTIVE

    def shifted(self, seconds: float) -> Silence:
        """Return the same by a clock that is ahead by this many seconds."""
        return structs.replace(
            self, starts=self.starts + seconds, ends=self.ends + seconds, updated=self.updated + seconds
        )


class UnknownSilenceError(LookupError):
    """There is no silence of this id that is pending or active."""


class Silences:
    """The silences of a memory; bounded."""

    def __init__(self, silences: Iterable[Silence] = ()) -> None:
        self._all = {silence.id: silence for silence in silences}
        #: The matchers of those that were not yet seen to have expired.
        self._live = {silence.id: _parse(silence.matchers) for silence in self._all.values()}

    def __iter__(self) -> Iterator[Silence]:
        return iter(tuple(self._all.values()))  # a copy, because another thread may ask

    def put(self, wanted: Silence, now: float) -> Silence:
        """Create a silence, or update the one that has the id of `wanted`; return it as it is now.

        A silence that begins now continues the active one with the same matchers. One whose matchers change, or that
        would begin again, is ended, and another one takes its place, as in Alertmanager. Raises `ValueError` with a
        sentence for people, and `UnknownSilenceError`.
        """
        matchers = _checked(wanted, now)
        texts = tuple(sorted(map(str, matchers)))
        wanted = structs.replace(wanted, matchers=texts, starts=max(wanted.starts, now), updated=now)
        former = self._former(wanted, now)
        if former is None or not _can_become(former, wanted, now):
            self._make_room(now)
            if former is not None:
                self._end(former, now)
            silence = structs.replace(wanted, id=str(uuid.uuid4()))
        else:
            starts = former.starts if former.starts <= now else wanted.starts
            silence = structs.replace(wanted, id=former.id, starts=starts)
        self._all[silence.id] = silence
        self._live[silence.id] = matchers
        return silence

    def take(self, other: Silence, now: float) -> bool:
        """Take over a silence of another machine as it is; return whether that changes anything.

        Of two changes of the same silence, the later one counts. Raises `ValueError` with a sentence for people.
        """
        former = self._all.get(other.id)
        if former is not None and (former.updated >= other.updated or _is_same(former, other)):
            return False
        matchers = _parsed(other)
        if former is None:
            if other.ends <= now:
                return False
            self._make_room(now)
        self._all[other.id] = other
        self._live.pop(other.id, None)
        if other.ends > now:
            self._live[other.id] = matchers
        return True

    def expire(self, name: str, now: float) -> Silence:
        """End a silence that is pending or active, and return it; raise `UnknownSilenceError`."""
        silence = self._all.get(name)
        if silence is None or silence.ends <= now:
            raise UnknownSilenceError(name)
        return self._end(silence, now)

    def holding(self, labels: Mapping[str, str], now: float) -> list[Silence]:
        """Return the silences that hold a message back."""
        return [each for each, matchers in self._active(now) if all(matcher.matches(labels) for matcher in matchers)]

    def holds_until(self, labels: Mapping[str, str], now: float) -> float | None:
        """Return when the last silence of a message ends; None if it is not silenced."""
        return max((silence.ends for silence in self.holding(labels, now)), default=None)

    def holds_alarm_until(self, alarm: str, now: float, *, in_part: bool = False) -> float | None:
        """Return when the last silence of all messages of an alarm ends, or with `in_part` of some; else None."""
        if not self._live:
            return None
        labels = {ALARM: alarm}
        return max(
            (
                silence.ends
                for silence, matchers in self._active(now)
                if all(in_part if each.name != ALARM else each.matches(labels) for each in matchers)
            ),
            default=None,
        )

    def is_selective(self, now: float) -> bool:
        """Return whether other labels than that of the alarm decide at present."""
        return bool(self._live) and any(
            matcher.name != ALARM for _, matchers in self._active(now) for matcher in matchers
        )

    def _active(self, now: float) -> list[tuple[Silence, tuple[Matcher, ...]]]:
        """Return the active silences, and forget the matchers of those that have expired."""
        found = [(self._all[name], matchers) for name, matchers in tuple(self._live.items())]
        for silence, _ in found:
            if silence.ends <= now:
                self._live.pop(silence.id, None)  # another thread may be as far
        return [(silence, matchers) for silence, matchers in found if silence.starts <= now < silence.ends]

    def _former(self, wanted: Silence, now: float) -> Silence | None:
        """Return the silence that `wanted` updates, or has to end; None for a new one."""
        if wanted.id:
            former = self._all.get(wanted.id)
            if former is None:
                raise UnknownSilenceError(wanted.id)
            return former if former.ends > now else None
        active = [silence for silence, _ in self._active(now)] if wanted.starts <= now else []
        return next((silence for silence in active if silence.matchers == wanted.matchers), None)

    def _end(self, silence: Silence, now: float) -> Silence:
        ended = structs.replace(silence, starts=min(silence.starts, now), ends=now, updated=now)
        self._all[silence.id] = ended
        self._live.pop(silence.id, None)
        return ended

    def _make_room(self, now: float) -> None:
        expired = sorted((each for each in self if each.ends <= now), key=lambda each: each.ends)
        if len(self._all) - len(expired) >= MOST_LIVE:
            raise ValueError(f"there are {MOST_LIVE} silences already, which is the limit: end some of them first")
        room = MOST - len(self._all)
        for number, silence in enumerate(expired):
            if number >= 1 - room and silence.ends > now - KEEP:
                break
            del self._all[silence.id]
            self._live.pop(silence.id, None)


def _parse(texts: Iterable[str]) -> tuple[Matcher, ...]:
    """Return matchers; raise `ValueError` with a sentence for people."""
    with held_off():  # most installations have no silences
        from alarm_mw.engine.matchers import parse_matchers  # noqa: PLC0415

    return parse_matchers(texts)


def _parsed(wanted: Silence) -> tuple[Matcher, ...]:
    """Return the matchers of a silence; raise `ValueError` with a sentence for people."""
    if sum(map(len, (*wanted.matchers, wanted.author, wanted.comment))) > MOST_TEXT:
        raise ValueError(f"matchers, author and comment together have more than {MOST_TEXT} characters")
    matchers = _parse(wanted.matchers)
    if not 1 <= len(matchers) <= MOST_MATCHERS:
        raise ValueError(f"expected 1 to {MOST_MATCHERS} matchers, got {len(matchers)}")
    if all(matcher.matches({}) for matcher in matchers):
        raise ValueError("the matchers select every message: one of them must require a label")
    return matchers


def _checked(wanted: Silence, now: float) -> tuple[Matcher, ...]:
    """Return the matchers of a silence that can be put in force; raise `ValueError` with a sentence for people."""
    matchers = _parsed(wanted)
    starts = max(wanted.starts, now)
    if wanted.ends <= starts:
        raise ValueError("the end of the silence is not after its start")
    if wanted.ends - starts > LONGEST + TOLERANCE or starts - now > LONGEST + TOLERANCE:
        raise ValueError("a silence lasts at most 30 days, and starts within 30 days")
    return matchers


def _is_same(one: Silence, other: Silence) -> bool:
    """Return whether two silences differ in nothing but the clocks of their machines."""
    is_as_long = all(abs(a - b) < CLOCKS for a, b in ((one.starts, other.starts), (one.ends, other.ends)))
    return is_as_long and (one.matchers, one.author, one.comment) == (other.matchers, other.author, other.comment)


def _can_become(former: Silence, wanted: Silence, now: float) -> bool:
    """Return whether a silence that has not expired can be updated; else another one takes its place."""
    return former.matchers == wanted.matchers and (former.starts > now or wanted.starts <= now)


def labels_of(alarm: str, rule: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a message, by which silences select it: the rule's, and names.

    Where none is called ``alertname``, the rule's name is, by which Alertmanager's clients know it.
    """
    return {"alertname": rule, **labels, "rule": rule, ALARM: alarm}


def matcher_of_alarm(alarm: str) -> str:
    """Return the matcher of all messages of an alarm."""
    name = alarm.replace("\\", "\\\\").replace('"', '\\"')
    return f'{ALARM}="{name}"'


def alarm_of(silence: Silence) -> str:
    """Return the alarm all of whose messages a silence holds back; empty where its matchers say something else."""
    found = _WHOLE_ALARM.fullmatch(silence.matchers[0]) if len(silence.matchers) == 1 else None
    return "" if found is None else re.sub(r"\\(.)", r"\1", found[1])


def of_alarm(alarm: str, ends: float, comment: str) -> Silence:
    """Return a silence as former releases have stored it."""
    return Silence(str(uuid.uuid4()), (matcher_of_alarm(alarm),), 0.0, ends, "", comment)
