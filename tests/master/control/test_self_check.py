"""What a master finds wrong with itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from alarm_mw.engine.ledger import Ledger
from alarm_mw.master.control.self_check import BACKLOG, STUCK_AFTER, SelfCheck, Sight, keep_looking

#: A line that came in, of which nothing is known; a firing that waits.
LOST, WAITING = Ledger(), Ledger()
LOST.source("stdout", "lines")
WAITING.alarm("a", "matched")
WAITING.alarm("a", "fired")


def sight(ledger: Ledger | None = None, fault: str = "", backlog: int = 0) -> Sight:
    books = (ledger or Ledger()).books()
    return Sight(books, {name: row["waiting"] for name, row in books["alarms"].items()}, fault, backlog)


def told(*sights: Sight) -> list[list[str]]:
    """Return the keys of what is told at each look."""
    check = SelfCheck()
    return [[key for key, _ in check.look(each)] for each in sights]


def test_what_is_well_is_not_told() -> None:
    """A ledger that balances, and a backlog that is worked off, are nothing."""
    assert told(sight(), sight(backlog=BACKLOG), sight(backlog=BACKLOG - 1), sight()) == [[], [], [], []]


@pytest.mark.parametrize(
    ("wrong", "key"), [(sight(LOST), "ledger source stdout"), (sight(fault="disk full"), "outbox")]
)
def test_what_stays_wrong_is_told_once(wrong: Sight, key: str) -> None:
    """A moment is not told; what comes again after it was gone is told again."""
    assert told(wrong, sight(), wrong, wrong, wrong, sight(), wrong, wrong) == [[], [], [], [key], [], [], [], [key]]


def test_remarks_are_shown_and_fire_no_alarm() -> None:
    """What is wrong elsewhere is a finding while it lasts, but nobody is woken for it."""
    check = SelfCheck()
    remarked = replace(sight(), remarks=("the fleet cannot be reached",))
    assert [check.look(remarked) for _ in range(3)] == [[], [], []]
    assert check.findings == ("the fleet cannot be reached",)
    check.look(sight())
    assert not check.findings


def test_a_growing_backlog_is_told() -> None:
    """More and more batches that wait, at one look after the other."""
    assert told(*(sight(backlog=BACKLOG * n) for n in range(1, 5))) == [[], [], ["backlog"], []]


def moving(column: str) -> Iterator[Sight]:
    """Yield looks at an alarm that fires two between them, of which one becomes what the column counts."""
    books = Ledger()
    for _ in range(2 * STUCK_AFTER):
        books.alarm("a", "matched", 2)
        books.alarm("a", "fired", 2)
        books.alarm("a", column)
        yield sight(books)


def test_an_alarm_that_is_stuck_is_told() -> None:
    """Firings that wait while none is delivered; a delivery in between begins the count anew."""
    looks = told(*itertools.repeat(sight(WAITING), STUCK_AFTER + 3))
    assert looks == [[]] * (STUCK_AFTER + 1) + [["stuck a"], []]
    assert not any(told(*moving("delivered")))


def test_a_stuck_alarm_is_told_in_words() -> None:
    """How many wait, for how long, and where to look; what another alarm takes over is no sign of being stuck."""
    check = SelfCheck()
    sights = [replace(sight(WAITING), time=60.0 * n) for n in range(STUCK_AFTER + 2)]
    ((_, text),) = [found for each in sights for found in check.look(each)]
    assert text == "alarm a: 1 firing waits, and none was delivered for 6 minutes; `alarm-mw status` says why"
    assert not any(told(*moving("handed_over")))


def test_an_outbox_that_cannot_be_read_says_nothing_of_the_ledger() -> None:
    """The books are not compared with what nobody knows."""
    unread = Sight(WAITING.books(), None, "disk I/O error", 0)
    assert told(unread, unread) == [[], ["outbox"]]


def test_findings_go_to_the_log_and_to_the_own_alarms(caplog: pytest.LogCaptureFixture) -> None:
    """Each once; a pause that says so is not followed by a look, and a look that fails is not the last."""
    check, fired, pauses = SelfCheck(), [], iter([True, False, True, True, True])
    looks = iter([RuntimeError("unforeseen")])

    def look() -> Sight:
        for error in looks:
            raise error
        return sight(LOST)

    async def pause() -> bool:
        try:
            return next(pauses)
        except StopIteration:
            raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keep_looking(check, look, lambda text, key: fired.append((key, text)), pause))
    text = "source stdout: 1 lines came in, 0 are accounted for"
    assert fired == [("ledger source stdout", text)]
    assert caplog.messages == ["the self-check has failed", f"self-check: {text}"]
    assert check.findings == (text,)
