"""The key `own_alarms`."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import ConfigError


@pytest.mark.parametrize(("value", "names"), [('"a"', ("a",)), ('["b", "a"]', ("b", "a")), ("[]", ())])
def test_a_name_or_names(tmp_path: Path, value: str, names: tuple[str, ...]) -> None:
    """Whoever is to be told is named once or in an array; nobody need be."""
    file = tmp_path / "a.toml"
    file.write_text(f'own_alarms = {value}\n[alarms]\na = "log:"\nb = "log:"\n')
    assert load(Sources((str(file),)), {}).own_alarms == names


def test_a_name_must_be_that_of_an_alarm(tmp_path: Path) -> None:
    """Names without an alarm are told with their place, as is what is no name."""
    file = tmp_path / "a.toml"
    file.write_text('own_alarms = ["mial", 7]\n[alarms]\nmail = "log:"\n')
    with pytest.raises(ConfigError) as caught:
        load(Sources((str(file),)), {})
    assert [problem.text for problem in caught.value.problems] == [
        "own_alarms: expected a name, got an integer",
        "unknown alarm 'mial' (did you mean 'mail'?)",
    ]


def test_it_is_a_name_or_an_array(tmp_path: Path) -> None:
    """Anything else is refused."""
    file = tmp_path / "a.toml"
    file.write_text("own_alarms = 7\n")
    with pytest.raises(ConfigError, match="own_alarms: expected a name or an array of names, got an integer"):
        load(Sources((str(file),)), {})
