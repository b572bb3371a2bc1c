"""Names of alarms in a table: what a rule or a monitor fires, and whom else something is told."""

from __future__ import annotations

from alarm_mw.config.tables.tree import Table, kind_of


def alarm_names(table: Table, owner: str) -> tuple[str, ...]:
    """Return the names in ``alarms = "one"`` or ``alarms = ["one", "two"]``; empty names are skipped.

    `owner` is what must have one: ``rule``, ``monitor``.
    """
    good, is_wrong = _read(table, "alarms")
    if not good and not is_wrong and not table.is_broken("alarms"):
        table.wrong(f'the {owner} names no alarm, expected alarms = ["…"]', "alarms")
    return good


def optional_names(table: Table, key: str) -> tuple[str, ...]:
    """Return the names under `key`, written the same way; none where there is no such key."""
    return _read(table, key)[0]


def _read(table: Table, key: str) -> tuple[tuple[str, ...], bool]:
    """Return the names, and whether something else stands there, which is told then."""
    value = table.values.get(key)
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple | None):
        table.wrong(f"{key}: expected a name or an array of names, got {kind_of(value)}", key)
        return (), True
    wrong = {index: name for index, name in enumerate(names or ()) if not isinstance(name, str)}
    for index, name in wrong.items():
        table.wrong(f"{key}: expected a name, got {kind_of(name)}", key, index)
    return tuple(name for name in names or () if isinstance(name, str) and name), bool(wrong)
