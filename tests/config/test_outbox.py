"""The table `[outbox]`."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import from_json, load, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.delivery.outbox.stock import MIB, ON_DISK, Amount, OutboxOptions, State
from alarm_mw.model.errors import ConfigError


def read(tmp_path: Path, *texts: str) -> OutboxOptions:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(text)
    settings = load(Sources(tuple(map(str, files))), {})
    assert from_json(to_json(settings)).outbox == settings.outbox
    return settings.outbox


def test_each_bound_can_be_said(tmp_path: Path) -> None:
    """Numbers and sizes are those of the table, the last one of several; what is not said stays."""
    options = read(
        tmp_path,
        "[outbox]\nwaiting = 7\n",
        "[outbox]\nwaiting = 5\ndead_mib = 2\nhistory = 3\nhistory_mib = 1\nhistory_days = 0.5\n",
        "alarm_freq = 1\n",
    )
    bounds = options.bounds(ON_DISK)
    assert bounds[State.WAITING] == Amount(5, ON_DISK[State.WAITING].size)
    assert bounds[State.DEAD] == Amount(ON_DISK[State.DEAD].count, 2 * MIB)
    assert {bounds[state] for state in (State.DELIVERED, State.DROPPED, State.HANDED_OVER)} == {Amount(3, MIB)}
    assert read(tmp_path, "").bounds(ON_DISK) == ON_DISK


@pytest.mark.parametrize(
    ("key", "value"), [("waiting", "0"), ("history_days", "0"), ("dead", '"many"'), ("waitin", "1")]
)
def test_mistakes_are_told(tmp_path: Path, key: str, value: str) -> None:
    """No room at all, another kind of value, and an unknown key are refused."""
    with pytest.raises(ConfigError, match=f"outbox: .*{key}"):
        read(tmp_path, f"[outbox]\n{key} = {value}\n")


def test_it_is_a_table(tmp_path: Path) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigError, match="outbox: expected a table"):
        read(tmp_path, "outbox = 7\n")
