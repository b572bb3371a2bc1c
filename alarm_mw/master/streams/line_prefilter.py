"""What a reader asks for the lines that concern the rules."""

from __future__ import annotations

from typing import Protocol

from alarm_mw.patterns.prefilter import Hit


class LinePrefilter(Protocol):
    """Finds the lines that some rule may match."""

    @property
    def rule_set(self) -> object:
        """What the numbers of its hits' rules belong to: another object after other rules have come into force."""
        ...

    def scan(self, data: bytes, base: int = 0) -> list[Hit]:
        """Return the hits in `data`, which holds whole lines; the last may lack its newline.

        `base` is where in the stream the data begins.
        """
        ...
