"""What a reader asks for the lines that concern the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ScreenHit(Protocol):
    """A line that some rule may match: where it is in the data, and the numbers of those rules."""

    @property
    def start(self) -> int:
        """Where the line begins in the data."""
        ...

    @property
    def end(self) -> int:
        """Where it ends, after its newline."""
        ...

    @property
    def rules(self) -> tuple[int, ...]:
        """The numbers of the rules."""
        ...

    @property
    def certain(self) -> tuple[int, ...]:
        """Those among them that are known to match."""
        ...


class LineScreen(Protocol):
    """Finds the lines that some rule may match."""

    @property
    def rule_set(self) -> object:
        """What the numbers of its hits' rules belong to: another object after other rules have come into force."""
        ...

    def scan(self, data: bytes) -> Sequence[ScreenHit]:
        """Return the hits in `data`, which holds whole lines; the last may lack its newline."""
        ...
