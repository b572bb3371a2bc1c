"""What is wrong with a fleet, as a master says it."""

from __future__ import annotations

import pytest

from alarm_mw.master.control.fleet import faults
from alarm_mw.model.fleet import FleetMember, FleetOverview


def member(machine: str, rules: str, state: str = "alive", program: str = "shop") -> FleetMember:
    return FleetMember(machine, state, 1.0, rules_hash=rules, program=program)


def fleet(*members: FleetMember, state: str = "connected", error: str = "", is_hub: bool = False) -> FleetOverview:
    return FleetOverview("shop", "web-1", state, error, members=members, is_hub=is_hub)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ()),
        (fleet(state="connecting"), ()),
        (fleet(member("web-1", "a"), member("web-2", "a"), member("web-3", "b", "left")), ()),
        (fleet(member("web-1", "a"), member("hub", ""), member("jobs-1", "b", program="jobs")), ()),
        (fleet(member("web-1", ""), member("web-2", "b")), ()),
        (
            fleet(state="away", error="wrong password"),
            ("the fleet shop cannot be reached, alarms are sent by this machine alone: wrong password",),
        ),
        (
            fleet(state="away", error="wrong password", is_hub=True),
            ("the fleet shop cannot be reached, the hub gets no messages: wrong password",),
        ),
        (
            fleet(member("web-1", "a"), member("web-2", "b"), error="another master is called so"),
            ("another master is called so", "machines of the fleet have other rules than web-1: web-2"),
        ),
        (
            fleet(member("web-1", "a"), *(member(f"x-{n}", "b") for n in range(11))),
            ("machines of the fleet have other rules than web-1: x-0, x-1, x-2, x-3, x-4, x-5, x-6, x-7, x-8, x-9, …",),
        ),
    ],
)
def test_what_is_wrong_is_said(found: FleetOverview | None, expected: tuple[str, ...]) -> None:
    """A fleet that is away, a name that two have, and machines that run the same program with other rules."""
    assert faults(found) == expected
