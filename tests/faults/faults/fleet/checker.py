"""Judges what a receiver has got against what has happened: which incidents there were, and which faults."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from faults.fleet.hook import Message

#: Seconds for which an incident has to last so that somebody is told for certain: two minutes for a message that waits
#: for a machine which is alive when Redis goes away, then for the next owner, and for a busy machine.
BOUND = 120.0

#: Seconds after the end of a fault in which it still explains a message that came twice.
AFTER = 20.0


@dataclass(slots=True)
class Incident:
    """What is wrong on some machines for some time, by its number. Times are seconds of the monotonic clock."""

    number: int
    machines: frozenset[str]
    #: When the first machine had it, and when the last one had it no more.
    began: float
    ended: float = float("inf")


@dataclass(slots=True)
class Fault:
    """What was done to whom, and when."""

    kind: str
    machines: frozenset[str]
    began: float
    ended: float = float("inf")

    def explains(self, first: float, last: float) -> bool:
        """Return whether a message may have come at both of these times because of it."""
        return self.began <= last and self.ended + AFTER >= first


@dataclass(slots=True)
class Report:
    """The counts, and what is not as it should be."""

    incidents: int = 0
    #: Those that lasted longer than `BOUND`.
    long: int = 0
    told: int = 0
    ended: int = 0
    messages: int = 0
    #: Messages that came again, by status; and of how many incidents.
    again: Counter[str] = field(default_factory=Counter)
    doubled: int = 0
    #: Those that came again with another id, because they began for machines that were alone in two minutes.
    neighbors: int = 0
    #: Kinds of faults that explain them.
    explained: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


def check(incidents: Sequence[Incident], messages: Iterable[Message], faults: Sequence[Fault]) -> Report:
    """Compare all messages that were taken with all incidents. Each incident has one beginning and one end."""
    report = Report(incidents=len(incidents))
    taken: dict[tuple[int, str], list[Message]] = defaultdict(list)
    messages = list(messages)
    # What a machine says that has never had the incident may lack its text.
    numbers = {message.incident: number for message in messages if (number := number_of(message)) is not None}
    for message in messages:
        number = numbers.get(message.incident)
        if number is not None and message.is_taken:
            report.messages += 1
            taken[number, message.status].append(message)
    for incident in incidents:
        firing, resolved = taken[incident.number, "firing"], taken[incident.number, "resolved"]
        _judge(report, incident, firing, resolved)
        pairs = ((firing, resolved), (resolved, firing))
        is_doubled = [_judge_again(report, incident, found, other, faults) for found, other in pairs]
        report.doubled += any(is_doubled)
    return report


def number_of(message: Message) -> int | None:
    """Return the number of the incident that a message is about."""
    words = [word for word in message.message.split() if word[:1] == "n" and word[1:].isdecimal()]
    return int(words[0][1:]) if words else None


def _judge(report: Report, incident: Incident, firing: list[Message], resolved: list[Message]) -> None:
    name, lasted = f"incident n{incident.number}", incident.ended - incident.began
    report.told += bool(firing)
    report.ended += bool(resolved)
    if lasted >= BOUND:
        report.long += 1
        if not firing:
            report.complaints.append(f"{name}: nobody was told, in {lasted:.0f} s on {_names(incident.machines)}")
    if firing and not resolved:
        report.complaints.append(f"{name}: nobody was told that it is over")
    if resolved and not firing:
        report.complaints.append(f"{name}: an end without a beginning, from {resolved[0].machine}")
    early = [m for m in firing if m.at < incident.began]
    if early:
        report.complaints.append(f"{name}: a message before it began")


def _judge_again(
    report: Report, incident: Incident, found: list[Message], other: list[Message], faults: Sequence[Fault]
) -> bool:
    """Count what came more than once, and look for its cause."""
    if len(found) < 2:
        return False
    first, last, status = found[0].at, found[-1].at, found[0].status
    report.again[status] += len(found) - 1
    for former, latter in pairwise(found):
        if former.id == latter.id or any(former.at < m.at < latter.at for m in other):
            continue  # or the incident was over between them, and has begun once more
        if _is_neighbor(former.id, latter.id):
            report.neighbors += 1
            continue
        who = " and ".join(f"{m.machine} {m.at - incident.began:.1f} s {m.id}" for m in (former, latter))
        report.complaints.append(f"incident n{incident.number}: {status} came with two ids: {who}")
    causes = {fault.kind for fault in faults if fault.explains(first, last)}
    report.explained.update(causes)
    if not causes:
        who = ", ".join(f"{m.machine} {m.at - incident.began:.1f} s" for m in found)
        report.complaints.append(f"incident n{incident.number}: {status} came {len(found)} times for no reason: {who}")
    return True


def _is_neighbor(former: str, latter: str) -> bool:
    """Return whether ids name the same message of episodes that began in two minutes, one after the other.

    Machines that cannot reach each other name an episode by the minute in which it began for them.
    """
    (one, first, end), (other, second, its_end) = (name.rsplit("-", 2) for name in (former, latter))
    return (one, end) == (other, its_end) and abs(int(first, 36) - int(second, 36)) == 1


def _names(machines: Iterable[str]) -> str:
    return ", ".join(sorted(machines))
