"""Dead letters, and what waits and nobody delivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.delivery import dead_letters
from alarm_mw.delivery.dead_letters import Answer, DeadLetters, Order
from alarm_mw.delivery.outbox.database import UnusableError, open_existing
from alarm_mw.delivery.outbox.entries import Outcome, Settlement
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.delivery.outbox.rescue import open_for_reading
from alarm_mw.engine.ledger import imbalances
from alarm_mw.model.types import Firing, Reason, Record, Trigger


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Hold two dead letters of `a`, one that waits for it, and one that waits for `gone`; balanced before and after."""
    outbox = Outbox(tmp_path / "outbox.db", now=lambda: 1000.0)
    for number, alarm in enumerate(["a", "a", "a", "gone"], 1):
        message = b"\xff line %d\n" % number
        record = Record(message, "stdout", 1.0, str(number))
        outbox.take([Firing(f"id{number}", alarm, message, record, 1.0, "line")], lambda one, _: _book(outbox, one))
    for entry in outbox.waiting("a", after=0, limit=2):
        outbox.settle(Settlement([entry], Outcome(State.DEAD, 3, "404 \x1b[2J", Reason.REFUSED)))
    yield outbox
    assert imbalances(outbox.ledger.books(), outbox.count_waiting()) == []
    outbox.close()
    again = Outbox(tmp_path / "outbox.db")
    assert imbalances(again.ledger.books(), again.count_waiting()) == []
    assert again.stock == outbox.stock
    again.close()


def _book(outbox: Outbox, one: Firing) -> None:
    outbox.ledger.alarm(one.alarm, "matched")
    outbox.ledger.alarm(one.alarm, "fired")


def ask(outbox: Outbox, verb: Any, *, running: bool = True, **what: Any) -> Answer:
    order = Order(verb=verb, **what)
    return DeadLetters(outbox, ("a", "b") if running else (), is_running=running).carry_out(order)


def row(outbox: Outbox, alarm: str) -> dict[str, object]:
    return {column: n for column, n in outbox.ledger.books()["alarms"][alarm].items() if n}


def numbers(answer: Answer) -> list[int]:
    return [letter.id for letter in answer.letters]


def test_they_are_listed(outbox: Outbox) -> None:
    """Each with all that is known of it, in order; the newest where there are too many."""
    answer = ask(outbox, "list")
    assert numbers(answer) == [1, 2]
    first = answer.letters[0]
    assert (first.alarm, first.state, first.reason, first.error) == ("a", "dead", "refused", "404 \x1b[2J")
    assert (first.attempts, first.taken, first.died, first.rule) == (3, 1000.0, 1000.0, "line")
    assert (first.message, first.source, first.key) == ("\\xff line 1\n", "stdout", "id1")
    named = Firing("id9", "a", b"x", Record(b"x", "stdout", 1.0, "9"), 1.0, "line", trigger=Trigger("disk"))
    (entry,) = outbox.take([named], lambda one, _: _book(outbox, one)).entries
    outbox.settle(Settlement([entry], Outcome(State.DEAD, 3, "", Reason.REFUSED)))
    assert ask(outbox, "list", ids=(entry.seq,)).letters[0].rule == "disk"
    ask(outbox, "drop", ids=(entry.seq,))
    newest = ask(outbox, "list", limit=1)
    assert (numbers(newest), newest.count) == ([2], 2)
    assert numbers(ask(outbox, "list", alarms=("b",))) == []


def test_what_nobody_delivers_is_listed_when_asked_for(outbox: Outbox) -> None:
    """While the server runs that is what waits for an alarm that is gone; else all that waits."""
    assert numbers(ask(outbox, "list", waiting=True)) == [1, 2, 4]
    assert numbers(ask(outbox, "list", waiting=True, running=False)) == [1, 2, 3, 4]
    assert numbers(ask(outbox, "list", ids=(2, 4))) == [2, 4]
    assert ask(outbox, "list", ids=(3, 99)).refused == (
        "3: there is no such dead letter",
        "99: there is no such dead letter",
    )


