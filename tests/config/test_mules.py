"""Mules in a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alarm_mw import actions
from alarm_mw.actions.mule import MuleOptions
from alarm_mw.config.load import examine
from alarm_mw.config.mules import refuse_mules
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import OptionError

#: Reads what is given as `toml`, `ini` and `flags`, without the actions that ship.
Examine = Callable[..., Examined]


def texts(found: Examined) -> list[str]:
    return [str(each) for each in (*found.problems, *found.warnings)]


def test_mules_stand_in_the_order_toml_ini_flags(examined: Examine, tmp_path: Path) -> None:
    """Their numbers are their places in it, from 1."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    found = examined(
        toml='mules = ["a.py", "shop.mule"]\n',
        ini="[uwsgi]\nmule = b.py\nmule = shop.mule:run\n",
        flags=(("mule", "last"),),
    )
    assert found.settings.mules == ("a.py", "shop.mule", "b.py", "shop.mule:run", "last")
    assert texts(found) == []


def test_mules_without_a_program_are_told(examined: Examine) -> None:
    """`mule = true` and `mules = 2` keep their numbers, and a warning says that they have nothing to do."""
    found = examined(ini="[uwsgi]\nmule = true\nmules = 2\nmules = 0\n")
    assert found.settings.mules == ("", "", "")
    assert [warning.where.line for warning in found.warnings] == [2, 3]
    assert "name a file or a module" in texts(found)[0]


def test_a_file_that_is_not_there_is_a_warning(examined: Examine) -> None:
    """It may still come, and a running master must not end because it went."""
    found = examined(toml='mules = ["gone.py"]\n', ini="[uwsgi]\nmule = other.py\n")
    assert texts(found) == [
        "a.toml:1: there is no file 'gone.py' yet, which is to run as a mule",
        "a.ini:2: there is no file 'other.py' yet, which is to run as a mule",
    ]


@pytest.mark.parametrize(
    "written",
    [
        {"ini": "[uwsgi]\nmule = a.py\nchdir = yard\n"},
        {"toml": 'mules = ["a.py"]\n[execution]\nchdir = "yard"\n'},
    ],
)
def test_a_file_is_looked_for_where_mules_run(examined: Examine, tmp_path: Path, written: dict[str, str]) -> None:
    """That is the directory of `chdir`."""
    (tmp_path / "yard").mkdir()
    assert "there is no file 'a.py' yet" in texts(examined(**written))[0]
    (tmp_path / "yard" / "a.py").touch()
    assert texts(examined(**written)) == []


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ({"ini": "[uwsgi]\nmules = many\n"}, "a.ini:2: mules: expected a number of mules, 0 to 1000, got 'many'"),
        ({"ini": "[uwsgi]\nmules = 1001\n"}, "a.ini:2: mules: expected a number of mules, 0 to 1000, got '1001'"),
        (
            {"ini": f"[uwsgi]\nmules = {'9' * 5000}\n"},
            f"a.ini:2: mules: expected a number of mules, 0 to 1000, got '{'9' * 5000}'",
        ),
        ({"toml": "mules = 2\n"}, "a.toml:1: mules: expected an array of files or modules, got an integer"),
        ({"toml": "mules = [2]\n"}, "a.toml:1: mules: expected a file or a module, got an integer"),
        ({"toml": 'mules = ["${NONE}"]\n'}, "a.toml:1: mules: 0: the environment variable NONE is not set"),
    ],
)
def test_mistakes_are_told(examined: Examine, written: dict[str, str], text: str) -> None:
    """What is no program is a mistake with its place."""
    assert texts(examined(**written)) == [text]


def settings_of(*flags: tuple[str, str]) -> Examined:
    return examine(Sources(flags=flags), {}, find_action=actions.find)


def test_a_mule_alarm_needs_a_mule() -> None:
    """Where uWSGI drops its messages in silence, this is a mistake that says what to add."""
    found = settings_of(("alarm", "m mule:1"))
    assert texts(found)[0].startswith("--alarm (1st): alarm 'm' needs a mule, and none is configured: expected --mule")


def test_a_number_too_high_falls_back_to_any() -> None:
    """With a message, as in uWSGI."""
    found = settings_of(("alarm", "m mule:3"), ("alarm", "n mule:2"), ("alarm", "l log:"), ("mule", "a"), ("mule", "b"))
    assert [alarm.options for alarm in found.settings.alarms][:2] == [MuleOptions(mule=0), MuleOptions(mule=2)]
    assert texts(found) == [
        "--alarm (1st): alarm 'm': invalid mule number 3 (2 mules available), fallback to 0, which is any mule"
    ]


def test_a_program_without_a_master_has_no_mules() -> None:
    """There an alarm for mules is refused at the start, and no other."""
    found = settings_of(("alarm", "l log:"), ("alarm", "m mule:"), ("mule", "a"))
    refuse_mules(Settings())
    refuse_mules(Settings(alarms=found.settings.alarms[:1]))
    with pytest.raises(OptionError, match=r"alarm 'm' needs a mule.*alarm-mw run --mule FILE"):
        refuse_mules(found.settings)
