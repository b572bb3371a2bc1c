"""``cmd:SHELL COMMAND``, with real shells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from alarm_mw.actions.cmd import child
from alarm_mw.actions.cmd.action import OUTPUT_LIMIT, CmdAction, CmdOptions, explain
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext, Execution
from alarm_mw.model.types import Firing, Machines, Place, Trigger

Make = Callable[..., Firing]


class Log(Protocol):
    @property
    def text(self) -> bytes: ...


@pytest.fixture
def deliver(context: ActionContext) -> Callable[[str, Firing], None]:
    """Provide a function that runs a command for a firing on a loop of its own, and looks that nothing is left."""

    async def attempt(command: str, firing: Firing) -> None:
        async with CmdAction(CmdAction.from_uwsgi(command), context) as action:
            await asyncio.wait_for(action.deliver(firing), 30)

    def run(command: str, firing: Firing) -> None:
        before = len(os.listdir("/proc/self/fd"))
        try:
            asyncio.run(attempt(command, firing))
        finally:
            assert len(os.listdir("/proc/self/fd")) == before

    return run


Deliver = Callable[[str, Firing], None]


def children() -> set[int]:
    """Return the children of this process, dead ones that nobody has reaped among them."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.mark.parametrize("message", [b"ERR x\n", b"no newline", b"", b"\x00\xff\x1b[0m", b"$(touch bad)`id`;'\"\n"])
def test_the_message_is_on_standard_input(message: bytes, deliver: Deliver, make_firing: Make, tmp_path: Path) -> None:
    """The program reads the very bytes of the message and then the end of the file."""
    deliver(f"cat > {tmp_path}/got", make_firing(message))
    assert (tmp_path / "got").read_bytes() == message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["got"]


def test_a_huge_message_arrives_whole(deliver: Deliver, make_firing: Make, tmp_path: Path) -> None:
    """A message larger than a pipe takes arrives, and a program that does not read it does no harm."""
    message = os.urandom(3_000_000)
    deliver(f"sleep 0.1; cat > {tmp_path}/got", make_firing(message))
    assert (tmp_path / "got").read_bytes() == message
    deliver("true", make_firing(message))


def test_standard_input_is_a_pipe(deliver: Deliver, make_firing: Make) -> None:
    """Scripts that ask whether something is piped into them get the answer that a shell would give."""
    deliver("test -p /dev/stdin", make_firing())
    with child.filled(b"x") as source:
        assert stat.S_ISFIFO(os.fstat(source.fileno()).st_mode)


def test_what_the_command_says_goes_to_the_log(deliver: Deliver, make_firing: Make, log: Log) -> None:
    """Both outputs appear in the log, byte for byte."""
    deliver("printf 'out\\377'; printf 'err\\n' >&2", make_firing())
    assert sorted(log.text) == sorted(b"out\xfferr\n")


def test_much_output_is_cut(deliver: Deliver, make_firing: Make, log: Log) -> None:
    """A command that talks without end neither fills the log nor stands still."""
    deliver("head -c 1000000 /dev/zero", make_firing())
    note = f"\n[uwsgi-alarm-cmd] {1_000_000 - OUTPUT_LIMIT} more bytes of output were left out\n".encode()
    assert log.text == bytes(OUTPUT_LIMIT) + note


def test_the_facts_of_the_alarm_are_in_the_environment(
    deliver: Deliver, make_firing: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ALARM_…` variables tell what the message does not, and the application's own environment is there."""
    monkeypatch.setenv("INHERITED", "yes")
    deliver(
        "env",
        make_firing(
            b"secret line\n",
            rule="a\0b=c",
            held_back=3,
            held_since=1.0,
            count=2,
            via=("jabber", "mail"),
            machines=Machines(("web-1", "web-2"), 100),
        ),
    )
    shown = dict(line.split(b"=", 1) for line in log.text.splitlines())
    alarm = {name.decode(): value for name, value in shown.items() if name.startswith(b"ALARM_")}
    assert alarm == {
        "ALARM_NAME": b"test",
        "ALARM_ID": b"firing-1",
        "ALARM_RULE": b"ab=c",
        "ALARM_TIME": b"2.500000",
        "ALARM_SOURCE": b"stdout",
        "ALARM_PID": b"42",
        "ALARM_LOGGER": b"",
        "ALARM_COUNT": b"2",
        "ALARM_INSTEAD_OF": b"jabber,mail",
        "ALARM_MACHINES": b"web-1,web-2",
        "ALARM_MACHINE_COUNT": b"100",
        "ALARM_HELD_BACK": b"3",
        "ALARM_HELD_SINCE": b"1.000000",
    }
    assert shown[b"INHERITED"] == b"yes"
    assert b"secret line" not in log.text


def test_a_command_does_not_become_a_source(
    deliver: Deliver, make_firing: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leads a process to the master is taken from a command's environment, so that it cannot loop."""
    monkeypatch.setenv("ALARM_MW_SOCKET", "/run/socket")
    deliver("env", make_firing())
    assert b"ALARM_MW_" not in log.text


def test_the_command_leads_a_session_of_its_own(deliver: Deliver, make_firing: Make, log: Log) -> None:
    """A ^C on the terminal does not reach it, and it starts where the server started."""
    deliver("ps -o sid= -p $$ | tr -d ' '; echo $$; pwd", make_firing())
    session, pid, directory = log.text.decode().split()
    assert session == pid
    assert directory == str(Path.cwd())


@pytest.mark.parametrize(("status", "retry"), [(1, False), (127, False), (75, True)])
def test_only_a_temporary_failure_is_worth_a_retry(
    status: int,
    retry: bool,
    deliver: Deliver,
    make_firing: Make,
) -> None:
    """A command that may have done half its work is run again only when it asks for it, with EX_TEMPFAIL."""
    with pytest.raises(ActionError, match=rf"exited with status {status}: no\\x1b luck$") as caught:
        deliver(f"printf 'no\\033 luck\\n' >&2; exit {status}", make_firing())
    assert caught.value.retry is retry


def test_the_end_of_stderr_is_in_the_error(deliver: Deliver, make_firing: Make) -> None:
    """Of a long complaint the end is kept, which is where the cause stands."""
    with pytest.raises(ActionError) as caught:
        deliver("head -c 100000 /dev/zero | tr '\\0' x >&2; echo END >&2; exit 1", make_firing())
    assert str(caught.value).endswith("xxEND")
    assert len(str(caught.value)) < 4_200


def test_a_killed_command_is_said_to_be(deliver: Deliver, make_firing: Make) -> None:
    """The error names the signal."""
    with pytest.raises(ActionError, match="killed by SIGKILL"):
        deliver("kill -9 $$", make_firing())
    assert explain(-40, b"") == "the command was killed by signal 40"


def test_a_grandchild_does_not_hold_the_delivery(deliver: Deliver, make_firing: Make, log: Log) -> None:
    """A program left in the background goes on, and the alarm is delivered meanwhile."""
    started = time.monotonic()
    deliver("sleep 100 & echo $!", make_firing())
    assert time.monotonic() - started < 50
    grandchild = int(log.text)
    os.kill(grandchild, signal.SIGTERM)  # raises if it is not there


def test_a_time_limit_ends_the_command_and_its_children(
    context: ActionContext, log: Log, make_firing: Make, tmp_path: Path
) -> None:
    """Nothing of a command that takes too long survives, not even what ignores SIGTERM."""
    os.mkfifo(tmp_path / "alive")

    async def attempt() -> None:
        action = CmdAction(CmdAction.from_uwsgi(f"trap '' TERM; sleep 100 > {tmp_path}/alive & echo $!; wait"), context)
        loop = asyncio.get_running_loop()
        delivery = asyncio.create_task(action.deliver(make_firing()))
        # Opening the reading end waits for the one that writes.
        reader = await loop.run_in_executor(None, os.open, tmp_path / "alive", os.O_RDONLY)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        # The end of the file comes when the last holder of the writing end is gone.
        assert await asyncio.wait_for(loop.run_in_executor(None, os.read, reader, 1), 10) == b""
        os.close(reader)

    asyncio.run(attempt())


def test_500_firings_leave_no_zombie(context: ActionContext, make_firing: Make, tmp_path: Path) -> None:
    """Children are always reaped, here on a loop outside of the main thread and with several at once."""
    done: list[int] = []

    async def burst() -> None:
        action = CmdAction(CmdAction.from_uwsgi(f"cat >> {tmp_path}/got"), context)
        slots = asyncio.Semaphore(action.concurrency)

        async def one(number: int) -> None:
            async with slots:
                await action.deliver(make_firing(b"%03d\n" % number))
                done.append(number)

        await asyncio.gather(*map(one, range(500)))

    thread = threading.Thread(target=lambda: asyncio.run(burst()))
    thread.start()
    thread.join(60)
    assert sorted(done) == list(range(500))
    assert sorted((tmp_path / "got").read_bytes().split()) == [b"%03d" % number for number in range(500)]


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: reap_everything()])
def test_a_program_that_reaps_children_itself_does_no_harm(
    handler: Callable[..., None], deliver: Deliver, make_firing: Make
) -> None:
    """With SIGCHLD ignored, or every child reaped by a handler, delivery goes on; uWSGI does not look at the status."""
    previous = signal.signal(signal.SIGCHLD, handler)
    try:
        for _ in range(5):
            deliver("cat > /dev/null", make_firing())
    finally:
        signal.signal(signal.SIGCHLD, previous)


def reap_everything() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def test_without_pidfd_the_end_is_noticed_too() -> None:
    """On systems that have none, the child is looked at again and again."""

    async def wait() -> int:
        process = subprocess.Popen(["/bin/sh", "-c", "exit 3"])  # noqa: ASYNC220  # what is tested starts it so
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        child.poll(process, loop, future)
        await asyncio.wait_for(future, 10)
        return process.wait()

    assert asyncio.run(wait()) == 3


def test_a_command_that_cannot_be_started_is_an_action_error(context: ActionContext, make_firing: Make) -> None:
    """The error says what the system said."""
    with pytest.raises(ActionError, match="could not be started: Argument list too long") as caught:
        asyncio.run(CmdAction(CmdAction.from_uwsgi("true"), context).deliver(make_firing(rule="x" * 3_000_000)))
    assert not caught.value.retry


@pytest.mark.parametrize("args", ["", "  ", "a\0b"])
def test_what_is_no_command_is_refused_at_start(args: str) -> None:
    """Not at the first alarm."""
    with pytest.raises(OptionError):
        CmdAction.from_uwsgi(args)


def run_as(execution: Execution, command: str, firing: Firing) -> None:
    action = CmdAction(CmdAction.from_uwsgi(command), ActionContext("test", lambda _: None, execution=execution))
    asyncio.run(action.deliver(firing))


def test_a_command_runs_where_and_as_it_is_told(
    make_firing: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directory, umask and variables are those of the configuration; facts of the alarm come before them."""
    monkeypatch.setenv("GONE", "1")
    monkeypatch.setenv("KEPT", "1")
    execution = Execution(chdir=str(tmp_path), umask="027", env={"A": "b c", "ALARM_NAME": "x"}, unenv=("GONE",))
    run_as(execution, 'echo "$(umask) $A $ALARM_NAME ${GONE-gone} $KEPT" >out', make_firing())
    assert (tmp_path / "out").read_text() == "0027 b c test gone 1\n"


def test_a_command_of_root_runs_as_somebody_else(make_firing: Make) -> None:
    """With `uid` and `gid`; the groups of root are dropped."""
    assert os.geteuid() == 0, "the test needs root"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        execution = Execution(uid="nobody", gid="nogroup", chdir=folder)
        run_as(execution, "echo $(id -un) $(id -gn) $(id -Gn) >out", make_firing())
        assert Path(folder, "out").read_text() == "nobody nogroup nogroup\n"


def test_a_command_whose_directory_is_gone_is_an_action_error(make_firing: Make, tmp_path: Path) -> None:
    """The error names the directory."""
    with pytest.raises(ActionError, match=rf"No such file or directory \(in {tmp_path}/gone\)"):
        run_as(Execution(chdir=f"{tmp_path}/gone"), "true", make_firing())


@pytest.mark.parametrize(
    ("options", "command", "retry"),
    [
        ({}, "exit 75", True),
        ({}, "exit 1", False),
        ({}, "exit 126", False),
        ({}, "kill -KILL $$", True),
        ({"retry_on": ()}, "exit 75", False),
        ({"retry_on": ()}, "kill -KILL $$", False),
        ({"retry_on": (1, 3)}, "exit 3", True),
        ({"retry_on": (1, 3)}, "exit 75", False),
        ({"retry_on": ("signal",)}, "kill -TERM $$", True),
        ({"retry_on": "any"}, "exit 2", True),
        ({"retry_on": "any"}, "kill -TERM $$", True),
    ],
)
def test_what_is_tried_again_is_a_choice(
    options: dict[str, Any], command: str, retry: bool, context: ActionContext, make_firing: Make
) -> None:
    """75 and the death by a signal, unless the configuration says otherwise."""
    action = CmdAction(CmdOptions(command=command, **options), context)
    with pytest.raises(ActionError) as error:
        asyncio.run(action.deliver(make_firing()))
    assert error.value.retry is retry


def test_uwsgis_commands_run_once_even_if_they_are_killed(context: ActionContext, make_firing: Make) -> None:
    """An ini file has 75 alone: uWSGI repeats nothing."""
    action = CmdAction(CmdAction.from_uwsgi("kill -KILL $$"), context)
    with pytest.raises(ActionError) as error:
        asyncio.run(action.deliver(make_firing()))
    assert not error.value.retry


@pytest.mark.parametrize("status", [0, 256, -9])
def test_what_is_no_failure_cannot_be_tried_again(status: int) -> None:
    """An exit status that fails is a number from 1 to 255."""
    with pytest.raises(ValueError, match="retry_on"):
        CmdOptions(command="true", retry_on=(status,))


def test_a_command_knows_where_the_alarm_comes_from(make_firing: Make, tmp_path: Path) -> None:
    """Host, application, the rule's name and labels are in its environment."""
    place = Place("web-3", "shop", {"team": "payments"})
    firing = make_firing(trigger=Trigger("pay", {"severity": "critical"}))
    action = CmdAction(CmdOptions(command=f"env > {tmp_path}/env"), ActionContext("a", lambda _: None, place=place))
    asyncio.run(action.deliver(firing))
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    expected = {"HOST": "web-3", "APP": "shop", "RULE_NAME": "pay", "LABEL_TEAM": "payments"}
    assert {name: found[f"ALARM_{name}"] for name in expected} == expected
    assert found["ALARM_LABEL_SEVERITY"] == "critical"
