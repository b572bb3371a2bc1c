"""The states of all rules that measure something, by the values of their keys: bounded, and with deadlines."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from alarm_mw.engine.incidents.incident import Key, incident_id
from alarm_mw.engine.incidents.measures.alert import AlertState
from alarm_mw.engine.incidents.measures.heartbeat import HeartbeatState
from alarm_mw.engine.incidents.measures.judgement import Dump, Judgement, Sample, State
from alarm_mw.engine.incidents.measures.values import CardinalityState, NewState
from alarm_mw.engine.incidents.measures.windows import QuantileState, RatioState, SpikeState, parts_of
from alarm_mw.model.measures import (
    HEARTBEAT,
    Cardinality,
    ExternalAlerts,
    Heartbeat,
    Measure,
    New,
    Quantile,
    Ratio,
    Spike,
)

#: Seconds after which what has changed is written down, where nothing begins or ends.
WRITE_EVERY = 1.0

#: Returns whether the incident of a rule and a key is open.
IsOpen = Callable[[str, Key], bool]


class Row(NamedTuple):
    """A state, as it is written down; without data, it is forgotten."""

    rule: str
    #: The same for each rule and key.
    id: str
    data: bytes | None


#: The id of the row that says since when a rule has been observed.
_SINCE = ""


class MeasuredRule(NamedTuple):
    """A rule that measures something."""

    measure: Measure
    max_keys: int = 10_000


class _Saved(msgspec.Struct, frozen=True, array_like=True):
    """The data of a row."""

    #: The states of another shape are of no use after a change of the configuration.
    shape: str
    key: tuple[tuple[str, str], ...]
    state: Dump


class Judged(NamedTuple):
    """What follows for a rule and a key."""

    rule: str
    key: Key
    judgement: Judgement


_Name = tuple[str, Key]


class Measures:
    """Belongs to the thread of one engine."""

    def __init__(self, rules: Mapping[str, MeasuredRule]) -> None:
        self._rules = dict(rules)
        #: By rule, the state that was used last behind the others.
        self._states: dict[str, dict[Key, State]] = {name: {} for name in rules}
        #: Since when each rule has been observed.
        self._since: dict[str, float] = {}
        self._due: dict[_Name, float] = {}
        self._heap: list[tuple[float, _Name]] = []
        self._changed: dict[_Name, None] = {}
        #: What must be stored besides the states that have changed.
        self._other_rows: list[Row] = []
        self._write_at = 0.0

    def start(self, rows: Iterable[Row], now: float, gap: float, is_open: IsOpen) -> None:
        """Go on from what a former process has written down, `gap` seconds ago."""
        for row in rows:
            if not self._load(row):
                self._other_rows.append(row._replace(data=None))
        self._observe(now)
        self.skip(now, gap, is_open)
        self._expect(now, is_open)

    def skip(self, now: float, gap: float, is_open: IsOpen) -> None:
        """Take note that nothing could be seen in the last `gap` seconds."""
        for name, states in self._states.items():
            for key, state in states.items():
                if gap and state.postpone(gap, now):  # the next process must not take it for silence either
                    self._changed[name, key] = None
                self._schedule(name, key, now, is_open)

    def go_on(self, former: Measures, now: float, is_open: IsOpen) -> None:
        """Take over the states of a former configuration; those that are of no use are forgotten."""
        self._changed, self._other_rows = former._changed, former._other_rows  # of its own class
        for name, states in former._states.items():  # as above
            is_same = name in self._rules and _shape(self._rules[name]) == _shape(former._rules[name])
            for key, state in states.items():
                if is_same:
                    state.configure(self._rules[name].measure)
                    self._states[name][key] = state
                    self._schedule(name, key, now, is_open)
                else:
                    self._note_forgotten(name, key)
            if is_same:
                self._since[name] = former._since[name]
        self._observe(now)
        self._expect(now, is_open)

    def __len__(self) -> int:
        """Return how many states there are."""
        return sum(map(len, self._states.values()))

    def add(self, rule: str, key: Key, sample: Sample, now: float, is_open: IsOpen) -> Judgement | None:
        """Take a sample in and return what follows; None where the rule has too many keys that are in use."""
        states = self._states[rule]
        state = states.pop(key, None)
        if state is None:
            if not self._has_room(rule, is_open):
                return None
            state = _made(self._rules[rule].measure, key, now, self._since.get(rule, now))
        states[key] = state  # behind the others
        if state.add(sample, now):
            self._changed[rule, key] = None
        return state.judge(now, is_open=is_open(rule, key))

    def heartbeat_rules(self, name: str) -> list[str]:
        """Return the rules that expect a heartbeat of this name."""
        return [
            rule
            for rule, measured in self._rules.items()
            if isinstance(measured.measure, Heartbeat) and measured.measure.takes(name)
        ]

    def alert_rules(self, name: str) -> list[str]:
        """Return the rules that take an alert of this name: that of the same name, else those whose names it fits."""
        measures = ((rule, measured.measure) for rule, measured in self._rules.items())
        takers = {rule: measure for rule, measure in measures if isinstance(measure, ExternalAlerts)}
        return [name] if name in takers else [rule for rule, measure in takers.items() if measure.takes(name)]

    def settle(self, rule: str, key: Key, now: float, is_open: IsOpen) -> None:
        """Take note that an incident has begun or ended as it was judged, or has not."""
        if key in self._states[rule]:
            self._schedule(rule, key, now, is_open)

    def forget(self, rule: str, key: Key) -> None:
        """Forget a state; with the next sample, it starts from scratch."""
        if self._states.get(rule, {}).pop(key, None) is not None:
            self._due.pop((rule, key), None)
            self._note_forgotten(rule, key)

    def due(self) -> float | None:
        """Return when `tick` has something to do; None where it has not."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def tick(self, now: float, is_open: IsOpen) -> Iterator[Judged]:
        """Yield what follows from the time that has passed; call `settle` for each."""
        while (due := self.due()) is not None and due <= now:
            _, (rule, key) = heapq.heappop(self._heap)
            del self._due[rule, key]
            self._changed[rule, key] = None
            judgement = self._states[rule][key].judge(now, is_open=is_open(rule, key))
            yield Judged(rule, key, judgement)

    def take_changes(self, now: float, *, is_urgent: bool) -> tuple[Row, ...]:
        """Return what must be stored: at once where that is urgent, else from time to time."""
        if not (self._changed or self._other_rows) or (now < self._write_at and not is_urgent):
            return ()
        self._write_at = now + WRITE_EVERY
        rows = [*self._other_rows, *(self._row(rule, key) for rule, key in self._changed if key in self._states[rule])]
        self._changed, self._other_rows = {}, []
        return tuple(rows)

    def write_due(self) -> float | None:
        """Return when `take_changes` has something to return; None where nothing has changed."""
        return self._write_at if self._changed or self._other_rows else None

    def note_all(self) -> None:
        """Have all of them written down with the next changes: what was written is lost."""
        self._changed = {(rule, key): None for rule, states in self._states.items() for key in states}

    # One state

    def _load(self, row: Row) -> bool:
        """Go on with a state that was written down; return whether that was possible."""
        measured = self._rules.get(row.rule)
        if measured is None or row.data is None:
            return False
        try:
            saved = msgspec.msgpack.decode(row.data, type=_Saved)
            if saved.shape != _shape(measured):
                return False
            if row.id == _SINCE:
                self._since[row.rule] = msgspec.convert(saved.state, float)
            else:
                self._states[row.rule][saved.key] = _loaded(measured.measure, saved.key, saved.state)
        except msgspec.MsgspecError:  # it starts from scratch, as after a change of the rule
            return False
        return True

    def _observe(self, now: float) -> None:
        """Note of each rule that is new that it is observed from now on."""
        for rule in self._rules.keys() - self._since.keys():
            self._since[rule] = now
            if isinstance(self._rules[rule].measure, Spike | New):
                data = msgspec.msgpack.encode(_Saved(_shape(self._rules[rule]), (), now))
                self._other_rows.append(Row(rule, _SINCE, data))

    def _expect(self, now: float, is_open: IsOpen) -> None:
        """Expect from now on the heartbeats that are configured by their names."""
        for rule, measured in self._rules.items():
            for name in measured.measure.expected() if isinstance(measured.measure, Heartbeat) else ():
                key = ((HEARTBEAT, name),)
                if key not in self._states[rule]:
                    self._states[rule][key] = _made(measured.measure, key, now, now)
                    self._changed[rule, key] = None
                    self._schedule(rule, key, now, is_open)

    def _has_room(self, rule: str, is_open: IsOpen) -> bool:
        """Return whether there may be another state, if need be in place of the one that was unused for longest."""
        states = self._states[rule]
        if len(states) < self._rules[rule].max_keys:
            return True
        oldest = next((key for key in states if not is_open(rule, key)), None)
        if oldest is None:
            return False
        self.forget(rule, oldest)
        return True

    def _note_forgotten(self, rule: str, key: Key) -> None:
        self._changed.pop((rule, key), None)
        self._other_rows.append(Row(rule, incident_id(rule, key), None))

    def _row(self, rule: str, key: Key) -> Row:
        saved = _Saved(_shape(self._rules[rule]), key, self._states[rule][key].dump())
        return Row(rule, incident_id(rule, key), msgspec.msgpack.encode(saved))

    def _schedule(self, rule: str, key: Key, now: float, is_open: IsOpen) -> None:
        due = self._states[rule][key].due(now, is_open=is_open(rule, key))
        if due is None:
            self._due.pop((rule, key), None)
        elif self._due.get((rule, key), math.inf) > due:  # a later one is found out when the present one is due
            self._due[rule, key] = due
            heapq.heappush(self._heap, (due, (rule, key)))


