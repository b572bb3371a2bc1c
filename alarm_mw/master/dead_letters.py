"""Dead letters of a running master: what ``alarm-mw dead`` asks for over the control socket."""

from __future__ import annotations

import sqlite3

import msgspec

from alarm_mw.delivery.dead_letters import Answer, DeadLetters, Order
from alarm_mw.master.runtime import Runtime


def carry_out(runtime: Runtime, order: bytes) -> bytes:
    """Return the JSON of an `Answer` to that of an `Order`; what is put back is delivered at once.

    May block for the time of disk reads and writes; from any thread.
    """
    return msgspec.json.encode(_answer(runtime, order))


def _answer(runtime: Runtime, order: bytes) -> Answer:
    names = runtime.lanes.names()
    try:
        answer = DeadLetters(runtime.outbox, names, is_running=True).carry_out(msgspec.json.decode(order, type=Order))
    except msgspec.DecodeError as error:
        return Answer(refused=(f"the master does not understand the command: {error}",))
    except sqlite3.Error as error:
        return Answer(refused=(f"the outbox cannot be used: {error}",))
    runtime.lanes.wake(names)
    return answer
