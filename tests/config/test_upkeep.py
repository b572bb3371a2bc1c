"""How a master looks after itself, as TOML says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.settings import MetricsListener, Upkeep
from alarm_mw.config.sources import Sources


def sources(tmp_path: Path, *texts: str) -> Sources:
    files = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text)
        files.append(str(tmp_path / f"{number}.toml"))
    return Sources(tuple(files))


def test_of_several_files_the_last_that_says_something_counts(tmp_path: Path) -> None:
    """What only one file says stays, whatever stands in the others."""
    texts = ('reload = "auto"\nself_check = 5', 'self_check = 7\n[metrics]\nlisten = "[::1]:99"', "")
    found = sources(tmp_path, *texts)
    settings = examine(found, {}).settings
    assert settings.upkeep == Upkeep(reload="auto", self_check=7.0)
    assert settings.metrics == MetricsListener(listen="[::1]:99")


@pytest.mark.parametrize(
    "text",
    ['reload = "often"', "self_check = -1", 'metrics = "x"', '[metrics]\nlisten = "9464"', "[metrics]\nport = 1"],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str) -> None:
    """Each is refused, once."""
    problems = examine(sources(tmp_path, text), {}).problems
    assert [problem.where.file for problem in problems] == [str(tmp_path / "0.toml")]
