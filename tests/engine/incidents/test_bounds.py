"""However many keys a rule sees, its incidents are bounded; and what they were is accounted for."""

from __future__ import annotations

import tracemalloc

from alarm_mw.engine.incidents.incident import OTHER, Marks, State, Step
from alarm_mw.engine.incidents.tracker import IncidentRule, Tracker

MOST = 100


def tracker(count: int = 1) -> Tracker:
    rule = IncidentRule("db", (Step("a"),), count, 3600.0, resolve_after=86_400.0, key=("db",), max_keys=MOST)
    found = Tracker([rule], (), lambda *_: Marks())
    found.start(0.0)
    return found


def key(number: int) -> tuple[tuple[str, str], ...]:
    return (("db", str(number)),)


def test_keys_that_come_and_go_take_no_room() -> None:
    """Some begin and end; those that were quiet for the longest are evicted, and nothing of them is left."""
    full, keys = tracker(count=2), 100_000
    opened = resolved = evicted = before = after = 0
    tracemalloc.start()
    for number in range(keys):
        now = number / 100
        change = full.match("db", key(number), now)
        evicted += bool(change.evicted)
        if number % 20 == 0:
            opened += full.match("db", key(number), now).has_begun
            end = full.resolve("db", key(number), now)
            resolved += end is not None and end.has_ended
        if number == 10_000:
            before, _ = tracemalloc.get_traced_memory()
        elif number == 20_000:
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()  # with it, all takes twice as long
    assert (opened, resolved, evicted) == (keys // 20, keys // 20, keys - MOST)
    assert [incident.key for incident in full] == [key(number) for number in range(keys - MOST, keys)]
    assert after - before < 1_000_000


def test_where_all_are_firing_further_keys_share_one_incident() -> None:
    """None that is firing is evicted: its alarm would not learn of the end."""
    full = tracker()
    changes = [full.match("db", key(number), float(number)) for number in range(10 * MOST)]
    assert sum(change.has_begun for change in changes) == MOST + 1
    assert [change.is_overflow for change in changes] == [False] * MOST + [True] * 9 * MOST
    (other,) = (incident for incident in full if incident.key == OTHER)
    assert (other.state, other.count) == (State.FIRING, 9 * MOST)
    assert sum(change.has_ended for change in full.tick(200_000.0)) == MOST + 1


def test_keys_that_do_not_reach_the_count_are_evicted_first() -> None:
    """One that is firing stays, whatever comes."""
    full = tracker(count=2)
    for now in (0.0, 1.0):
        full.match("db", key(0), now)
    for number in range(1, 10 * MOST):
        full.match("db", key(number), 2.0 + number)
    kept = [incident.key for incident in full]
    assert kept == [key(0), *(key(number) for number in range(9 * MOST + 1, 10 * MOST))]