def test_they_are_put_back(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait behind all others, with a new time for retries and their attempts; the ledger says so."""
    monkeypatch.setattr(dead_letters, "PAGE", 1)
    last = outbox.waiting("a", after=0, limit=10)[-1].seq
    assert ask(outbox, "retry").count == 2
    entries = outbox.waiting("a", after=last, limit=10)
    assert [(entry.firing.id, entry.attempts) for entry in entries] == [("id1", 3), ("id2", 3)]
    assert row(outbox, "a") == {"matched": 3, "fired": 3, "retried": 2, "dead": {Reason.REFUSED: 2}, "waiting": 3}
    assert ask(outbox, "list").count == 0


def test_one_is_put_back_or_dropped(outbox: Outbox) -> None:
    """A number names one; dropping leaves the counts as they are, but for how many lie there."""
    assert outbox.count_letters() == 2
    assert ask(outbox, "retry", ids=(2, 7)) == Answer(count=1, refused=("7: there is no such dead letter",))
    assert ask(outbox, "drop", ids=(1,)).count == 1
    assert numbers(ask(outbox, "list")) == []
    assert outbox.count_letters() == 0
    assert row(outbox, "a") == {"matched": 3, "fired": 3, "retried": 1, "dead": {Reason.REFUSED: 2}, "waiting": 2}


def test_another_alarm_takes_them(outbox: Outbox) -> None:
    """What is dead, or waits for an alarm that is gone, is delivered by another one, once."""
    assert ask(outbox, "retry", ids=(1, 4), to="b").count == 2
    assert [entry.firing.text for entry in outbox.waiting("b", after=0, limit=10)] == [
        "\udcff line 1 [instead of a]",
        "\udcff line 4 [instead of gone]",
    ]
    assert row(outbox, "gone") == {"matched": 1, "fired": 1, "handed_over": 1}
    assert row(outbox, "b") == {"taken_over": 2, "fired": 2, "waiting": 2}
    assert ask(outbox, "retry", to="c") == Answer(refused=("there is no alarm 'c'",))


def test_what_cannot_be_put_back_is_told(outbox: Outbox) -> None:
    """An alarm that is gone, and what cannot be read."""
    outbox.change("UPDATE firings SET firing = X'00' WHERE seq = 1")
    assert ask(outbox, "retry", ids=(1, 4)).refused == (
        "1: it cannot be read",
        "4: the alarm 'gone' is not configured; name another one by --as",
    )
    (letter,) = ask(outbox, "list", ids=(1,)).letters
    assert (letter.message, letter.key) == ("", "")
    outbox.change("UPDATE firings SET firing = (SELECT firing FROM firings WHERE seq = 2) WHERE seq = 1")


@pytest.mark.parametrize("verb", ["list", "retry", "drop"])
def test_an_alarm_that_is_misspelled_is_told(outbox: Outbox, verb: str) -> None:
    """Unlike one that is configured, or has letters, and just none of these now."""
    assert ask(outbox, verb, alarms=("bb", "b")).refused == ("bb: no letter is of such an alarm (did you mean 'b'?)",)
    assert ask(outbox, verb, alarms=("gone",)).refused == ("gone: no letter is of such an alarm",)
    assert ask(outbox, verb, alarms=("bb", "a"), running=False).refused == ("bb: no letter is of such an alarm",)


def test_what_nobody_delivers_is_dropped_with_a_reason(outbox: Outbox) -> None:
    """What waits is counted as discarded; without being asked for it stays."""
    assert ask(outbox, "drop").count == 2
    assert outbox.count_waiting() == {"a": 1, "gone": 1}
    assert ask(outbox, "drop", waiting=True, alarms=("gone",)).count == 1
    assert row(outbox, "gone") == {"matched": 1, "fired": 1, "dropped": {Reason.DISCARDED: 1}}


def test_without_a_server_what_waits_stays_as_it_is(outbox: Outbox) -> None:
    """Putting back what waits already changes nothing, and counts each once."""
    assert ask(outbox, "retry", waiting=True, running=False).count == 4
    assert outbox.count_waiting() == {"a": 3, "gone": 1}


def test_an_outbox_is_opened_only_as_it_is(tmp_path: Path) -> None:
    """One that is missing, broken, or of a newer release is left alone."""
    path = tmp_path / "outbox.db"
    with pytest.raises(UnusableError, match="there is no outbox"):
        open_existing(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(UnusableError, match="file is not a database"):
        open_existing(path)
    assert [*tmp_path.iterdir()] == [path]


def test_an_outbox_that_cannot_be_written_is_read(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    """On a full disk, letters are listed from a copy; a file that never got its tables has none."""
    path, empty, broken = tmp_path / "outbox.db", tmp_path / "empty.db", tmp_path / "broken.db"
    with closing(Outbox(path)) as full:
        full.take([Firing("id", "a", b"x", Record(b"x", "stdout", 1.0, "1"), 1.0, "x")], lambda *_: None)
    empty.touch()
    broken.write_bytes(b"no database at all" * 100)
    with full_disk():
        for file, count in ((path, 1), (empty, 0)):
            with closing(Outbox(file, opened=open_for_reading(file))) as copy:
                assert ask(copy, "list", waiting=True, running=False).count == count
        with pytest.raises(UnusableError, match="file is not a database"):
            open_for_reading(broken)
