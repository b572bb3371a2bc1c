"""How large a scenario is: the short form is for every run of the tests, the long one for the guarantees."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes and times, in seconds."""

    #: How many machines a fleet has.
    machines: int
    #: How many there are for a budget.
    many: int
    #: For how long Redis hangs, and how many matching lines each machine prints a second meanwhile.
    hang: float
    lines: int
    #: For how long machines are partitioned: more than three minutes show what is reported as silent.
    partition: float
    #: How long to wait for messages that must not come.
    quiet: float


SHORT = Scale(machines=3, many=5, hang=5, lines=200, partition=3, quiet=0.8)
LONG = Scale(machines=10, many=100, hang=60, lines=1000, partition=210, quiet=6)
