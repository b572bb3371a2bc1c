"""Directories in which others could put files in the place of ours."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from alarm_mw.app.launch.launch import Places, RefusedError, become_supervisor
from alarm_mw.app.launch.state import StateDir
from alarm_mw.config.settings import Loaded, Settings
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.master.records.publisher import Publisher
from alarm_mw.patterns.record_prefilter import RecordRules
from alarm_mw.system.directories import LOCK_NAME
from alarm_mw.transports.places import published_path
from alarm_mw.transports.published import Content, Published

NOBODY = 65534


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def launch(state: Path, socket: Path | None = None) -> str:
    """Return why no server is started with these places."""
    loaded = Loaded(Settings())
    with pytest.raises(RefusedError) as refused:
        become_supervisor(loaded, ["true"], Places(str(state), str(socket) if socket else None))
    return str(refused.value)


@only_root
def test_a_state_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """He could replace what is in it; the message says whose it is, and what helps."""
    place = tmp_path / "state"
    place.mkdir()
    os.chown(place, NOBODY, -1)
    assert launch(place) == (
        f"the state directory cannot be used: {place}: it belongs to somebody else, user {NOBODY}; "
        "give another --state-dir"
    )
    assert [*place.iterdir()] == []


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_state_directory_that_everybody_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Also one that is sticky, as `/tmp`: what is not there yet could be put there by anybody."""
    place = tmp_path / "state"
    place.mkdir()
    place.chmod(mode)
    assert "everybody may write there" in launch(place)
    assert [*place.iterdir()] == []


def test_a_socket_is_in_no_directory_that_everybody_may_write(tmp_path: Path) -> None:
    """What is published lies beside it."""
    place = tmp_path / "public"
    place.mkdir()
    place.chmod(0o1777)
    assert f"no --socket can be in {place}: everybody may write there" in launch(tmp_path / "state", place / "s")


@only_root
def test_a_link_that_somebody_else_has_planted_is_not_followed(tmp_path: Path) -> None:
    """Where it leads may be a directory of this user's that is not meant."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    state = StateDir.claim(link)
    assert state is not None
    os.close(state.lock)
    os.chown(link, NOBODY, -1, follow_symlinks=False)
    assert "it belongs to somebody else" in launch(link)


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    """The file that it leads to is not opened, nor made."""
    (tmp_path / LOCK_NAME).symlink_to(tmp_path / "elsewhere")
    assert "cannot be used" in launch(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_published_through_a_link(tmp_path: Path) -> None:
    """Neither the content nor the notice is written into a file that another name leads to."""
    socket, victim = str(tmp_path / "s"), tmp_path / "victim"
    victim.write_text("precious")
    Path(f"{published_path(socket)}.{os.getpid()}").symlink_to(victim)
    Path(f"{socket}.notice").symlink_to(victim)
    assert not Publisher(socket).publish(Content(RecordRules()))
    assert victim.read_text() == "precious"


def test_what_others_could_have_published_is_not_read(tmp_path: Path) -> None:
    """What a stranger says of the rules could hide what matters."""
    socket = str(tmp_path / "s")
    Publisher(socket).publish(Content(RecordRules()))
    assert Published(socket).read() == Content(RecordRules())
    Path(published_path(socket)).chmod(0o666)
    with pytest.raises(ValueError, match="others can write"):
        Published(socket).read()


def test_what_lies_in_a_state_directory_is_for_its_user_alone(tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        state = StateDir.claim(tmp_path / "state")
        assert state is not None
        os.close(state.lock)
        with closing(Outbox(state.path / "outbox.db")):
            modes = {part.name: part.stat().st_mode & 0o777 for part in state.path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) > {"lock", "outbox.db"}
    assert set(modes.values()) == {0o600}
    assert state.path.stat().st_mode & 0o022 == 0
