"""The table ``[drill]``: after how long an alarm that has delivered nothing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import ConfigError

ALARM = "alarms.a = 'log:'\n"


def seconds(directory: Path, text: str) -> float | None:
    """Return the time that a configuration names."""
    file = directory / "a.toml"
    file.write_text(ALARM + text)
    return load(Sources((str(file),)), {}).drill.seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ("[drill]", None), ("[drill]\nwarn_after = '30d'", 2_592_000.0), ("[drill]\nwarn_after = 90", 90.0)],
)
def test_the_time_is_a_number_or_a_text(tmp_path: Path, text: str, expected: float | None) -> None:
    """Without it, no alarm is named."""
    assert seconds(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[drill]\nwarn_after = 'soon'", "drill: warn_after: "),
        ("[drill]\nwarn_afterwards = '30d'", "unknown key 'warn_afterwards' (did you mean 'warn_after'?)"),
    ],
)
def test_mistakes_are_reported(tmp_path: Path, text: str, problem: str) -> None:
    """With their place."""
    with pytest.raises(ConfigError) as caught:
        seconds(tmp_path, text)
    assert problem in str(caught.value)
