"""Which signals are passed on, and how they stood before the supervisor took them over."""

from __future__ import annotations

import signal
from collections.abc import Collection
from typing import NamedTuple

from alarm_mw.system.linux import Arrived

#: They stop a job, so that the shell which waits for the supervisor must see it stopped.
STOPPING = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
#: They ask for an end. (SIGHUP may as well ask for a new configuration.)
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
#: A terminal that hangs up sends these to the leader of its session, and to no other process of the job.
TO_LEADER = frozenset({signal.SIGHUP, signal.SIGCONT})

# Python ignores these in every process it runs in and does not report what it found, so that an interpreter
# (the command line's, before this one) cannot hand them down. `subprocess` restores them in the same way.
_TAKEN_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Inherited(NamedTuple):
    """How signals stood on entry, for the children to start with."""

    mask: Collection[int]
    ignores_children: bool


def is_sent_to_us_alone(arrived: Arrived, *, leads_session: bool) -> bool:
    """Return whether the server has not seen this signal itself.

    What a terminal sends (^C, ^Z, a new window size) comes from the kernel and reaches the whole job.
    """
    return arrived.code <= 0 or (leads_session and arrived.number in TO_LEADER)


def take_over() -> Inherited:
    """Block every signal, so that a signalfd gets them; return how they stood."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    # Ignoring SIGCHLD would have the kernel throw away how the server ended.
    was = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return Inherited(sorted(mask), ignores_children=was == signal.SIG_IGN)


def give_back(inherited: Inherited, *, deaf_to: frozenset[signal.Signals] = frozenset()) -> None:
    """Let signals stand as on entry, in a child that is about to exec; those of `deaf_to` stay ignored there."""
    for number in _TAKEN_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if inherited.ignores_children:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in deaf_to:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, inherited.mask)


def stop_as(number: int) -> None:
    """Stop this process as `number` does by default; return when it was continued.

    Not by SIGSTOP: the kernel ignores a ^Z in a job that no shell could continue, as it does for the server.
    """
    signal.raise_signal(number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
