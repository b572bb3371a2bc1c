"""The crash desk: gathers what is seen of the ends of processes, on a real event loop, with real processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw.master.crashes import desk
from alarm_mw.master.crashes.death_book import DeathBook
from alarm_mw.master.crashes.desk import CrashDesk, Pace
from alarm_mw.master.crashes.tap import StreamLine
from alarm_mw.model.types import Death
from alarm_mw.system.exits import OomKills

DUMP = [
    StreamLine(0, "Fatal Python error: Segmentation fault"),
    StreamLine(40, "Current thread 0x01 (most recent call first):"),
    StreamLine(90, "Extension modules: a (total: 1)"),
]
WAITING = "print(7, flush=True); input()"


def test_what_happens_is_followed_closely_for_a_while() -> None:
    """Before the first event, and when the last one is long ago, questions are seldom."""
    pace = Pace(0.1, 0.5, 10.0)
    pauses = [pace.pause(0.0)]
    for happened in (1.0, 5.0):
        pace.note(happened)
        pauses += [pace.pause(happened), pace.pause(happened + 9.9)]
    assert [*pauses, pace.pause(15.0)] == [0.5, 0.1, 0.1, 0.1, 0.1, 0.5]


class Told:
    """Takes deaths."""

    def __init__(self) -> None:
        self.deaths: list[Death] = []
        self._arrived = asyncio.Event()

    def __call__(self, death: Death) -> None:
        self.deaths.append(death)
        self._arrived.set()

    async def one(self) -> Death:
        """Wait for the first death."""
        await asyncio.wait_for(self._arrived.wait(), LIMIT)
        return self.deaths[0]


Scenario = Callable[[CrashDesk, "subprocess.Popen[bytes]", Told], Awaitable[None]]


def play(directory: Path, scenario: Scenario, program: str = WAITING) -> list[Death]:
    """Run a scenario with a desk that watches a process; return what was told."""
    counter = directory / "vmstat"
    counter.write_text("oom_kill 0\n")

    async def run(child: subprocess.Popen[bytes]) -> list[Death]:
        told = Told()
        loop = asyncio.get_running_loop()
        desk = CrashDesk("run", ["app", "a b"], directory, loop, find_oom_kills=lambda _: OomKills(counter))
        await desk.start(child.pid)
        with desk.subscribed(told):
            await scenario(desk, child, told)
            await desk.stop()
        return told.deaths

    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            return asyncio.run(run(child))
        finally:
            child.kill()


def test_the_kernel_tells_of_a_process(tmp_path: Path) -> None:
    """A watched process that is killed by a signal is told, with its number and command."""

    async def scenario(desk: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        assert child.stdout
        await asyncio.to_thread(child.stdout.readline)
        desk.hear_supervisor(["server", str(child.pid)])
        await asyncio.sleep(0)
        child.send_signal(signal.SIGSEGV)
        death = await told.one()
        assert (death.pid, death.returncode, death.is_server) == (child.pid, -signal.SIGSEGV, True)
        assert WAITING in death.command

    assert len(play(tmp_path, scenario)) == 1


def test_children_of_the_server_are_watched(tmp_path: Path) -> None:
    """A process below it is told as such."""
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "input(); child.kill(); child.wait(); input()\n"
    )

    async def scenario(desk: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        assert child.stdout
        assert child.stdin
        pid = int(await asyncio.to_thread(child.stdout.readline))
        desk.hear_supervisor(["server", str(child.pid)])
        await asyncio.sleep(0)
        child.stdin.write(b"\n")
        child.stdin.flush()
        death = await told.one()
        assert (death.pid, death.returncode, death.is_server) == (pid, -signal.SIGKILL, False)

    assert len(play(tmp_path, scenario, program)) == 1


def test_a_process_that_does_not_live_for_long_has_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is watched as soon as it is there, rather than at the next look at all of them."""
    monkeypatch.setattr(desk, "LOOK_EVERY", 3600.0)
    program = (
        "import signal, subprocess\n"
        "input()\n"
        "child = subprocess.Popen(['sh', '-c', 'sleep 1; kill -SEGV $$'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait(); input()\n"
    )

    async def scenario(desk: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        assert child.stdout
        assert child.stdin
        await asyncio.sleep(0)  # it looks once
        child.stdin.write(b"\n")
        child.stdin.flush()
        pid = int(await asyncio.to_thread(child.stdout.readline))
        death = await told.one()
        assert (death.pid, death.returncode) == (pid, -signal.SIGSEGV)

    assert len(play(tmp_path, scenario, program)) == 1


def test_deaths_are_looked_for_after_a_look_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the master has no descriptor left for a moment."""
    looked = asyncio.Event()
    answers: Iterator[int | OSError] = iter([OSError(24, "Too many open files"), 1, 2])

    def newest_pid() -> int:
        answer = next(answers, 3)
        if isinstance(answer, OSError):
            raise answer
        looked.set()
        return answer

    async def scenario(_: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        await asyncio.wait_for(looked.wait(), LIMIT)
        child.kill()
        await told.one()

    monkeypatch.setattr(desk, "newest_pid", newest_pid)
    assert len(play(tmp_path, scenario)) == 1


def test_a_listener_that_fails_hears_once_and_keeps_nothing_from_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A monitor may be anybody's code."""

    def fail(_: Death) -> None:
        raise RuntimeError("a mistake")

    async def scenario(desk: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        with desk.subscribed(fail):
            child.kill()
            await told.one()

    assert len(play(tmp_path, scenario)) == 1
    assert [record.message for record in caplog.records] == ["a monitor failed at a death"]


def test_half_a_dump_of_a_former_master_waits_for_its_rest(tmp_path: Path) -> None:
    """However long it took to start another one, the rest lies in the pipe."""

    async def run() -> list[Death]:
        told = Told()
        loop = asyncio.get_running_loop()
        former = DeathBook(tmp_path / "deaths.jsonl", "run")
        former.note("begin_dump", stream="stderr", offset=0, line=DUMP[0].line, now=time.monotonic() - 5.0)
        desk = CrashDesk("run", ["app"], tmp_path, loop)
        await desk.start(None)
        with desk.subscribed(told):
            desk.hear_lines("stderr", DUMP[1:])
            await told.one()
            await desk.stop()
        return told.deaths

    (death,) = asyncio.run(run())
    assert death.dump == tuple(line.line for line in DUMP)


@pytest.mark.parametrize(("count", "expected"), [(0, False), (1, True)])
def test_the_count_of_kills_for_want_of_memory_explains_a_kill(tmp_path: Path, count: int, expected: object) -> None:
    """A SIGKILL right after the count has risen was the kernel's; any other was somebody's."""

    async def scenario(_: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        (tmp_path / "vmstat").write_text(f"oom_kill {count}\n")
        child.kill()
        assert (await told.one()).out_of_memory is expected

    play(tmp_path, scenario)


def test_what_is_waited_for_is_told_at_the_end(tmp_path: Path) -> None:
    """A desk that stops tells what it has."""

    async def scenario(desk: CrashDesk, _: subprocess.Popen[bytes], __: Told) -> None:
        desk.hear_lines("stderr", DUMP[:2])

    (death,) = play(tmp_path, scenario)
    assert death.dump == (DUMP[0].line, DUMP[1].line)


def test_the_supervisor_and_a_parent_are_heard(tmp_path: Path) -> None:
    """The supervisor's word for the server and a parent's for a worker; both know the command of the server."""

    async def scenario(desk: CrashDesk, child: subprocess.Popen[bytes], told: Told) -> None:
        desk.hear_supervisor(["something", "else"])
        desk.hear_supervisor(["exited", "0"])
        desk.hear_supervisor(["server", str(child.pid)])
        desk.hear_supervisor(["exited", "-6"])
        desk.hear_killed(2**22 + 1, signal.SIGBUS)
        await told.one()

    deaths = play(tmp_path, scenario)
    assert [(death.returncode, death.is_server) for death in deaths] == [(-6, True), (-7, False)]
    assert deaths[1].command == "app 'a b'"


def test_the_next_master_tells_what_the_former_had_told_lately(tmp_path: Path) -> None:
    """The outbox knows what it has: nothing is lost between telling and writing."""

    async def dying(desk: CrashDesk, _: subprocess.Popen[bytes], told: Told) -> None:
        desk.hear_lines("stderr", DUMP)
        await told.one()

    async def nothing(_: CrashDesk, __: subprocess.Popen[bytes], ___: Told) -> None:
        return

    first = play(tmp_path, dying)
    assert [death.key for death in play(tmp_path, nothing)] == [death.key for death in first]
