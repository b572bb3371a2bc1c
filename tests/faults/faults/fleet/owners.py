"""Machines that die, stop or reach no receiver while they have a message to send for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from faults.fleet.fleets import Fleet, lost
from faults.fleet.hook import HOLD, REFUSE, TAKE, Message
from faults.fleet.machines import Machine
from faults.fleet.verdict import Verdict
from faults.ground import wait_until

#: Seconds in which another machine has taken over.
TAKEOVER = 20.0

#: The same, on a machine with more to do than it can.
PATIENCE = 60.0


def killed(shop: Fleet, verdict: Verdict) -> None:
    """Kill the owner (b) while it sends: another machine sends within 20 seconds, with the same id."""
    _interrupted(shop, verdict, Machine.kill, most=1)


def stopped(shop: Fleet, verdict: Verdict) -> None:
    """Stop the owner while it sends: another machine sends within 20 seconds, with the same id."""
    _interrupted(shop, verdict, Machine.pause, most=2)


def master_killed(shop: Fleet, verdict: Verdict) -> None:
    """Kill the owner's master while it sends: its next master or another machine sends, with the same id."""
    _interrupted(shop, verdict, Machine.kill_master, most=1)


def _interrupted(shop: Fleet, verdict: Verdict, end: Callable[[Machine], None], most: int) -> None:
    """Hold the answer to the first message, and do something to who has sent it."""
    n = shop.begin()
    lock, seen = threading.Lock(), list[str]()

    def behavior(message: Message) -> str:
        with lock:
            seen.append(message.id)
            return HOLD if len(seen) == 1 else TAKE

    shop.hook.behavior = behavior
    shop.print(lost(n))
    first = shop.wait_for(n)[0]
    (owner,) = [machine for machine in shop.machines if machine.name == first.machine]
    begun = time.monotonic()
    end(owner)
    second = shop.wait_for(n, n=2, timeout=PATIENCE)[1]
    verdict.at_most("seconds to the message again", round(second.at - begun, 1), TAKEOVER)
    shop.hook.release()
    owner.resume()
    if not owner.is_running():
        owner.start()
    owner.ready()
    shop.wait_until_shared(shop.machines)
    shop.settle()
    shop.quiet()
    firing = shop.about(n)
    verdict.figures["firing, with the one that was held"] = len(firing)
    verdict.one_id("firing", firing)
    verdict.at_most("firing that were taken", sum(m.is_taken for m in firing), most)
    shop.end(verdict, n)


def refused(shop: Fleet, verdict: Verdict) -> None:
    """Let a machine fail to reach the receiver: after half a minute it leaves its message to the others."""
    n, unlucky = shop.begin(), list[str]()

    def behavior(message: Message) -> str:
        if not unlucky:
            unlucky.append(message.machine)
        return REFUSE if message.machine in unlucky else TAKE

    shop.hook.behavior = behavior
    begun = time.monotonic()
    shop.print(lost(n))
    wait_until(lambda: any(m.is_taken for m in shop.about(n)), what="a message that is taken")
    (taken,) = [m for m in shop.about(n) if m.is_taken]
    verdict.figures["seconds to the message"] = round(taken.at - begun, 1)
    shop.settle()
    shop.quiet()
    firing = shop.about(n)
    verdict.figures["attempts that were refused"] = sum(not m.is_taken for m in firing)
    verdict.one_id("firing", firing)
    verdict.equal("firing that were taken", sum(m.is_taken for m in firing), 1)
    shop.hook.release()
    shop.end(verdict, n)
