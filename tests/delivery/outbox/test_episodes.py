"""Messages about the same episode of an incident: which way they go, and what drops them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from alarm_mw.delivery.fallback import handed_over
from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox import outbox as outbox_module
from alarm_mw.delivery.outbox.entries import Entry, Outcome, Settlement
from alarm_mw.delivery.outbox.limits import OutboxOptions, State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, IncidentNotice, Reason, Record, Trigger


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with closing(Outbox(":memory:")) as opened:
        yield opened


def about(status: str, number: int, alarm: str = "a", thread: str = "i-1-1") -> Firing:
    """Return a message about an episode of an incident."""
    trigger = Trigger(incident=IncidentNotice("i", status, 1, thread, 1.0))
    name = f"{thread}-{number}.{alarm}"
    return Firing(name, alarm, b"x", Record(b"x", "stdout", 1.0, name), 1.0, trigger=trigger)


def take(outbox: Outbox, *firings: Firing) -> list[Entry]:
    def book(one: Firing, is_new: bool) -> None:  # the outbox's callback
        assert is_new
        outbox.ledger.alarm(one.alarm, "matched")
        outbox.ledger.alarm(one.alarm, "fired")

    return outbox.take(firings, book).entries


def complaints(outbox: Outbox) -> list[str]:
    return imbalances(outbox.ledger.books(), outbox.count_waiting())


def hand_over(outbox: Outbox, entry: Entry, alarm: str) -> None:
    outbox.settle(Settlement([entry], Outcome(State.HANDED_OVER, 1), handed_over(entry.firing, alarm)))


def waiting_ids(outbox: Outbox, alarm: str) -> list[str]:
    return [entry.firing.id for entry in outbox.waiting(alarm, after=0, limit=9)]


def test_an_end_goes_the_way_of_its_beginning(outbox: Outbox) -> None:
    """Where that was handed over, so is the end, and a reminder; another episode goes its own way."""
    arrived: list[str] = []
    outbox.on_arrival = arrived.extend
    (entry,) = take(outbox, about("firing", 1))
    hand_over(outbox, entry, "b")
    (second,) = outbox.waiting("b", after=0, limit=9)
    hand_over(outbox, second, "c")
    assert take(outbox, about("reminder", 2), about("resolved", 3)) == []
    assert waiting_ids(outbox, "c") == ["i-1-1-1.a.b.c", "i-1-1-2.a.c", "i-1-1-3.a.c"]
    assert arrived == ["c"]
    assert len(take(outbox, about("resolved", 4, thread="i-1-2"), about("firing", 5))) == 2
    assert complaints(outbox) == []


def test_a_reminder_that_waits_hides_nothing(outbox: Outbox) -> None:
    """An alarm that has delivered a message stays delivered while another one waits; nobody else's message counts."""

    def states() -> dict[str, str]:
        return incident_rows.deliveries(outbox, "i-1-1")

    assert not incident_rows.is_unreached(outbox, "i-1-1", states())
    (first,) = take(outbox, about("firing", 1))
    assert incident_rows.is_unreached(outbox, "i-1-1", states())
    outbox.settle(Settlement([first], Outcome(State.DELIVERED, 1)))
    take(outbox, about("reminder", 2))
    (elsewhere,) = take(outbox, about("escalated", 3, "b"))
    outbox.settle(Settlement([elsewhere], Outcome(State.DEAD, 1, "", Reason.REFUSED)))
    assert states() == incident_rows.all_deliveries(outbox)["i-1-1"] == {"a": "delivered", "b": "dead"}
    assert not incident_rows.is_unreached(outbox, "i-1-1", states())
    assert not incident_rows.is_unreached(outbox, "i-1-1", {"b": "dead"})


def test_an_end_goes_to_its_own_alarm_where_nobody_has_the_beginning(outbox: Outbox) -> None:
    """A fallback that has failed as well, or that is not configured any more, gets no end."""
    for number, state in enumerate((State.DEAD, State.WAITING)):
        (entry,) = take(outbox, about("firing", 1, thread=f"i-1-{number}"))
        hand_over(outbox, entry, "b")
        if state is State.DEAD:
            (second,) = outbox.waiting("b", after=0, limit=9)
            outbox.settle(Settlement([second], Outcome(State.DEAD, 1, "", Reason.GAVE_UP)))
        else:
            outbox.has_lane = lambda alarm: alarm != "b"
        assert len(take(outbox, about("resolved", 2, thread=f"i-1-{number}"))) == 1
    assert complaints(outbox) == []


