"""What a state gets, what follows from it, and the interface of a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from alarm_mw.model.types import Reason

#: What is written down of a state: lists, numbers, texts.
Dump = object


class Sample(NamedTuple):
    """A record, as a state sees it."""

    #: It matches the rule, rather than only that which the rule is measured against.
    is_match: bool = True
    fields: Mapping[str, str] = {}


class Judgement(NamedTuple):
    """What follows from a state: whether an incident begins where there is none, and ends where there is one."""

    begins: bool = False
    ends: bool = False
    #: The figures, for people; empty where nothing begins or ends, and where the record says it all.
    text: str = ""
    #: Why a match changes nothing.
    otherwise: Reason = Reason.BELOW_THRESHOLD


def is_news(begins: bool, ends: bool, *, is_open: bool) -> bool:  # noqa: FBT001  # what a judgement begins with
    """Return whether an incident begins or ends, so that its figures are needed: for most records, they are not."""
    return ends if is_open else begins


class State(Protocol):
    """What is measured for one value of a rule's key. Times are in seconds of the incidents' clock."""

    def configure(self, measure: Any) -> None:  # noqa: ANN401  # each has a measure of its own
        """Go on by another configuration of the same shape."""
        ...

    def add(self, sample: Sample, now: float) -> bool:
        """Add a sample; return whether the state must be stored."""
        ...

    def judge(self, now: float, *, is_open: bool) -> Judgement:
        """Return what follows at this moment; `is_open` says whether the incident of the key is open."""
        ...

    def due(self, now: float, *, is_open: bool) -> float | None:
        """Return when to judge again without another sample; None: never."""
        ...

    def postpone(self, seconds: float, now: float) -> bool:
        """Account for `seconds` before `now` that were not observed; return whether that changes anything."""
        ...

    def dump(self) -> Dump:
        """Return what a later process goes on from."""
        ...
