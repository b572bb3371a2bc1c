"""A Redis that forgets, fails over, hangs, is slow, full or refuses: nothing is lost, and nobody is told twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from redis_server import Sentinel
from waiting import wait_until

from faults.fleet.fleets import LOAD, Fleet, is_connected, lost
from faults.fleet.sink import Sink
from faults.fleet.stores import Pair, Store, master_of
from faults.fleet.verdict import Verdict

#: What a message says that was sent without the fleet.
ALONE = "fleet unreachable"

#: Seconds in which a machine that has lost Redis has found it again.
RETURN = 60.0

#: Seconds for which members tell a Redis that knows nothing what they know.
GRACE = 6.0


def flushed(shop: Fleet, verdict: Verdict, store: Store) -> None:
    """Delete everything (c), after a message and while one is being sent: there is no second message."""
    flushed_later(shop, verdict, store)
    _forgotten(shop, verdict, store.flush, is_midway=True)


def flushed_later(shop: Fleet, verdict: Verdict, store: Store) -> None:
    """Delete everything after a message: there is no second one."""
    _forgotten(shop, verdict, store.flush)


def restarted(shop: Fleet, verdict: Verdict, store: Store) -> None:
    """Restart a Redis (c) that keeps nothing: there is no second message."""
    _forgotten(shop, verdict, store.restart)
    _forgotten(shop, verdict, store.restart, is_midway=True)


def failed_over(shop: Fleet, verdict: Verdict, pair: Pair) -> None:
    """Promote a replica (c) that has seen nothing, then one that has: there is no second message."""

    def fault(*, is_synced: bool) -> None:
        pair.fail_over(is_synced=is_synced)
        pair.recover()

    _forgotten(shop, verdict, lambda: fault(is_synced=False))
    _forgotten(shop, verdict, lambda: fault(is_synced=False), is_midway=True)
    _forgotten(shop, verdict, lambda: fault(is_synced=True))


def watched(shop: Fleet, verdict: Verdict, pair: Pair, sentinel: Sentinel) -> None:
    """Let a sentinel (c), whom the masters ask where Redis is, fail over: there is no second message."""

    def fault() -> None:
        before = master_of(sentinel)
        (gone,) = [store for store in pair.stores if store.port == before]
        gone.stop()
        wait_until(lambda: master_of(sentinel) != before)
        gone.start()

    _forgotten(shop, verdict, fault)


def _forgotten(shop: Fleet, verdict: Verdict, fault: Callable[[], None], *, is_midway: bool = False) -> None:
    """Let Redis forget an incident when one machine does not have it yet: it is told once, and ends once."""
    n = shop.begin()
    shop.print(lost(n), on=shop.machines[1:])
    if not is_midway:
        shop.wait_for(n)
        shop.settle()
    fault()
    shop.print(lost(n))
    shop.wait_for(n)
    shop.wait_until_shared(shop.machines, RETURN)
    shop.settle()
    shop.quiet(GRACE + shop.scale.quiet)
    told = shop.about(n)
    when = "while it was sent" if is_midway else "when it was sent"
    verdict.equal(f"firing, forgotten {when}, n{n}", len(told), 1)
    verdict.one_id(f"n{n}", told)
    shop.end(verdict, n)


def under_load(shop: Fleet) -> None:
    """Configure a message for many lines."""
    shop.rules += LOAD
    shop.alarms = ("hook", "load")
    shop.limits = "repeat_after = 5"


def hung(shop: Fleet, verdict: Verdict, store: Store, sink: Sink) -> None:
    """Stop Redis under load (e): no line is delayed and nothing is lost; all ledgers add up."""
    n, machines = shop.begin(), shop.machines
    for machine in machines:
        machine.order("load", ["TERRIBLE LOAD", shop.scale.lines])
    threading.Event().wait(2)  # to be under way
    for when in ("before", "while it hangs", "after"):
        sink.longest()
        for machine in machines:
            machine.order("longest")
        if when == "while it hangs":
            store.pause()
            shop.print(lost(n))
        try:
            threading.Event().wait(shop.scale.hang)
        finally:
            store.resume()
        writes = max(machine.order("longest")["longest"] for machine in machines)
        verdict.figures[f"longest write {when}, ms"] = round(writes * 1000, 1)
        verdict.figures[f"longest way of a line {when}, ms"] = round(sink.longest() * 1000, 1)
    printed = sum(machine.order("stop")["printed"] for machine in machines)
    verdict.figures["lines"] = printed
    shop.wait_until_shared(machines)
    shop.settle()
    shop.end(verdict, n)
    _judge_load(shop, verdict, printed, sink)
    said = shop.about(n)
    verdict.figures["messages of the incident"] = len(said)
    verdict.one_id("incident while Redis hung", said)
    verdict.expect(any(ALONE in m.text for m in said), f"no message says {ALONE!r}")


def _judge_load(shop: Fleet, verdict: Verdict, printed: int, sink: Sink) -> None:
    """Complain if a line has waited, which for Redis would take two seconds at least, and if counts differ."""
    normal = max(float(verdict.figures[f"longest way of a line {when}, ms"]) for when in ("before", "after"))
    most = max(1000.0, 3 * normal)
    hanging = float(verdict.figures["longest way of a line while it hangs, ms"])
    verdict.expect(hanging <= most, f"a line was on its way for {hanging} ms while Redis hung")
    verdict.equal("lines that came through", sink.lines(), printed + 2 * len(shop.machines))
    books = [machine.books() for machine in shop.machines]
    verdict.equal("matched of all ledgers", sum(book["alarms"]["load"]["matched"] for book in books), printed)
    skipped = sum(n for book in books for n in book["sources"]["stdout"]["skipped"].values())
    verdict.equal("lines that were not judged", skipped, 0)
    delivered = sum(row["delivered"] for book in books for row in book["alarms"].values())
    taken = sum(m.is_taken for m in shop.hook.messages())
    verdict.equal("delivered of all ledgers", delivered, taken)


# A Redis that refuses


def locked_out(shop: Fleet, verdict: Verdict, store: Store) -> None:
    """Give a wrong password: each machine reports by itself and says so; with the right one they share again."""

    def repair() -> None:
        store.cli("-a", "right", "CONFIG", "SET", "requirepass", "wrong")

    _refused(shop, verdict, repair, "password")


def full(shop: Fleet, verdict: Verdict, store: Store) -> None:
    """Leave Redis no memory: each machine reports by itself and says so; afterwards they share again."""
    store.cli("CONFIG", "SET", "maxmemory", "1")

    def repair() -> None:
        store.cli("CONFIG", "SET", "maxmemory", "0")

    _refused(shop, verdict, repair, "memory")


def _refused(shop: Fleet, verdict: Verdict, repair: Callable[[], None], why: str) -> None:
    """Let all report while Redis refuses, and again when it takes."""
    alone, together, machines = shop.begin(), shop.number(), len(shop.machines)
    shop.print(lost(alone))
    shop.wait_for(alone, n=machines)
    shop.quiet()
    found = shop.about(alone)
    verdict.equal("messages while it refuses", len(found), machines)
    verdict.one_id("messages while it refuses", found)
    verdict.equal(f"of which say {ALONE!r}", sum(ALONE in m.text for m in found), machines)
    named = {str((machine.status().get("fleet") or {}).get("error", "")) for machine in shop.machines}
    verdict.expect(all(why in each.lower() for each in named), f"status names {sorted(named)}, not {why!r}")
    begun = time.monotonic()
    repair()
    shop.wait_until_shared(shop.machines, RETURN)
    verdict.figures["seconds to share again"] = round(time.monotonic() - begun, 1)
    shop.quiet(GRACE)
    shop.print(lost(together))
    shop.wait_for(together)
    shop.settle()
    shop.quiet()
    verdict.equal("messages about the first incident", len(shop.about(alone)), machines)
    verdict.equal("messages about the next", len(shop.about(together)), 1)
    shop.end(verdict, alone)
    shop.end(verdict, together)


def slow(shop: Fleet, verdict: Verdict) -> None:
    """Let Redis take half a second for an answer: all that is shared is shared, a little later."""
    n = shop.begin()
    for proxy in shop.proxies.values():
        proxy.slow(0.25)
    begun = time.monotonic()
    shop.print(lost(n))
    verdict.figures["seconds to the message"] = round(shop.wait_for(n)[0].at - begun, 1)
    shop.settle()
    shop.quiet()
    verdict.equal("firing", len(shop.about(n)), 1)
    shop.end(verdict, n)
    verdict.expect(all(map(is_connected, shop.machines)), "machines have given up a slow Redis")
    for proxy in shop.proxies.values():
        proxy.heal()
