"""Grouping: several firings of one alarm, delivered as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from alarm_mw.delivery.outbox.entries import Entry
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off


@dataclass(frozen=True, slots=True)
class Group:
    """Firings that one attempt delivers as one, and that share its outcome."""

    entries: tuple[Entry, ...]
    firing: Firing


def single(entry: Entry) -> Group:
    """Return a group of one firing."""
    return Group((entry,), entry.firing)


def grouped(entries: Sequence[Entry], group_by: Sequence[str]) -> list[Group]:
    """Return firings in groups that have all of `group_by` in common, in the order of their first firings."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(_fact(entry.firing, name) for name in group_by), []).append(entry)
    return [Group(tuple(group), combined([entry.firing for entry in group])) for group in groups.values()]


def _fact(firing: Firing, name: str) -> str:
    """Return a fact of a firing by its name: one of these, or a field of the record, empty if missing."""
    record = firing.record
    match name:
        case "fingerprint":
            with held_off():  # few alarms need it
                from alarm_mw.engine.flood_control.fingerprint import fingerprint_of  # noqa: PLC0415
            return fingerprint_of(firing)
        case "rule":
            return firing.rule
        case "message":
            return firing.text
        case "level":
            return str(record.level)
        case "logger" | "source":
            return str(getattr(record, name))
        case _:
            return record.fields.get(name, "")


def combined(firings: Sequence[Firing]) -> Firing:
    """Return one firing that represents all of them, which are in order.

    Its id is made of the first one and their number, so it stays the same after a restart if they do.
    """
    first, last = firings[0], firings[-1]
    if len(firings) == 1:
        return first
    count = sum(firing.count for firing in firings)
    since = [firing.held_since for firing in firings if firing.held_since is not None]
    return structs.replace(
        first,
        id=f"{first.id}+{len(firings) - 1}",
        message=_summary(first, last, count),
        held_back=sum(firing.held_back for firing in firings),
        held_since=min(since, default=None),
        count=count,
    )


def _summary(first: Firing, last: Firing, count: int) -> bytes:
    """Return the first line with the number of those after it, and the last line where it differs."""
    begin, end = (firing.message.removesuffix(b"\n").partition(b"\n")[0] for firing in (first, last))
    is_same = begin == end
    note = b" [%d more in %.1f s%s]" % (count - 1, max(last.time - first.time, 0.0), b"" if is_same else b", the last:")
    return begin + note + b"\n" + (b"" if is_same else end + b"\n")
