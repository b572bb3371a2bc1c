"""Which processes have asked for which signals, and who of them gets one: uWSGI's targets. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alarm_mw.transports.subscription import Register


@dataclass(slots=True, eq=False)
class Member:
    """A process that has handlers."""

    pid: int
    #: The mule's number, 0 for a worker.
    mule: int
    signals: frozenset[tuple[int, str]]
    #: The worker's number, from 1; a killed one's goes to the next that registers. 0 for what is no worker.
    worker: int = 0
    #: How many signals it has been given whose handlers have not returned.
    unfinished: int = 0


class SignalTable:
    """The processes, in the order in which they registered."""

    def __init__(self) -> None:
        self._members: list[Member] = []

    def join(self, said: Register, pid: int, server: int | None) -> Member:
        """Add a process. `server` is the pid of the server's first process, which may be the parent of workers."""
        is_worker = said.mule == 0 and pid != server
        member = Member(pid, said.mule, said.signals, self._free_number() if is_worker else 0)
        self._members.append(member)
        return member

    def leave(self, member: Member) -> None:
        """Take a process out."""
        self._members.remove(member)

    def targets(self, number: int) -> list[str]:
        """Return the targets with which the signal was asked for by those who can be meant, each once."""
        wanted = (target for member in self._members for of, target in sorted(member.signals) if of == number)
        return [target for target in dict.fromkeys(wanted) if self.addressees(number, target)]

    def addressees(self, number: int, target: str) -> list[Member]:
        """Return who is to run the handlers for the signal that were registered with this target."""
        kind, which = ("mule", target[4:]) if target.startswith("mule") else ("worker", target[6:])
        group = _one_each(self._mules()) if kind == "mule" else self._workers()
        asked = {n: member for n, member in group.items() if (number, target) in member.signals}
        if which == "s":
            return [*asked.values()]
        if which:
            return [asked[int(which)]] if int(which) in asked else []
        return _least_busy([*asked.values()])

    def _free_number(self) -> int:
        taken = {member.worker for member in self._members}
        return next(n for n in itertools.count(1) if n not in taken)

    def _mules(self) -> Iterable[tuple[int, Member]]:
        return ((member.mule, member) for member in self._members if member.mule)

    def _workers(self) -> dict[int, Member]:
        """Return the workers by their numbers. The server's first process is one only where it has no workers."""
        workers = {member.worker: member for member in self._members if member.worker}
        first = [member for member in self._members if not member.mule and not member.worker]
        return workers or dict(enumerate(first[:1], 1))


def _one_each(mules: Iterable[tuple[int, Member]]) -> dict[int, Member]:
    """Return the mules by their numbers: of a mule and the children that it forked, the one that registered first."""
    found: dict[int, Member] = {}
    for number, member in mules:
        found.setdefault(number, member)
    return dict(sorted(found.items()))


def _least_busy(members: Sequence[Member]) -> list[Member]:
    return [min(members, key=lambda member: member.unfinished)] if members else []
