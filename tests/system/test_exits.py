"""How processes end, as Linux tells it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw.system.exits import (
    MAX_COMMAND,
    OomKills,
    command,
    is_dumping_core,
    returncode,
    status_of_pidfd,
    status_of_zombie,
)


@contextmanager
def ended(program: str) -> Iterator[tuple[int, int]]:
    """Yield the pidfd and pid of a child that has ended, and that nobody has asked about."""
    child = subprocess.Popen([sys.executable, "-c", program])
    pidfd = os.pidfd_open(child.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(LIMIT * 1000)
        yield pidfd, child.pid
    finally:
        child.wait()
        os.close(pidfd)


@pytest.mark.parametrize(
    ("program", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("pass", 0)]
)
def test_a_zombie_tells_how_it_ended(program: str, code: int) -> None:
    """An exit status is above zero, a signal below."""
    with ended(program) as (pidfd, pid):
        assert returncode(pidfd, pid) == code


def test_a_process_that_was_reaped_tells_it_by_its_pidfd_or_not_at_all() -> None:
    """Linux tells it since 6.15; before, the answer is that it is not known."""
    with ended("raise SystemExit(3)") as (pidfd, pid):
        os.waitpid(pid, 0)
        version = tuple(map(int, os.uname().release.split(".")[:2]))
        expected = 3 if version >= (6, 15) else None
        assert returncode(pidfd, pid) == expected


def test_a_process_that_runs_has_no_status() -> None:
    """Neither by its file nor by its pidfd."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        assert status_of_pidfd(pidfd) is None
        assert status_of_zombie(os.getpid()) is None
    finally:
        os.close(pidfd)


def test_a_descriptor_that_is_none_of_a_process_tells_nothing(tmp_path: Path) -> None:
    """As on a kernel that does not know the question."""
    with (tmp_path / "file").open("w") as file:
        assert status_of_pidfd(file.fileno()) is None


def process(proc: Path, pid: int, **files: str) -> None:
    """Make a process's folder, as in /proc."""
    folder = proc / str(pid)
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_name_may_hold_anything(tmp_path: Path) -> None:
    """Parentheses and blanks in a process's name do not confuse the status."""
    process(tmp_path, 7, stat=f"7 (a) Z) b) Z {' '.join(['0'] * 48)} 139 0\n")
    assert status_of_zombie(7, tmp_path) == 139
    process(tmp_path, 8, stat=f"8 (Z) S {' '.join(['0'] * 48)} 139\n")
    assert status_of_zombie(8, tmp_path) is None
    assert status_of_zombie(9, tmp_path) is None


def test_the_command_of_a_process(tmp_path: Path) -> None:
    """Its arguments, blanks between them; the parent's or the name where there are none; nothing when it has gone."""
    assert command(os.getpid()).startswith(sys.orig_argv[0])
    process(tmp_path, 7, cmdline="gunicorn\0app:app\0", comm="gunicorn\n")
    process(tmp_path, 8, cmdline="", comm="kworker\n")
    process(tmp_path, 9, cmdline="x" * 10_000, comm="x\n")
    assert command(7, tmp_path) == "gunicorn app:app"
    assert command(8, tmp_path) == "kworker"
    assert len(command(9, tmp_path)) == MAX_COMMAND
    assert command(10, tmp_path) == ""
    process(tmp_path, 11, cmdline="", comm="gunicorn\n", stat="11 (gunicorn) Z 7 7 0")
    process(tmp_path, 12, cmdline="", comm="sh\n", stat="12 (sh) Z 7 7 0")
    assert command(11, tmp_path) == "gunicorn app:app"
    assert command(12, tmp_path) == "sh"


def test_a_core_file_under_way_is_seen(tmp_path: Path) -> None:
    """The kernel says so while it writes it."""
    process(tmp_path, 7, status="Name:\tapp\nCoreDumping:\t1\nThreads:\t1\n")
    process(tmp_path, 8, status="Name:\tapp\nCoreDumping:\t0\nThreads:\t1\n")
    assert is_dumping_core(7, tmp_path)
    assert not is_dumping_core(8, tmp_path)
    assert not is_dumping_core(9, tmp_path)
    assert not is_dumping_core(os.getpid())


EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/app.slice/web\n", "app.slice/web/memory.events", EVENTS),
        ("0::/\n", "memory.events", EVENTS),
        ("4:memory:/web\n0::/\n", "memory/web/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ("12:cpu,memory:/web\n0::/web\n", "memory/web/memory.oom_control", "under_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_for_want_of_memory_are_counted_by_the_control_group(
    tmp_path: Path, cgroup: str, file: str, text: str
) -> None:
    """Both versions of control groups are known."""
    process(tmp_path, 7, cgroup=cgroup)
    counter = tmp_path / "cgroups" / file
    counter.parent.mkdir(parents=True)
    counter.write_text(text)
    kills = OomKills.of(7, tmp_path, tmp_path / "cgroups")
    assert kills.file == counter
    assert kills.count() == 2
    counter.write_text(text.replace("oom_kill 2", "oom_kill 5"))
    assert kills.count() == 5


@pytest.mark.parametrize("pid", [7, 8])
def test_else_they_are_counted_by_the_machine(tmp_path: Path, pid: int) -> None:
    """Where the group's counter cannot be seen, or the process has gone."""
    process(tmp_path, 7, cgroup="3:cpuset:/\n0::/hidden\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 4\n")
    assert OomKills.of(pid, tmp_path, tmp_path / "cgroups").count() == 4


def test_without_a_counter_there_are_none(tmp_path: Path) -> None:
    """An old kernel counts nothing."""
    process(tmp_path, 7, cgroup="0::/\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\n")
    assert OomKills.of(7, tmp_path, tmp_path).count() == 0


def test_the_real_counter_is_found() -> None:
    """This machine has one, whichever it is."""
    assert OomKills.of(os.getpid()).file.exists()
