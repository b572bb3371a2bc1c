"""How commands and mules run, and which mules: uWSGI's options and TOML's tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from alarm_mw import actions
from alarm_mw.actions.mule import MuleOptions
from alarm_mw.config.load import examine
from alarm_mw.config.processes import refuse_mules
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Execution

ReadIni = Callable[..., Examined]


@pytest.fixture
def read_ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReadIni:
    """Return a function that reads keys of the section ``[uwsgi]``, with the actions that ship."""
    monkeypatch.chdir(tmp_path)

    def read(keys: str, *flags: tuple[str, str]) -> Examined:
        Path("a.ini").write_text(f"[uwsgi]\n{keys}\n")
        return examine(Sources(ini_files=("a.ini",), flags=flags), {"HOME": "/root"})

    return read


def limits(settings: Settings) -> dict[str, tuple[float, float | None, float | None]]:
    """Return the time limits by alarm: of an attempt, and the action's own."""
    return {
        alarm.name: (
            alarm.delivery.attempt_timeout,
            getattr(alarm.options, "timeout", None),
            getattr(alarm.options, "conn_timeout", None),
        )
        for alarm in settings.alarms
    }


def test_a_command_has_no_time_limit(read_ini: ReadIni) -> None:
    """An alarm from an ini file or a flag waits for its command for as long as it runs, as uWSGI does."""
    found = read_ini("alarm = a cmd:x", ("alarm", "b cmd:x")).settings
    assert limits(found) == {"a": (0, None, None), "b": (0, None, None)}


def test_a_command_in_toml_has_a_time_limit(tmp_path: Path) -> None:
    """In TOML, `attempt_timeout` is its time limit."""
    (tmp_path / "a.toml").write_text('[alarms]\na = "cmd:x"\n')
    assert limits(examine(Sources((str(tmp_path / "a.toml"),)), {}).settings) == {"a": (30, None, None)}


def test_socket_timeout_is_the_time_limit_of_requests(read_ini: ReadIni) -> None:
    """It is the default of `timeout` and `conn_timeout`, wherever it stands, and the attempt is given that time."""
    found = read_ini(
        "alarm = a curl:http://x/\nsocket-timeout = 9\nalarm = b curl:http://x/;timeout=2\n"
        "alarm = c curl:http://x/;conn_timeout=1\nsocket_timeout = 40\nalarm = d airbrake:http://x/;apikey=k",
        ("alarm", "e curl:http://x/"),
    )
    assert found.problems == ()
    assert "socket" not in "".join(map(str, found.warnings))
    assert limits(found.settings) == {
        "a": (45, 40, 40),
        "b": (30, 2, 40),
        "c": (45, 40, 1),
        "d": (45, 40, 40),
        "e": (45, 40, 40),
    }


def test_requests_without_a_time_limit(read_ini: ReadIni) -> None:
    """0 is none, for the attempt as well."""
    assert limits(read_ini("alarm = a curl:http://x/\nsocket-timeout = 0").settings) == {"a": (0, 0, 0)}


def test_requests_have_uwsgis_time_limit_by_default(read_ini: ReadIni) -> None:
    """Where nothing is said, that is 4 seconds; an attempt may take as long as in TOML."""
    assert limits(read_ini("alarm = a curl:http://x/").settings) == {"a": (30, 4, 4)}


def test_as_whom_and_where_commands_run(read_ini: ReadIni, tmp_path: Path) -> None:
    """The last value counts, of variables each by its name; a variable without a value is removed."""
    (tmp_path / "b").mkdir()
    found = read_ini(
        "alarm = a log:\nuid = 65534\nuid = root\ngid = 0\nchdir = /\nchdir = b\numask = 022\numask = 027\n"
        "env = X=1\nenv = Y=a=b c\nenv = X=2\nenv = HOME\nunenv = Z\nenv = Z=3\nunenv = Y"
    )
    assert found.problems == ()
    assert found.settings.execution == Execution(
        uid="root", gid="0", chdir=str(tmp_path / "b"), umask="027", env={"X": "2", "Z": "3"}, unenv=("Y", "HOME")
    )


def test_a_configuration_that_says_nothing_of_it_changes_nothing(read_ini: ReadIni) -> None:
    """Commands are as the master is."""
    assert read_ini("alarm = a log:").settings.execution == Execution()


def test_variables_are_not_those_of_the_configuration(read_ini: ReadIni) -> None:
    """As in uWSGI, `env` is for processes: neither ``$(…)`` nor `if-env` knows it."""
    found = read_ini("alarm = a log:\nenv = X=1\nenv = Y=$(X)\nif-env = X\nenv = SEEN=1\nendif =")
    assert found.settings.execution.env == {"X": "1", "Y": "$(X)"}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("uid = nosuchuser", "uid: there is no 'nosuchuser' on this system"),
        ("gid = nosuchgroup", "gid: there is no 'nosuchgroup' on this system"),
        ("chdir = /no/such", "chdir: there is no directory '/no/such'"),
        ("umask = 9", "umask: expected an octal number such as 027, got '9'"),
        ("socket-timeout = long", "socket-timeout: expected a whole number of seconds, got 'long'"),
    ],
)
def test_what_no_process_can_be_is_refused(read_ini: ReadIni, keys: str, text: str) -> None:
    """It is reported at the start with its line, as in uWSGI; an alarm would be too late."""
    assert [*map(str, read_ini(f"alarm = a log:\n{keys}").problems)] == [f"a.ini:3: {text}"]


def test_only_root_can_become_somebody_else(read_ini: ReadIni, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are told that `uid` and `gid` are ignored, which uWSGI does without a word."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = read_ini("alarm = a log:\nuid = 65534\ngid = 65534")
    assert found.problems == ()
    ignored = "only root can change it, so commands and mules run as this user"
    assert [*map(str, found.warnings)] == [f"a.ini:3: uid: {ignored}", f"a.ini:4: gid: {ignored}"]
    assert [warning.where.line for warning in read_ini("alarm = a log:\ngid = 65534").warnings] == [3]
    options = found.settings.execution.popen_options()
    assert (options["user"], options["group"], options["extra_groups"]) == (None, None, None)


def test_the_same_in_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table ``[execution]`` has uWSGI's keys; what is wrong and what is ignored has its line."""
    file = tmp_path / "a.toml"
    file.write_text(
        'alarms.a = "log:"\n[execution]\nuid = "0"\ngid = "root"\nchdir = "/"\numask = "077"\n'
        'env = { A = "b" }\nunenv = ["C"]\n'
    )
    found = examine(Sources((str(file),)), {})
    assert (found.problems, found.warnings) == ((), ())
    assert found.settings.execution == Execution(
        uid="0", gid="root", chdir="/", umask="077", env={"A": "b"}, unenv=("C",)
    )
    file.write_text('alarms.a = "log:"\n[execution]\nuid = "nosuch"\ngid = "0"\numask = "9"\n')
    (problem,) = examine(Sources((str(file),)), {}).problems
    assert str(problem).startswith(f"{file}:5: execution: umask: ")
    file.write_text('alarms.a = "log:"\n[execution]\nuid = "nosuch"\ngid = "0"\n')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = examine(Sources((str(file),)), {})
    assert [*map(str, found.problems)] == [f"{file}:3: execution: uid: there is no 'nosuch' on this system"]
    assert [warning.where.line for warning in found.warnings] == [3, 4]


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
