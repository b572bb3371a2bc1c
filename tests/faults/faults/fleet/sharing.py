"""Without any fault: machines that have the same to say, silences, acknowledgements, deployments and budgets."""

from __future__ import annotations

import time
from typing import Any

from faults.fleet.fleets import ESCALATED, INCIDENTS, STATELESS, Fleet, back, lost
from faults.fleet.machines import Machine, start_all
from faults.fleet.verdict import Verdict, statuses
from faults.ground import wait_until

#: Seconds in which what somebody does on one machine is to be in force on all of them, on a busy machine too.
SOON = 10.0

#: The budget of a whole fleet.
BUDGET = 20


def same(shop: Fleet, verdict: Verdict) -> None:
    """Begin an incident (a) on all machines: one `firing`, and one `resolved` when the last of them has recovered."""
    n, machines = shop.begin(), shop.machines
    begun = time.monotonic()
    shop.print(lost(n))
    firing = shop.wait_for(n)[0]
    verdict.figures["seconds to the message"] = round(firing.at - begun, 2)
    shop.settle()
    shop.quiet()
    verdict.equal("firing", len(shop.about(n)), 1)
    said = f"on {len(machines)} machines"
    verdict.expect(said in firing.text, f"the message does not say {said!r}: {firing.text!r}")
    shop.print(back(n), on=machines[1:])
    shop.settle()
    shop.quiet()
    verdict.equal("resolved before the last", len(shop.about(n, "resolved")), 0)
    begun = time.monotonic()
    shop.end(verdict, n, on=machines[:1])
    verdict.figures["seconds to the end"] = round(shop.about(n, "resolved")[0].at - begun, 2)
    shop.settle()


def add_up(verdict: Verdict, shop: Fleet, matched: int, alarm: str = "hook") -> None:
    """Complain unless the ledgers of all machines have together what was printed and what has arrived."""
    rows: list[Any] = [machine.books()["alarms"][alarm] for machine in shop.machines]
    verdict.equal("matched of all ledgers", sum(row["matched"] for row in rows), matched)
    taken = sum(message.is_taken and message.alarm == alarm for message in shop.hook.messages())
    verdict.equal("delivered of all ledgers", sum(row["delivered"] for row in rows), taken)


# Orders


def escalating(shop: Fleet) -> None:
    """Configure an escalation."""
    shop.rules = INCIDENTS + ESCALATED
    shop.alarms = ("hook", "pager")


def orders(shop: Fleet, verdict: Verdict) -> None:
    """Set a silence (g) on one: it holds on all within a second; an acknowledgement stops the escalation of all."""
    _silence(shop, verdict)
    _acknowledge(shop, verdict)


def _silence(shop: Fleet, verdict: Verdict) -> None:
    n, machines = shop.begin(), shop.machines
    begun = time.monotonic()
    silence = machines[0].silence(f'n="{n}"')
    wait_until(lambda: all(silence in machine.silences() for machine in machines), SOON, "the silence on all")
    verdict.figures["seconds to the silence on all"] = round(time.monotonic() - begun, 2)
    shop.print(lost(n))
    shop.settle()
    verdict.equal("messages while silenced", len(shop.quiet()), 0)
    begun = time.monotonic()
    machines[-1].api("/api/1/silences/expire", {"targets": [silence], "all": False})
    wait_until(lambda: not any(silence in machine.silences() for machine in machines), SOON, "its end on all")
    verdict.figures["seconds to its end on all"] = round(time.monotonic() - begun, 2)
    shop.wait_for(n)
    shop.settle()
    verdict.equal("messages after the silence", len(shop.quiet()), 1)
    shop.end(verdict, n)


def _acknowledge(shop: Fleet, verdict: Verdict) -> None:
    """Acknowledge one of two incidents: the pager hears of the other one, once."""
    acked, other, machines = shop.begin(), shop.number(), shop.machines
    shop.print(f"lost payments n{acked}", f"lost payments n{other}")

    def pages(n: int) -> int:
        about = [m for m in shop.messages() if m.alarm == "pager" and m.message.strip() == f"lost payments n{n}"]
        return sum(m.status not in {"acknowledged", "resolved"} for m in about)

    wait_until(lambda: all(_has(machine, acked) for machine in machines), what="the incident on all")
    begun = time.monotonic()
    machines[0].api("/api/1/incidents/ack", {"ids": [_has(machines[0], acked)["id"]], "comment": "on it"})
    wait_until(lambda: all(_has(machine, acked)["acknowledged_by"] for machine in machines), SOON, "acknowledgements")
    verdict.figures["seconds to the acknowledgement on all"] = round(time.monotonic() - begun, 2)
    wait_until(lambda: pages(other), what="the escalation of the other one")
    shop.settle()
    shop.quiet()
    verdict.equal("pages of the acknowledged incident", pages(acked), 0)
    verdict.equal("pages of the other incident", pages(other), 1)
    shop.print(f"back payments n{acked}", f"back payments n{other}")
    wait_until(lambda: statuses(shop.messages()).get("resolved", 0) >= 3, what="the ends")
    shop.settle()
    shop.quiet()
    verdict.equal("ends, by both alarms", statuses(shop.messages()).get("resolved", 0), 3)


def _has(machine: Machine, number: int) -> dict[str, Any]:
    """Return an incident of a machine, nothing where it has none."""
    found = [each for each in machine.incidents() if each["key"] == {"n": str(number)}]
    return found[0] if found else {}


# Deployments


def rolling(shop: Fleet, verdict: Verdict) -> None:
    """Restart one machine after the other (h), with rules that have changed: nobody is woken."""
    n, machines = shop.begin(), shop.machines
    shop.print(lost(n))
    shop.wait_for(n)
    shop.settle()
    verdict.equal("messages before", len(shop.quiet()), 1)
    shop.rules += STATELESS
    begun = time.monotonic()
    for machine in machines:
        machine.stop()
        shop.configure(machine)
        start_all([machine], 1)
    shop.wait_until_shared(machines)
    verdict.figures["seconds of the restart"] = round(time.monotonic() - begun, 1)
    shop.print(lost(n))  # they still have it
    shop.settle()
    woken = shop.quiet()[1:]
    verdict.equal("messages of the restart", len(woken), 0)
    verdict.complaints += [f"woken by {m.machine}: {m.status} {m.message}" for m in woken]
    shop.end(verdict, n)


# Budgets


def budgeted(shop: Fleet) -> None:
    """Configure a budget."""
    shop.rules = STATELESS
    shop.limits = f'rate = "{BUDGET}/1h", repeat_after = 0'
    shop.has_proxies = False


def budget(shop: Fleet, verdict: Verdict) -> None:
    """Let machines with `rate = "20/1h"` (f) fire more than that: they send 20 together."""
    shop.begin()
    machines = shop.machines
    each = max(2, 2 * BUDGET // len(machines) + 1)
    verdict.figures |= {"machines": len(machines), "lines": each * len(machines)}
    begun = time.monotonic()
    for number in range(each):
        for machine in machines:  # each line is another event
            machine.print(f"cannot take order of {_word(machine.name)}{_word(str(number))}")
    wait_until(lambda: len(shop.messages()) >= BUDGET, what="the budget's messages")
    verdict.figures["seconds to the last message"] = round(time.monotonic() - begun, 1)
    shop.settle()
    verdict.equal("messages", len(shop.quiet()), BUDGET)
    add_up(verdict, shop, each * len(machines))


def _word(text: str) -> str:
    """Write digits as letters: numbers make no difference between events."""
    return "".join(chr(ord("a") + int(c)) if c.isdigit() else c for c in text.replace("web-", "x"))
