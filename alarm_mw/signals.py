"""Blinker signals: a program can listen to what becomes of its alarms.

Every signal is sent by the process that runs the rules (the master, or this process after `alarm_mw.init()`), in the
thread that does the work: a receiver should return soon. What a receiver raises is logged and goes no further. The
sender is the alarm's name::

    from alarm_mw import signals

    @signals.delivered.connect_via("jabber")
    def note(sender, firing): ...
"""

from __future__ import annotations

import logging

import blinker

log = logging.getLogger(__name__)

#: A rule fired an alarm, and the outbox took the firing. Keyword: ``firing``.
fired = blinker.Signal()
#: The action delivered it. Keyword: ``firing``.
delivered = blinker.Signal()
#: An attempt to deliver failed. Keywords: ``firing``, ``error`` (an `ActionError`), ``dead`` (no more attempts).
failed = blinker.Signal()
#: A rule matched, but the alarm was not fired. Keywords: ``record``, ``reason`` (a `Reason`).
held_back = blinker.Signal()


_uwsgi: dict[int, blinker.Signal] = {}


def uwsgi(number: int) -> blinker.Signal:
    """Return the blinker signal that an alarm ``signal:NUMBER`` sends. Keywords: ``number``, ``firing``.

    Like the others it is sent in the process that runs the rules. For handlers in workers and mules, see
    `alarm_mw.on_signal`.
    """
    return _uwsgi.setdefault(number, blinker.Signal())


def send(signal: blinker.Signal, alarm: str, **facts: object) -> None:
    """Call every receiver; log what they raise."""
    for receiver in signal.receivers_for(alarm):
        try:
            receiver(alarm, **facts)
        except Exception:  # a receiver is foreign code: nothing that it raises may stop a delivery
            log.exception("exception in a receiver of a signal of alarms")
