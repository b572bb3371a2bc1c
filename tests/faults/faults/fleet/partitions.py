"""A part of the machines that does not reach Redis, and one whose clock is wrong."""

from __future__ import annotations

import threading
import time

from faults.clock import HOUR
from faults.fleet.fleets import OF_MACHINES, Fleet, back, lost
from faults.fleet.machines import Machine
from faults.fleet.verdict import Verdict, statuses
from faults.ground import wait_until

#: Seconds in which both sides have reported, and in which what happened meanwhile is known to all when it is over.
BOTH_SIDES = 60.0
MERGED = 30.0

#: Seconds after which a machine is reported as silent.
SILENT = 60.0


def partitioned(shop: Fleet, verdict: Verdict) -> None:
    """Cut some off (d): both sides notify; later they merge, silences survive, and no machine is thought dead."""
    before, during, machines = shop.begin(), shop.number(), shop.machines
    away = machines[: max(1, 3 * len(machines) // 10)]
    here = machines[len(away) :]
    silenced = [shop.number() for _ in range(3)]
    early = machines[0].silence(f'n="{silenced[0]}"')
    wait_until(lambda: all(early in machine.silences() for machine in machines), what="the silence on all")
    shop.print(lost(before))
    shop.wait_for(before)
    shop.settle()
    for number, machine in enumerate(away):
        proxy = shop.proxies[machine.name]
        (proxy.cut if number % 2 else proxy.hang)()
    cut = time.monotonic()
    _while_apart(shop, verdict, during, away, here)
    late = {here[0].silence(f'n="{silenced[1]}"'), away[0].silence(f'n="{silenced[2]}"')}
    threading.Event().wait(max(0.0, cut + shop.scale.partition - time.monotonic()))
    known = len(shop.messages())
    for machine in away:
        shop.proxies[machine.name].heal()
    begun = time.monotonic()
    shop.wait_until_shared(machines)
    wait_until(lambda: all(late | {early} <= machine.silences() for machine in machines), MERGED, "all silences")
    verdict.figures["seconds to merge"] = round(time.monotonic() - begun, 1)
    shop.settle()
    verdict.equal("messages when it heals", len(shop.quiet()) - known, 0)
    shop.print(*map(lost, silenced))
    shop.settle()
    verdict.equal("messages of what is silenced", len(shop.quiet()) - known, 0)
    shop.print(*map(back, silenced))
    _end(shop, verdict, (before, during))
    verdict.equal("messages of the incident before the partition", len(shop.about(before)), 1)
    _judge_the_dead(shop, verdict)


def _while_apart(shop: Fleet, verdict: Verdict, n: int, away: list[Machine], here: list[Machine]) -> None:
    """Begin an incident on both sides: those here send one message, the others one each."""
    there, others = {m.name for m in away}, {m.name for m in here}
    shop.print(lost(n))

    def both() -> bool:
        told = {m.machine for m in shop.about(n)}
        return there <= told and bool(others & told)

    wait_until(both, BOTH_SIDES, "messages of both sides")
    shop.quiet()
    told = shop.about(n)
    verdict.equal("messages of those that are here", sum(m.machine in others for m in told), 1)
    verdict.equal("messages of those that are away", sum(m.machine in there for m in told), len(away))
    verdict.one_id("both sides", told)


def _end(shop: Fleet, verdict: Verdict, numbers: tuple[int, int]) -> None:
    """End both incidents, on one machine after all others: each ends once."""
    *others, last = shop.machines
    shop.print(*map(back, numbers), on=others)
    shop.settle()
    early = [m for m in shop.quiet() if m.status == "resolved"]
    verdict.equal("resolved before the last", len(early), 0)
    for number in numbers:
        shop.end(verdict, number, on=[last])


def _judge_the_dead(shop: Fleet, verdict: Verdict) -> None:
    """Complain of a machine that is thought dead; after a long partition there is one message for all, and its end."""
    found = [m for m in shop.hook.messages() if m.rule == OF_MACHINES]
    begun, ended = (sum(m.status == status for m in found) for status in ("firing", "resolved"))
    verdict.at_most("messages that machines are silent", begun, 1 if shop.scale.partition > SILENT else 0)
    verdict.equal("of which have ended", ended, begun)


def with_a_clock(shop: Fleet) -> None:
    """Give a machine a clock that can be moved."""
    shop.clocked = 1


def clocks(shop: Fleet, verdict: Verdict) -> None:
    """Move the clock of one machine: it neither sends what others have sent, nor ends their silences."""
    (clock,) = shop.clocks.values()
    silenced = shop.begin()
    silence = shop.machines[1].silence(f'n="{silenced}"')
    wait_until(lambda: all(silence in machine.silences() for machine in shop.machines), what="the silence on all")
    numbers = [shop.number() for _ in range(3)]
    for n, seconds in zip(numbers, (HOUR, -HOUR, 0), strict=True):
        clock.move(seconds)
        shop.print(lost(n), lost(silenced))
        shop.wait_for(n)
        shop.settle()
        shop.quiet()
    for machine in shop.machines[1:]:
        verdict.expect(silence in machine.silences(), f"the silence has ended on {machine.name}")
    shop.print(back(silenced))
    for n in numbers:
        shop.end(verdict, n)
    found = shop.messages()
    verdict.equal("firing", statuses(found).get("firing", 0), 3)
    verdict.equal("resolved", statuses(found).get("resolved", 0), 3)
    verdict.equal("messages with an id of their own", len({m.id for m in found}), len(found))
