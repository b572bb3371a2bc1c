"""Incidents in a test: what became of them, what people do to them, and time that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from alarm_mw.engine.incidents.incident import Incident, Key, State
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.model.types import Firing

T = TypeVar("T")

#: Seconds by which time moves at least, where something is due at once again and again.
LEAST = 0.001


class IncidentHandle:
    """One incident of the rules, as it is at each look; one that never had a match is none of what it could be."""

    def __init__(self, runtime: Runtime, settle: Callable[[], None], rule: str, key: Key) -> None:
        self._runtime = runtime
        self._settle = settle
        self._rule = rule
        self._key = key

    @property
    def is_pending(self) -> bool:
        """Whether it has matches, but not yet as many as the rule's `count`."""
        return self._state is State.PENDING

    @property
    def is_firing(self) -> bool:
        """Whether it is firing."""
        return self._state is State.FIRING

    @property
    def is_resolved(self) -> bool:
        """Whether it was firing and is over."""
        return self._state is State.RESOLVED

    @property
    def is_acknowledged(self) -> bool:
        """Whether it is firing, and somebody has acknowledged it."""
        incident = self._incident
        return incident is not None and incident.is_open and incident.ack is not None

    @property
    def count(self) -> int:
        """The number of matches in its present or last episode."""
        return 0 if self._incident is None else self._incident.count

    @property
    def episode(self) -> int:
        """How often it has begun to fire."""
        return 0 if self._incident is None else self._incident.episode

    @property
    def ended_by(self) -> str:
        """What ended its last episode: ``line``, ``timeout``, ``operator``, ``removed``; empty: nothing yet."""
        incident = self._incident
        return "" if incident is None or incident.ended_by is None else str(incident.ended_by)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the rule, and the values of the key."""
        return {} if self._incident is None else dict(self._incident.labels)

    @property
    def notified(self) -> dict[str, str]:
        """The last message to each alarm: ``firing``, ``reminder``, ``escalated``, ``flapping``, ``resolved``."""
        incident = self._incident
        return {} if incident is None else {alarm: str(last.status) for alarm, last in incident.notified.items()}

    def acknowledge(self, by: str = "test", comment: str = "") -> None:
        """Acknowledge it, as ``alarm-mw ack`` does; raise `LookupError` if it is not firing."""
        expire = self._runtime.ack_expire
        self._order(lambda incidents, name: incidents.acknowledge(name, by, expire, comment))

    def unacknowledge(self, by: str = "test") -> None:
        """Take the acknowledgement back; raise `LookupError` if it is not firing."""
        self._order(lambda incidents, name: incidents.unacknowledge(name, by))

    def resolve(self, by: str = "test") -> None:
        """Resolve it by hand; raise `LookupError` if it is not firing."""
        self._order(lambda incidents, name: incidents.resolve_by_hand(name, by))

    def __repr__(self) -> str:
        key = " ".join(f"{name}={value}" for name, value in self._key)
        incident = self._incident
        if incident is None:
            others = ", ".join(_shown(each) for each in self._ask(list_of)) or "there is none"
            return f"<no incident {f'{self._rule} {key}'.strip()}; {others}>"
        told = ", ".join(f"{alarm} {status}" for alarm, status in self.notified.items())
        end = f" by {incident.ended_by}" if incident.ended_by is not None and not incident.is_open else ""
        return f"<{_shown(incident)}{end}, {incident.count} matches; notified: {told or 'nobody'}>"

    @property
    def _incident(self) -> Incident | None:
        return self._ask(lambda incidents: incidents.tracker.find(self._rule, self._key))

    @property
    def _state(self) -> State | None:
        return None if self._incident is None else self._incident.state

    def _ask(self, question: Callable[[Incidents], T]) -> T:
        """Return what a question returns in the worker's thread, after everything that was logged before."""
        self._settle()
        answers: list[T] = []

        def order(incidents: Incidents) -> Sequence[Firing]:
            answers.append(question(incidents))
            return ()

        self._runtime.order(order)
        return answers[0]

    def _order(self, order: Callable[[Incidents, str], list[Firing] | None]) -> None:
        incident = self._incident
        done: list[bool] = []

        def carry_out(incidents: Incidents) -> Sequence[Firing]:
            firings = None if incident is None else order(incidents, incident.id)
            done.append(firings is not None)
            return firings or ()

        self._runtime.order(carry_out)
        if done != [True]:
            raise LookupError(f"it is not firing: {self!r}")


def list_of(incidents: Incidents) -> list[Incident]:
    """Return all incidents."""
    return list(incidents.tracker)


def _shown(incident: Incident) -> str:
    key = "".join(f" {name}={value}" for name, value in incident.key)
    return f"incident {incident.rule}{key}: {incident.state}"


class Time:
    """The time of day, and how far it was set forward; for the worker's thread."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._ahead = 0.0

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return self._wall() + self._ahead

    def advance(self, runtime: Runtime, seconds: float) -> None:
        """Let time pass for the rules: each deadline on the way is met at its time, in order."""

        def pass_time(incidents: Incidents) -> Sequence[Firing]:
            firings, left = list[Firing](), seconds
            while (due := incidents.due()) is not None and due < left:
                step = max(due, LEAST)
                self._shift(runtime, step)
                left -= step
                firings += incidents.tick()
            self._shift(runtime, max(left, 0.0))
            return [*firings, *incidents.tick()]

        if not runtime.order(pass_time):
            runtime.silence(lambda *_: self._shift(runtime, seconds))

    def _shift(self, runtime: Runtime, seconds: float) -> None:
        self._ahead += seconds
        runtime.advance(seconds)
