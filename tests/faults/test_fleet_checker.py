"""The judge over the messages of a fleet: it finds what was not told, and what came again for no reason."""

from __future__ import annotations

from faults.fleet.checker import AFTER, BOUND, Fault, Incident, check
from faults.fleet.hook import Message

HERE = frozenset({"web-1", "web-2"})


def message(at: float, status: str = "firing", machine: str = "web-1", id: str = "i-htkv4-1.a", n: int = 1) -> Message:  # noqa: A002
    line = f"lost db n{n}"
    return Message(at, machine, "hook", id, status, "i", "db", line, line, is_taken=True)


LONG = Incident(1, HERE, 0.0, BOUND)
SHORT = Incident(1, HERE, 0.0, BOUND / 2)
TOLD = [message(1.0), message(BOUND, "resolved")]


def test_what_was_told_once_is_well() -> None:
    """Nobody complains of an incident with one beginning and one end."""
    report = check([LONG], TOLD, [])
    assert report.complaints == []
    assert (report.told, report.ended, report.messages, report.doubled) == (1, 1, 2, 0)


def test_a_long_incident_must_be_told() -> None:
    """An incident that lasted as long as the bound has a message; a shorter one may have none."""
    (complaint,) = check([LONG], [], []).complaints
    assert "nobody was told" in complaint
    assert check([SHORT], [], []).complaints == []


def test_whoever_was_told_hears_of_the_end() -> None:
    """A beginning without an end is reported, and so is an end without a beginning."""
    (complaint,) = check([SHORT], TOLD[:1], []).complaints
    assert "nobody was told that it is over" in complaint
    (complaint,) = check([SHORT], TOLD[1:], []).complaints
    assert "an end without a beginning" in complaint


def test_a_second_message_needs_a_cause() -> None:
    """A message that came again is reported unless a fault explains it: one that overlaps, or is just over."""
    again = [*TOLD, message(2.0, machine="web-2")]
    (complaint,) = check([LONG], again, []).complaints
    assert "for no reason" in complaint
    assert check([LONG], again, [Fault("cut", HERE, 0.0, 1.5)]).complaints == []
    assert check([LONG], again, [Fault("cut", HERE, 2.5, 3.0)]).complaints != []
    assert check([LONG], again, [Fault("cut", HERE, -AFTER - 9, -AFTER)]).complaints != []


def test_a_second_message_has_the_id_of_the_first() -> None:
    """Even where a fault explains it, a message that comes again is told by its id."""
    again = [*TOLD, message(2.0, machine="web-2", id="i-htkv9-1.a")]
    report = check([LONG], again, [Fault("cut", HERE, 0.0, 1.5)])
    assert report.again == {"firing": 1}
    (complaint,) = report.complaints
    assert "two ids" in complaint


def test_episodes_have_ids_of_their_own() -> None:
    """After an end, a message may have another id; and so may that of a machine alone, at the turn of a minute."""
    faults = [Fault("cut", HERE, 0.0, BOUND)]
    again = [*TOLD, message(BOUND + 1, id="i-htkv9-1.a"), message(BOUND + 2, "resolved", id="i-htkv9-2.a")]
    assert check([LONG], again, faults).complaints == []
    turn = [message(1.0), message(2.0, machine="web-2", id="i-htkv5-1.a"), TOLD[1]]
    report = check([LONG], turn, faults)
    assert (report.complaints, report.neighbors) == ([], 1)


def test_a_refused_message_does_not_count() -> None:
    """What the receiver has not taken is no message."""
    held = Message(1.0, "web-1", "hook", "i-1-1.a", "firing", "i", "db", "lost db n1", "", is_taken=False)
    assert check([SHORT], [held], []).messages == 0
