"""Dead letters of a running master: what ``alarm-mw dead`` asks for over the control socket."""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec import structs

from alarm_mw.delivery.dead_letters import Answer, DeadLetters, Order
from alarm_mw.master.runtime.runtime import Runtime


def carry_out(runtime: Runtime, order: bytes) -> bytes:
    """Return the JSON of an `Answer` to that of an `Order`; what is put back, and what waits, is tried at once.

    May block for the time of disk reads and writes; from any thread.
    """
    return msgspec.json.encode(_answer(runtime, order))


def _answer(runtime: Runtime, text: bytes) -> Answer:
    names = runtime.dispatcher.names()
    try:
        order = msgspec.json.decode(text, type=Order)
        retried_now = _retried_now(runtime, order) if order.verb == "retry" else 0
        answer = DeadLetters(runtime.outbox, names, is_running=True).carry_out(order)
    except msgspec.DecodeError as error:
        return Answer(refused=(f"the master does not understand the command: {error}",))
    except sqlite3.Error as error:
        return Answer(refused=(f"the outbox cannot be used: {error}",))
    runtime.dispatcher.wake(names)
    return structs.replace(answer, retried_now=retried_now)


def _retried_now(runtime: Runtime, order: Order) -> int:
    """Try what waits for the alarms of an order now, and return how many firings that is."""
    alarms = runtime.dispatcher.names() & _meant(runtime, order)
    runtime.dispatcher.retry_now(alarms)
    waiting = runtime.outbox.count_waiting()
    return sum(waiting.get(alarm, 0) for alarm in alarms)


def _meant(runtime: Runtime, order: Order) -> set[str]:
    if order.to:
        return {order.to}
    if order.ids:
        found = DeadLetters(runtime.outbox, is_running=True).carry_out(structs.replace(order, verb="list"))
        return {letter.alarm for letter in found.letters}
    return {*order.alarms} or runtime.dispatcher.names()