def test_what_waits_behind_a_beginning_is_handed_over_with_it(outbox: Outbox) -> None:
    """The end that has come meanwhile goes to the same fallback; those of other alarms stay."""
    (entry, other, _) = take(outbox, about("firing", 1), about("firing", 2, "b"), about("resolved", 3))
    hand_over(outbox, entry, "c")
    assert waiting_ids(outbox, "c") == ["i-1-1-1.a.c", "i-1-1-3.a.c"]
    assert waiting_ids(outbox, "a") == []
    assert waiting_ids(outbox, "b") == [other.firing.id]
    assert complaints(outbox) == []


def test_an_end_replaces_a_beginning_that_was_handed_over_and_never_tried(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of them is mistaken for what the fallback has to deliver of its own."""
    monkeypatch.setattr(outbox_module, "MERGE_AFTER", 0.0)
    entry, _ = take(outbox, about("firing", 1), about("firing", 2, "b"))
    hand_over(outbox, entry, "b")
    take(outbox, about("resolved", 3))
    assert waiting_ids(outbox, "b") == ["i-1-1-2.b", "i-1-1-3.a.b"]
    assert outbox.ledger.books()["alarms"]["b"]["dropped"] == {Reason.MERGED: 1}
    assert complaints(outbox) == []


def test_an_acknowledgment_reaches_what_was_handed_over(outbox: Outbox) -> None:
    """A later step that waits for a fallback is dropped as well."""
    (entry,) = take(outbox, about("escalated", 1))
    hand_over(outbox, entry, "b")
    with outbox.transaction() as transaction:
        (canceled,) = outbox.cancel(transaction, "i-1-1")
    assert (canceled.alarm, canceled.via) == ("b", ("a",))
    assert outbox.count_waiting() == {}
    assert complaints(outbox) == []


def test_an_acknowledgment_reaches_what_is_being_tried(tmp_path: Path) -> None:
    """When the attempt fails it is neither repeated nor handed over, by the next process either; success counts."""
    with closing(Outbox(tmp_path / "outbox.db")) as outbox:
        canceled: list[str] = []
        outbox.on_cancel = lambda one: canceled.append(one.id)
        entries = take(outbox, *(about("escalated", number) for number in range(4)))
        assert all(map(outbox.begin, entries))
        with outbox.transaction() as transaction:
            assert outbox.cancel(transaction, "i-1-1") == []
        outbox.settle(Settlement([entries[0]], Outcome(State.DELIVERED, 1)))
        hand_over(outbox, entries[1], "b")
        outbox.end(entries[2].seq)
        assert not outbox.begin(entries[2])
        assert canceled == [entries[1].firing.id, entries[2].firing.id]
        assert complaints(outbox) == []
    with closing(Outbox(tmp_path / "outbox.db")) as outbox:
        (left,) = outbox.waiting("a", after=0, limit=9)
        assert not outbox.begin(left)
        row = outbox.ledger.books()["alarms"]["a"]
        assert (row["delivered"], row["dropped"], row["waiting"]) == (1, {Reason.ACKNOWLEDGED: 3}, 0)
        assert complaints(outbox) == []


def test_what_is_refused_about_an_incident_is_reported(outbox: Outbox) -> None:
    """Whoever writes the incidents down in the same transaction learns which messages the full outbox has refused."""
    outbox.limit(OutboxOptions(waiting=1))
    found: list[list[str]] = []

    def also(_: Outbox, __: object, refused: Sequence[Firing]) -> None:
        found.append([one.id for one in refused])

    plain = Firing("x", "a", b"x", Record(b"x", "stdout", 1.0, "x"), 1.0)
    outbox.take([about("firing", 1), plain, about("firing", 2)], lambda *_: None, None, also)
    assert found == [["i-1-1-2.a"]]
