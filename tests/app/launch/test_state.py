"""State directories, each for one running server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alarm_mw.app.launch.state import StateDir, count_waiting, own_state_dir, state_home, stopped_dirs
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Firing, Record

SERVER = ("/usr/bin/gunicorn", "app:app")

Own = Callable[..., StateDir]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    """Give `own_state_dir` below the test's own folder; the servers run until the test ends."""
    claimed: list[StateDir] = []

    def claim(command: tuple[str, ...] = SERVER) -> StateDir:
        claimed.append(own_state_dir(command, {"XDG_STATE_HOME": str(tmp_path)}))
        return claimed[-1]

    yield claim
    for state in claimed:
        os.close(state.lock)


def test_a_server_finds_its_state_again(own: Own, tmp_path: Path) -> None:
    """The same command in the same directory has the same state, another command another one."""
    first = own_state_dir(SERVER, {"XDG_STATE_HOME": str(tmp_path)})
    os.close(first.lock)
    assert own().path == first.path
    assert first.path.name.startswith("gunicorn-")
    assert own(("/usr/bin/gunicorn", "other:app")).path.name.rpartition("-")[0] == "gunicorn"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("/venv/bin/python3", "/venv/bin/gunicorn", "app:app"), "gunicorn"),
        (("python", "-u", "-m", "uvicorn", "app:app"), "uvicorn"),
        (("python", "-c", "print()"), "python"),
        (("python",), "python"),
    ],
)
def test_a_state_is_named_after_the_server(own: Own, command: tuple[str, ...], name: str) -> None:
    """Where Python is what is executed, the name is that of the program it runs."""
    assert own(command).path.name.rpartition("-")[0] == name


def test_servers_that_start_at_once_share_no_state(own: Own) -> None:
    """Each of several gets a directory of its own, whose name is the first one's with a number."""
    with ThreadPoolExecutor(8) as executor:
        names = sorted(state.path.name for state in executor.map(lambda _: own(), range(8)))
    assert names == [names[0], *(f"{names[0]}-{n}" for n in range(2, 9))]


def test_a_directory_is_claimed_once(tmp_path: Path) -> None:
    """Nobody else gets it until the last copy of the lock's descriptor is closed."""
    state = StateDir.claim(tmp_path / "state")
    assert state is not None
    copy = os.dup(state.lock)
    os.close(state.lock)
    assert StateDir.claim(tmp_path / "state") is None
    os.close(copy)
    again = StateDir.claim(tmp_path / "state")
    assert again is not None
    os.close(again.lock)


@pytest.mark.parametrize(("user", "home"), [(1000, Path.home() / ".local/state"), (0, Path("/var/lib"))])
def test_the_state_home_is_where_xdg_says(user: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME counts if it is absolute, else ~/.local/state; for root a place that its workers reach."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert state_home({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/alarm-mw")
    assert state_home({"XDG_STATE_HOME": "relative"}) == home / "alarm-mw"


def make_state(home: Path, name: str, waiting: int) -> Path:
    directory = home / "alarm-mw" / name
    directory.mkdir(parents=True)
    outbox = Outbox(directory / "outbox.db")
    record = Record(b"x\n", "stdout", 1.0, "k")
    outbox.take([Firing(str(n), "a", b"x\n", record, 1.0) for n in range(waiting)], lambda _, __: None)
    outbox.close()
    return directory


def test_directories_of_stopped_programs_are_found(tmp_path: Path) -> None:
    """Not our own, nor that of a running one."""
    own = make_state(tmp_path, "gunicorn-1", 1)
    old, other = make_state(tmp_path, "gunicorn-2", 3), make_state(tmp_path, "uvicorn-3", 0)
    running = StateDir.claim(make_state(tmp_path, "gunicorn-6", 1))
    locked = StateDir.claim(old)
    assert running is not None
    assert locked is not None
    os.close(locked.lock)
    assert sorted(stopped_dirs({"XDG_STATE_HOME": str(tmp_path)}, own)) == [old, other]
    os.close(running.lock)


def test_what_waits_is_counted(tmp_path: Path) -> None:
    """Nothing where it cannot be read."""
    broken = make_state(tmp_path, "gunicorn-5", 1)
    (broken / "outbox.db").write_bytes(b"garbage" * 1000)
    found = (make_state(tmp_path, "gunicorn-1", 3), make_state(tmp_path, "gunicorn-2", 0), broken, tmp_path / "none")
    assert [count_waiting(path) for path in found] == [3, 0, 0, 0]
