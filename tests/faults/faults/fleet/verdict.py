"""What came of one scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from faults.fleet.hook import Message


@dataclass(slots=True)
class Verdict:
    """What a scenario measured, and what is not as it should be."""

    figures: dict[str, float | int | str] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def expect(self, condition: object, complaint: str) -> None:
        """Complain unless a condition holds."""
        if not condition:
            self.complaints.append(complaint)

    def equal(self, what: str, found: float, wanted: float) -> None:
        """Keep a figure, and complain unless it is as it should be."""
        self.figures[what] = found
        self.expect(found == wanted, f"{what}: {found}, expected {wanted}")

    def at_most(self, what: str, found: float, most: float) -> None:
        """Keep a figure, and complain if it is larger than it may be."""
        self.figures[what] = found
        self.expect(found <= most, f"{what}: {found}, expected at most {most}")

    def one_id(self, what: str, messages: Iterable[Message]) -> None:
        """Complain if messages that are one have several ids."""
        ids = sorted({message.id for message in messages})
        self.expect(len(ids) <= 1, f"{what}: {len(ids)} ids: {', '.join(ids)}")


def statuses(messages: Iterable[Message]) -> Mapping[str, int]:
    """Return how many messages of each status there are."""
    return Counter(message.status for message in messages)
