"""Grouping: several firings of one alarm, delivered as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from alarm_mw.delivery.outbox.outbox import Entry
from alarm_mw.model.types import Firing


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one attempt is to deliver, and what it settles."""

    entries: tuple[Entry, ...]
    firing: Firing


def single(entry: Entry) -> Parcel:
    """Return a firing by itself."""
    return Parcel((entry,), entry.firing)


def grouped(entries: Sequence[Entry], group_by: Sequence[str]) -> list[Parcel]:
    """Return a parcel for each group of firings that have all of `group_by` in common, in the order of their firsts."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(_fact(entry.firing, name) for name in group_by), []).append(entry)
    return [Parcel(tuple(group), combined([entry.firing for entry in group])) for group in groups.values()]


def _fact(firing: Firing, name: str) -> str:
    """Return a fact of a firing by its name; where it is none of these, a field of the record, empty if missing."""
    record = firing.record
    match name:
        case "rule":
            return firing.rule
        case "message":
            return firing.text
        case "logger":
            return record.logger
        case "level":
            return str(record.level)
        case "source":
            return record.source
        case _:
            return record.fields.get(name, "")


def combined(firings: Sequence[Firing]) -> Firing:
    """Return one firing that stands for all of them, which are in order.

    Its id tells the first and how many they are, and so is the same after a restart as long as they are the same.
    """
    first, last = firings[0], firings[-1]
    if len(firings) == 1:
        return first
    count = sum(firing.count for firing in firings)
    since = [firing.held_since for firing in firings if firing.held_since is not None]
    return structs.replace(
        first,
        id=f"{first.id}+{len(firings) - 1}",
        message=_told(first, last, count),
        held_back=sum(firing.held_back for firing in firings),
        held_since=min(since, default=None),
        count=count,
    )


def _told(first: Firing, last: Firing, count: int) -> bytes:
    """Return the first line with how many came after it, and the last line where it is another one."""
    begin, end = (firing.message.removesuffix(b"\n").partition(b"\n")[0] for firing in (first, last))
    is_same = begin == end
    note = b" [%d more in %.1f s%s]" % (count - 1, max(last.time - first.time, 0.0), b"" if is_same else b", the last:")
    return begin + note + b"\n" + (b"" if is_same else end + b"\n")
