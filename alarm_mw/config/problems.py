"""Collects every mistake of a configuration, so that one run shows them all."""

from __future__ import annotations

import msgspec

from alarm_mw.model.errors import OptionError, Problem
from alarm_mw.model.types import Where


class Report(msgspec.Struct, frozen=True):
    """What was found so far: problems make a configuration unusable, warnings do not."""

    problems: list[Problem] = msgspec.field(default_factory=list)
    #: What uWSGI would start with: problems where the configuration is read strictly, warnings elsewhere.
    tolerated: list[Problem] = msgspec.field(default_factory=list)
    warnings: list[Problem] = msgspec.field(default_factory=list)

    def wrong(self, where: Where, text: str) -> None:
        """Note a mistake."""
        self.problems.append(Problem(where, text))

    def refused(self, where: Where, what: str, error: OptionError) -> None:
        """Note each of the mistakes that a plugin found in its options; `what` names the alarm."""
        for text in error.texts:
            self.wrong(where, f"{what}: {text}")

    def doubt(self, where: Where, text: str, *, is_strict: bool) -> None:
        """Note a mistake in what one of uWSGI's files says, which must not keep a server down; `is_strict`: in TOML."""
        (self.problems if is_strict else self.tolerated).append(Problem(where, text))

    def warn(self, where: Where, text: str) -> None:
        """Note what should be looked at."""
        self.warnings.append(Problem(where, text))


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th`` and so on."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
