"""Firings that wait for a server that was started otherwise since."""

from __future__ import annotations

import os
from pathlib import Path

from alarm_mw.app.launch.abandoned import abandoned, told
from alarm_mw.app.launch.state import StateDir
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.types import Firing, Record


def make_state(home: Path, name: str, waiting: int) -> Path:
    directory = home / "alarm-mw" / name
    directory.mkdir(parents=True)
    outbox = Outbox(directory / "outbox.db")
    record = Record(b"x\n", "stdout", 1.0, "k")
    outbox.take([Firing(str(n), "a", b"x\n", record, 1.0) for n in range(waiting)], lambda _, __: None)
    outbox.close()
    return directory


def test_what_waits_for_a_server_of_the_same_name_is_found(tmp_path: Path) -> None:
    """Not that of one that runs, of another server, of one without anything, or what cannot be read."""
    own = make_state(tmp_path, "gunicorn-1", 1)
    old = make_state(tmp_path, "gunicorn-2", 3)
    make_state(tmp_path, "uvicorn-3", 1)
    make_state(tmp_path, "gunicorn-4", 0)
    (make_state(tmp_path, "gunicorn-5", 1) / "outbox.db").write_bytes(b"garbage" * 1000)
    running = StateDir.claim(make_state(tmp_path, "gunicorn-6", 1))
    locked = StateDir.claim(old)
    assert running is not None
    assert locked is not None
    os.close(locked.lock)
    assert [*abandoned(own, {"XDG_STATE_HOME": str(tmp_path)})] == [(old, 3)]
    os.close(running.lock)


def test_what_helps_is_told() -> None:
    """The directory, and the commands that deliver or drop what is in it."""
    text = told(Path("/x"), 3)
    assert "3 firings wait in /x" in text
    assert told(Path("/x"), 1).startswith("1 firing waits in /x")
    assert "alarm-mw run --state-dir /x" in text
    assert "alarm-mw dead drop --all --waiting --state-dir /x" in text
