"""Mules' processes: started, started again, and ended."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from waiting import wait_until

from alarm_mw.master.mules.processes import Mules, ending, pause
from alarm_mw.model.interfaces import Execution

#: Writes its pid down under its name, then does what the test wants of it.
PROGRAM = """
import os, signal, sys, time
with open("pids", "a") as pids:
    pids.write(f"{{os.getpid()}}\\n")
{then}
"""


def commands() -> list[bytes]:
    """Return the command lines of the mules among this process's children."""
    tasks = Path("/proc/self/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    return [line for line in lines if b"alarm_mw.app.workers.mule" in line]


class Stable:
    """Mules that run programs which a test writes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mules: Mules | None = None

    def start(self, then: str, *, path: str | None = None) -> None:
        (self.directory / "mule.py").write_text(PROGRAM.format(then=then))
        environ = {**os.environ, "ALARM_MW_SOCKET": str(self.directory / "none"), "ALARM_MW_FDS": "secret"}
        self.mules = Mules(["mule.py" if path is None else path], environ)
        self.mules.start()

    def wait_for(self, count: int) -> None:
        """Wait until so many processes have begun."""
        wait_until(lambda: len(self.pids()) == count)

    def pids(self) -> list[int]:
        file = self.directory / "pids"
        return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stable]:
    monkeypatch.chdir(tmp_path)
    made = Stable(tmp_path)
    yield made
    if made.mules is not None:
        made.mules.stop()


def test_a_killed_mule_is_started_again(stable: Stable, caplog: pytest.LogCaptureFixture) -> None:
    """Each time, with a line in the log that says how it ended."""
    with caplog.at_level(logging.WARNING):
        stable.start("signal.pause()")
        for count in (1, 2):
            stable.wait_for(count)
            os.kill(stable.pids()[-1], signal.SIGKILL)
        stable.wait_for(3)
    assert caplog.messages == [
        f"mule 1 (pid {pid}) was killed by SIGKILL, and is started again" for pid in stable.pids()[:2]
    ]


def test_stopping_ends_a_mule_that_will_not(stable: Stable) -> None:
    """SIGTERM asks, SIGKILL does not; and no other one is started."""
    stable.start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('deaf', 'w').close()\nwhile True: signal.pause()")
    wait_until((stable.directory / "deaf").exists)
    assert stable.mules is not None
    stable.mules.stop()
    (pid,) = stable.pids()
    assert not Path(f"/proc/{pid}").exists()


def test_a_mule_may_end_in_order(stable: Stable) -> None:
    """A handler for SIGTERM of its own is run."""
    stable.start(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(open('ended', 'w').close()))\n"
        "open('ready', 'w').close()\n"
        "while True: time.sleep(0.01)"  # a signal may come just before `pause`, which would wait for another one
    )
    wait_until((stable.directory / "ready").exists)
    assert stable.mules is not None
    stable.mules.stop()
    assert (stable.directory / "ended").exists()


def test_a_terminals_signals_are_for_the_server(stable: Stable) -> None:
    """^C and a hang-up reach the whole job, and do not end a mule; it does not see the master's descriptors either."""
    stable.start(
        "for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):\n"
        "    os.kill(os.getpid(), number)\n"
        "assert 'ALARM_MW_FDS' not in os.environ\n"
        "open('alive', 'w').close()\n"
        "signal.pause()"
    )
    wait_until((stable.directory / "alive").exists)
    assert len(stable.pids()) == 1


@pytest.mark.parametrize(
    ("then", "text"),
    [("raise ValueError('why')", "status 1"), ("sys.exit(3)", "status 3"), ("sys.exit()", "status 0")],
)
def test_a_mule_that_ends_says_how(
    stable: Stable, then: str, text: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its exit status is in the log, a traceback beside it; the next one is started all the same."""
    with caplog.at_level(logging.WARNING):
        stable.start(then)
        wait_until(lambda: len(stable.pids()) >= 2)
    assert text in caplog.messages[0]
    assert ("ValueError: why" in capfd.readouterr().err) == ("why" in then)


def test_a_module_can_be_a_mule(stable: Stable) -> None:
    """A name without .py is a module, found in the working directory, and runs as the main program."""
    stable.start("assert __name__ == '__main__'\nopen('alive', 'w').close()\nsignal.pause()", path="mule")
    wait_until((stable.directory / "alive").exists)


def test_a_mule_without_a_program_waits(stable: Stable) -> None:
    """It is there, as its number is, and is ended with the others."""
    stable.start("", path="")
    wait_until(lambda: b"alarm_mw.app.workers.mule" in b"".join(commands()))
    assert stable.mules is not None
    stable.mules.stop()
    assert b"alarm_mw.app.workers.mule" not in b"".join(commands())


def test_failing_mules_are_started_ever_more_slowly() -> None:
    """At once, then after 0.1 seconds, then after twice as long, to 5 seconds at most."""
    assert [pause(failures) for failures in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert pause(100) == 5.0


def test_an_end_is_told_in_words() -> None:
    """Signals have their names, where they have one."""
    assert ending(0) == "ended with status 0"
    assert ending(-9) == "was killed by SIGKILL"
    assert ending(-40) == "was killed by signal 40"


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_what_others_put_into_the_working_directory_is_not_imported(
    stable: Stable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """A mule that is run from a directory in which all users may write finds only what lies beside it."""
    public = tmp_path / "public"
    public.mkdir()
    (public / "planted.py").write_text("open('ran', 'w').close()")
    (tmp_path / "beside.py").touch()
    public.chmod(mode)
    monkeypatch.chdir(public)
    program = "import beside\ntry:\n    import planted\nfinally:\n    open('tried', 'w').close()\n    signal.pause()"
    stable.start(program, path=str(tmp_path / "mule.py"))
    wait_until((public / "tried").exists)
    assert not (public / "ran").exists()


def test_modules_of_the_working_directory_are_imported(
    stable: Stable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mule that lies elsewhere finds the application's modules, as under uWSGI."""
    application = tmp_path / "application"
    application.mkdir()
    (application / "shop.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(application)
    stable.start("import shop\nsignal.pause()", path=str(tmp_path / "mule.py"))
    wait_until((application / "ran").exists)


def test_after_an_exchange_the_same_mules_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mule whose number and program stay is not touched; others are ended and started."""
    monkeypatch.chdir(tmp_path)
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(PROGRAM.format(then="signal.pause()"))
    mules = Mules(["one.py", "two.py"], {**os.environ, "ALARM_MW_SOCKET": str(tmp_path / "none")})
    pids = tmp_path / "pids"
    try:
        mules.start()
        wait_until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2)
        before = {command.split(b"\0")[-2]: command for command in commands()}
        assert mules.exchange(["one.py", "one.py", "two.py"]) == 2
        wait_until(lambda: len(pids.read_text().splitlines()) == 4)
        assert mules.exchange(["one.py"]) == 2
        assert mules.exchange(["one.py"]) == 0
        assert commands() == [before[b"one.py"]]
        assert len(pids.read_text().splitlines()) == 4
    finally:
        mules.stop()


def test_a_mule_runs_where_and_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of that ends it and starts another one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yard").mkdir()
    (tmp_path / "yard" / "mule.py").write_text(PROGRAM.format(then="print(os.environ['A'], file=open('a', 'w'))"))
    execution = Execution(chdir=str(tmp_path / "yard"), env={"A": "b"})
    mules = Mules(["mule.py"], {**os.environ, "ALARM_MW_SOCKET": str(tmp_path / "none")}, execution)
    said = tmp_path / "yard" / "a"
    try:
        mules.start()
        wait_until(lambda: said.exists() and said.read_text() == "b\n")
        assert mules.exchange(["mule.py"], execution) == 0
        assert mules.exchange(["mule.py"], structs.replace(execution, env={"A": "c"})) == 1
        wait_until(lambda: said.read_text() == "c\n")
    finally:
        mules.stop()