def _shape(measured: MeasuredRule) -> str:
    """Return what a state must have in common with a rule to go on."""
    measure = measured.measure
    return f"{type(measure).__name__} {getattr(measure, 'field', '')} {getattr(measure, 'within', '')}"


def _made(measure: Measure, key: Key, now: float, since: float) -> State:  # noqa: PLR0911  # a kind each
    """Return a new state of a rule that has been observed since a time."""
    match measure:
        case Heartbeat():
            return HeartbeatState(dict(key).get(HEARTBEAT, ""), measure, now)
        case ExternalAlerts():
            return AlertState()
        case Ratio():
            return RatioState(measure)
        case Quantile():
            return QuantileState(measure)
        case Spike():
            return SpikeState(measure, since)
        case Cardinality():
            return CardinalityState(measure)
    return NewState(measure, since + measure.learn_for)


def _loaded(measure: Measure, key: Key, dump: Dump) -> State:  # noqa: PLR0911  # as above
    """Return a state that was written down; raise `msgspec.MsgspecError` where that is not possible."""
    match measure:
        case Heartbeat():
            return HeartbeatState.load(dict(key).get(HEARTBEAT, ""), measure, dump)
        case ExternalAlerts():
            return AlertState.load(dump)
        case Ratio():
            return RatioState(measure, parts_of(dump))
        case Quantile():
            return QuantileState(measure, parts_of(dump))
        case Spike():
            return SpikeState.load(measure, dump)
        case Cardinality():
            return CardinalityState.load(measure, dump)
    return NewState.load(measure, dump)
