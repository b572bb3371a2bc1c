"""The key ``alarms`` of a rule or a monitor: the names of what it fires."""

from __future__ import annotations

from alarm_mw.config.tree import Table, kind_of


def alarm_names(table: Table, owner: str) -> tuple[str, ...]:
    """Return the names in ``alarms = "one"`` or ``alarms = ["one", "two"]``; empty names are skipped.

    `owner` is what must have one: ``rule``, ``monitor``.
    """
    value = table.values.get("alarms")
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple | None):
        table.wrong(f"alarms: expected a name or an array of names, got {kind_of(value)}", "alarms")
        return ()
    good = tuple(name for name in names or () if isinstance(name, str) and name)
    wrong = {index: name for index, name in enumerate(names or ()) if not isinstance(name, str)}
    for index, name in wrong.items():
        table.wrong(f"alarms: expected a name, got {kind_of(name)}", "alarms", index)
    if not good and not wrong and not table.is_broken("alarms"):
        place = ["alarms"] if value is not None else []
        table.wrong(f'the {owner} names no alarm, expected alarms = ["…"]', *place)
    return good
