"""How a master looks after itself, as TOML says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.loaded import Loaded, read
from alarm_mw.config.sources import Sources
from alarm_mw.config.upkeep import MetricsListener, Upkeep, host_and_port


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


def test_addresses() -> None:
    """IPv6 stands in brackets; a name is an address, too."""
    assert host_and_port("localhost:9464") == ("localhost", 9464)
    assert host_and_port("[::]:1") == ("::", 1)
    with pytest.raises(ValueError, match="expected 'host:port'"):
        host_and_port("localhost:70000")


def test_a_configuration_knows_its_files(tmp_path: Path) -> None:
    """Every file that was read is watched, those that are included as well; a changed or missing one is told."""
    ini, part = tmp_path / "a.ini", tmp_path / "part.ini"
    ini.write_text(f"[uwsgi]\ninclude = {part}\n")
    part.write_text("[uwsgi]\nalarm = a log:\n")
    examined, loaded = read(Sources(ini_files=(str(ini),)), {}, 5.0)
    assert not examined.problems
    assert set(loaded.files) == {str(ini), str(part)}
    assert loaded.changed_files() == []
    part.write_text("[uwsgi]\nalarm = b log:\n")
    ini.unlink()
    assert loaded.changed_files() == [str(ini), str(part)]


def test_a_configuration_is_handed_on_whole(tmp_path: Path) -> None:
    """What the next master gets is what this one had; a plan of settings alone is enough."""
    _, loaded = read(sources(tmp_path, 'alarms = {a = "log:"}'), {}, 5.0, 3)
    retired = Loaded(loaded.settings, loaded.settings.alarms, loaded.sources, loaded.files, 3, 5.0)
    assert Loaded.from_json(retired.to_json()) == retired
    assert Loaded.from_json({"settings": loaded.to_json()["settings"]}) == Loaded(loaded.settings)


def test_what_is_no_file_has_no_fingerprint() -> None:
    """A name that cannot be one is as good as missing."""
    loaded = Loaded(examine(Sources(), {}).settings, files={"\0": ""})
    assert loaded.changed_files() == []
