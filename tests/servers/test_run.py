"""``alarm-mw run``, whole: a printed line becomes an alarm, and the output passes through."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.delivery.outbox.outbox import Outbox

OPTIONS = ("--alarm", "a cmd:cat >> out.txt", "--log-alarm", "a ^(ERROR:root:)?TERRIBLE ALARM")


def ledger(state_dir: Path) -> dict[tuple[str, str], int]:
    """Return the alarms' counts that a master has left."""
    database = sqlite3.connect(state_dir / "outbox.db")
    try:
        rows = database.execute("SELECT name, col, n FROM ledger WHERE scope = 'alarm'").fetchall()
    finally:
        database.close()
    return {(name, column): n for name, column, n in rows}


def test_a_printed_line_runs_a_command(installation: Any) -> None:
    """The line is on the standard output and in the command's input, exactly."""
    result = installation.run(OPTIONS, "python", "-c", 'print("TERRIBLE ALARM! x")')
    assert (result.returncode, result.stdout, result.stderr) == (0, b"TERRIBLE ALARM! x\n", b"")
    assert (installation.directory / "out.txt").read_bytes() == b"TERRIBLE ALARM! x\n"


@pytest.mark.parametrize(
    ("size", "end"),
    [
        (8_192, rb"x \[cut: (190006|more than \d+) bytes\]\n"),
        (131_072, rb"x \[cut: (190006|more than \d+) bytes\]\n"),
        (300_000, rb"xxx\n"),
    ],
    ids=["short", "default", "whole"],
)
def test_a_long_line_is_judged_and_says_how_long_it_is(installation: Any, size: int, end: bytes) -> None:
    """Up to `alarm-msg-size` it is delivered whole; beyond, the message has the length that is known."""
    options = ("--alarm", "a cmd:cat > out.txt", "--log-alarm", "a TERRIBLE", "--alarm-msg-size", str(size))
    result = installation.run(options, "python", "-c", "print('TERRIBLE ALARM'.ljust(190_005, 'x'))")
    assert len(result.stdout) == 190_006
    message = (installation.directory / "out.txt").read_bytes()
    assert len(message) == min(size, 190_006)
    assert re.search(end + rb"\Z", message)


def test_the_last_line_needs_no_newline(installation: Any) -> None:
    """A last line without a newline comes through and is matched."""
    result = installation.run(OPTIONS, "printf", "TERRIBLE ALARM! no newline")
    assert result.stdout == b"TERRIBLE ALARM! no newline"
    assert (installation.directory / "out.txt").read_bytes() == b"TERRIBLE ALARM! no newline"


def test_streams_pass_through_each_to_its_own(installation: Any) -> None:
    """Standard output and standard error keep apart, byte for byte, whatever the bytes."""
    program = (
        "import os, sys\n"
        "os.write(1, bytes(range(256)) * 100)\n"
        "os.write(2, b'\\x1b[31mred\\x1b[0m\\x00\\xff' * 100)\n"
        "os.write(1, b'x' * 10_000_000)\n"
    )
    result = installation.run(OPTIONS, sys.executable, "-c", program)
    assert result.stdout == bytes(range(256)) * 100 + b"x" * 10_000_000
    assert result.stderr == b"\x1b[31mred\x1b[0m\x00\xff" * 100


def test_both_streams_into_one_file_keep_their_order(installation: Any) -> None:
    """After 2>&1 the lines of both come out in the order in which they were written."""
    program = "import os\nfor n in range(2000): os.write(1 + n % 2, b'%d\\n' % n)"
    with (installation.directory / "both").open("wb") as both:
        process = installation.start(OPTIONS, sys.executable, "-c", program, stdout=both, stderr=subprocess.STDOUT)
        assert process.wait(60) == 0
    lines = (installation.directory / "both").read_text().splitlines()
    assert lines == [str(n) for n in range(2000)]


@pytest.mark.parametrize(
    ("server", "status"),
    [(("sh", "-c", "exit 7"), 7), (("no-such-command",), 127), (("/etc/passwd",), 126), (("true",), 0)],
)
def test_the_exit_status_is_the_servers(installation: Any, server: tuple[str, ...], status: int) -> None:
    """The server's exit status is ours, and a command that cannot be run gives what a shell would."""
    assert installation.run(OPTIONS, *server).returncode == status


def test_death_by_signal_is_passed_through(installation: Any) -> None:
    """When the server is killed by a signal, so are we."""
    assert installation.run(OPTIONS, "sh", "-c", "kill -KILL $$").returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--alarm", "a cdm:x"), "did you mean 'cmd'"),
        (("--alarm", "a cmd"), "--alarm (1st)"),
        ((*OPTIONS, "--strict", "--log-alarm", "b x"), "--log-alarm (2nd)"),
        (("--alarm", "a cmd:x", "--log-alarm", "a ("), "--log-alarm (1st)"),
        (("--config", "missing.toml"), "missing.toml"),
        (("--ini", "missing.ini"), "missing.ini"),
    ],
)
def test_a_wrong_configuration_stops_at_the_start(installation: Any, options: tuple[str, ...], text: str) -> None:
    """The server is not started, the mistake is shown with its place, without a traceback, and the status is 2."""
    result = installation.run(options, "touch", "started")
    assert result.returncode == 2
    assert text in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
    assert not (installation.directory / "started").exists()


def test_a_state_directory_is_for_one_server(installation: Any) -> None:
    """A second server with the same one is refused before it starts, whatever its socket, and is told what helps."""
    first = installation.start(OPTIONS, "sh", "-c", "echo up; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"up\n"
    second = installation.run((*OPTIONS, "--socket", "another.sock"), "touch", "started")
    assert second.returncode == 2
    assert f"state directory {installation.state_dir} " in second.stderr.decode()
    assert "--state-dir" in second.stderr.decode()
    assert not (installation.directory / "started").exists()
    first.communicate(b"\n", timeout=60)
    assert installation.run(OPTIONS, "true").returncode == 0


def test_a_server_has_the_name_that_it_is_given(installation: Any) -> None:
    """Its state directory, its messages and `status` have it; a second server of that name is refused."""
    text = "[alarms.a]\naction = 'cmd'\ncommand = 'echo $ALARM_APP >app'\n[[rules]]\npattern = 'ERR'\nalarms = 'a'\n"
    (installation.directory / "named.toml").write_text(text)
    run = [installation.command, "run", "--config", "named.toml", "--name", "shop", "--"]
    keywords: dict[str, Any] = {"cwd": installation.directory, "env": installation.environ}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*run, "sh", "-c", "echo ERR; read line"], **pipes, **keywords) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"ERR\n"
        shown = subprocess.run(
            [installation.command, "status", "--name", "shop"], capture_output=True, check=False, **keywords
        )
        second = subprocess.run([*run, "touch", "started"], capture_output=True, check=False, **keywords)
        first.communicate(b"\n", timeout=60)
    assert shown.stdout.decode().startswith("shop: no incidents, the ledger balances\nmaster ")
    assert str(installation.directory / "xdg" / "alarm-mw" / "shop") in shown.stdout.decode()
    assert (second.returncode, b"a server with the name 'shop' is already running" in second.stderr) == (2, True)
    assert not (installation.directory / "started").exists()
    assert (installation.directory / "app").read_text() == "shop\n"


def test_a_name_that_is_no_directorys_is_refused(installation: Any) -> None:
    """It is told what a name is made of."""
    result = installation.run((*OPTIONS, "--name", "../shop"), "touch", "started")
    assert result.returncode == 2
    assert "--name: expected letters, digits" in result.stderr.decode()


def test_a_second_server_has_a_state_directory_of_its_own(installation: Any) -> None:
    """The same command twice at the same time: both run, in default state directories that differ."""
    command = [installation.command, "run", *OPTIONS, "--", "sh", "-c", "echo $ALARM_MW_SOCKET; read line"]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=installation.directory,
            env=installation.environ,
        )
        for _ in range(2)
    ]
    sockets = {process.stdout.readline() for process in processes if process.stdout}
    for process in processes:
        process.communicate(b"\n", timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert len(sockets) == 2
    assert all(socket.startswith(os.fsencode(installation.directory / "xdg")) for socket in sockets)


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_output_is_left_closed(installation: Any, closed: str) -> None:
    """As daemon starters do it: the server runs, and its other stream is read."""
    command = " ".join(map(shlex.quote, installation.run_command(OPTIONS, "sh", "-c", "echo TERRIBLE ALARM >&$OTHER")))
    other = "2" if closed == "1" else "1"
    environ = {**installation.environ, "OTHER": other}
    subprocess.run(["sh", "-c", f"{command} {closed}>&-"], cwd=installation.directory, env=environ, check=True)
    assert (installation.directory / "out.txt").read_bytes() == b"TERRIBLE ALARM\n"


def test_status_shows_books_that_balance(installation: Any, until: Callable[..., None]) -> None:
    """The ledger of a running master shows every line and every firing."""
    program = "print('TERRIBLE ALARM 1\\nfine\\nTERRIBLE ALARM 2', flush=True); input()"
    process = installation.start(
        OPTIONS, sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    until(lambda: installation.status().get("alarms", {}).get("a", {}).get("delivered") == 2)
    status = installation.status()
    assert status["imbalances"] == []
    assert status["sources"]["stdout"]["lines"] == 3
    assert status["server_pid"] != process.pid
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0


HANDLER = """
import logging, sys
import alarm_mw
logging.basicConfig(level="INFO", handlers=[alarm_mw.AlarmHandler(), logging.StreamHandler()])
logging.error("TERRIBLE ALARM through both")
logging.info("harmless")
alarm_mw.alarm("a", "TERRIBLE directly\\n")
"""


def test_a_log_record_that_is_also_printed_fires_once(installation: Any) -> None:
    """The record goes to the master and to the pipe, and the alarm fires once."""
    result = installation.run(OPTIONS, sys.executable, "-c", HANDLER)
    assert result.stderr.decode() == "ERROR:root:TERRIBLE ALARM through both\nINFO:root:harmless\n"
    first, second = sorted((installation.directory / "out.txt").read_text().splitlines())
    assert first.removeprefix("ERROR:root:") == "TERRIBLE ALARM through both"
    assert second == "TERRIBLE directly"
    assert ledger(installation.state_dir)["a", "held_back:echo"] == 1


COUNTING = """
import os, sys
for n in range(200_000):
    os.write(1, b"%s%d\\n" % (b"TERRIBLE ALARM " if n % 1000 == 0 else b"line ", n))
"""


def test_killed_masters_lose_no_line(installation: Any, until: Callable[..., None]) -> None:
    """While 200,000 lines are printed the master is killed 20 times: all come out, in order, none twice."""
    with (installation.directory / "printed").open("wb") as printed:
        process = installation.start(OPTIONS, sys.executable, "-c", COUNTING, stdout=printed)
        killed: set[int] = set()
        while len(killed) < 20 and process.poll() is None:
            for pid in installation.masters(process.pid):
                if pid not in killed and (installation.directory / "printed").stat().st_size > 2000 * len(killed):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
        assert process.wait(120) == 0
    deliver_the_rest(installation, OPTIONS)
    lines = (installation.directory / "printed").read_text().splitlines()
    assert [int(line.rpartition(" ")[2]) for line in lines] == list(range(200_000))
    assert len(killed) == 20
    alarms = (installation.directory / "out.txt").read_text().splitlines()
    assert {f"TERRIBLE ALARM {n}" for n in range(0, 200_000, 1000)} == set(alarms)
    counts = ledger(installation.state_dir)
    assert counts["a", "fired"] == counts["a", "delivered"] == 200


def counts_waiting(state_dir: Path) -> int:
    """Return how many firings a master has left for the next one."""
    with closing(Outbox(state_dir / "outbox.db")) as outbox:
        return sum(outbox.count_waiting().values())


def deliver_the_rest(installation: Any, options: Sequence[str]) -> bytes:
    """Start again while alarms wait that a busy machine could not deliver at the end; return what that says."""
    written = b""
    while counts_waiting(installation.state_dir):
        done = installation.run(options, "true")
        assert done.returncode == 0
        written += done.stderr
    return written


LOGGING = """
import logging, os, time
import alarm_mw
handler = alarm_mw.AlarmHandler()
for n in range(2000):
    handler.handle(logging.makeLogRecord({"name": "app", "msg": f"TERRIBLE ALARM {n}"}))
    time.sleep(0.002)
    while n % 200 == 150 and not os.path.exists(f"killed-{n // 200}"):
        time.sleep(0.002)
"""


def test_killed_masters_lose_no_record(installation: Any) -> None:
    """While 2,000 records are logged the master is killed 10 times: each raises its alarm once."""
    options = ("--alarm", "a log:", "--log-alarm", "a ^TERRIBLE ALARM")
    with (installation.directory / "log").open("wb") as log:
        process = installation.start(options, sys.executable, "-c", LOGGING, stderr=log)
        killed: set[int] = set()
        while len(killed) < 10 and process.poll() is None:
            for pid in installation.masters(process.pid):
                if pid not in killed and (installation.directory / "log").stat().st_size > 4000 * (len(killed) + 1):
                    os.kill(pid, signal.SIGKILL)
                    (installation.directory / f"killed-{len(killed)}").touch()
                    killed.add(pid)
        assert process.wait(120) == 0
    assert len(killed) == 10
    with (installation.directory / "log").open("ab") as log:
        log.write(deliver_the_rest(installation, options))
    counts = ledger(installation.state_dir)
    assert counts["a", "fired"] == counts["a", "delivered"] == 2000
    lines = (installation.directory / "log").read_text().splitlines()
    assert {line.partition("ALARM: ")[2] for line in lines if "ALARM: " in line} == {
        f"TERRIBLE ALARM {n}" for n in range(2000)
    }


def test_a_killed_supervisor_leaves_nothing_behind(installation: Any, until: Callable[..., None]) -> None:
    """When the supervisor is killed, the server is ended as SIGTERM would, and its last words raise alarms."""
    program = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "print('TERRIBLE ALARM: started', flush=True)\n"
        "signal.sigwait({signal.SIGTERM})\n"
        "print('TERRIBLE ALARM: terminated', flush=True)\n"
    )
    process = installation.start(OPTIONS, sys.executable, "-c", program, stdout=subprocess.PIPE)
    out = installation.directory / "out.txt"
    until(lambda: out.exists() and "started" in out.read_text())
    (master,) = installation.masters(process.pid)
    server = int((installation.directory / "pid").read_text())
    process.kill()
    output, _ = process.communicate(timeout=60)
    until(lambda: not Path(f"/proc/{master}").exists() and not Path(f"/proc/{server}").exists())
    assert output.splitlines() == [b"TERRIBLE ALARM: started", b"TERRIBLE ALARM: terminated"]
    assert out.read_text().splitlines() == ["TERRIBLE ALARM: started", "TERRIBLE ALARM: terminated"]


def test_without_an_alarm_it_says_how_to_configure_one(installation: Any) -> None:
    """The output passes all the same; with an alarm nothing is said."""
    result = installation.run((), "echo", "hello")
    assert (result.returncode, result.stdout) == (0, b"hello\n")
    assert b"no alarm is configured" in result.stderr
    assert b"--alarm" in result.stderr
    assert b"no alarm" not in installation.run(OPTIONS, "true").stderr


@pytest.mark.parametrize("hub", ["true", "false"])
def test_a_server_that_is_a_hub_says_what_that_means(installation: Any, hub: str) -> None:
    """A server whose configuration says that it is a hub starts with a warning, which names the remedy."""
    config = installation.directory / "hub.toml"
    config.write_text(f'alarms.a = "log:"\n[fleet]\nurl = "unix://{installation.directory}/none"\nhub = {hub}\n')
    result = installation.run(["--config", str(config)], "true")
    is_said = b"alarm-mw: WARNING: [fleet] hub = true: this server also delivers what other machines" in result.stderr
    assert (result.returncode, is_said) == (0, hub == "true")


def test_an_unknown_alarm_in_a_rule_keeps_no_server_down(installation: Any) -> None:
    """It is a warning, and the server runs; with ``--strict`` it does not start."""
    options = ["--alarm", "a log:", "--log-alarm", "b x"]
    tolerant = installation.run(options, "echo", "served")
    assert (tolerant.returncode, tolerant.stdout) == (0, b"served\n")
    assert tolerant.stderr == b"--log-alarm (1st): warning: unknown alarm 'b'\n"
    strict = installation.run([*options, "--strict"], "echo", "served")
    assert (strict.returncode, strict.stdout) == (2, b"")
    assert strict.stderr == b"--log-alarm (1st): unknown alarm 'b'\n"


#: Prints lines that match, and lines in two parts.
IN_PARTS = """
import os, time
for n in range(60):
    os.write(1, b"TERRIBLE ALARM %d\\n" % n)
    os.write(2, b"first, ")
    time.sleep(0.002)
    os.write(2, b"second %d\\n" % n)
    time.sleep(0.002)
"""


def test_alarms_in_the_log_stand_between_the_lines_of_the_output(installation: Any) -> None:
    """Under ``2>&1`` no alarm of `log:` is written into a line that the server has half written."""
    options = ("--alarm", "a log:", "--log-alarm", "a ^TERRIBLE ALARM")
    with (installation.directory / "log").open("wb") as log:
        process = installation.start(options, sys.executable, "-c", IN_PARTS, stdout=log, stderr=subprocess.STDOUT)
        assert process.wait(60) == 0
    lines = (installation.directory / "log").read_text().splitlines()
    assert sum(" - ALARM: " in line for line in lines) == 60
    assert [line for line in lines if "ALARM:" in line and not re.match("[A-Z][a-z]{2} [A-Z][a-z]{2} ", line)] == []
    assert [line for line in lines if line.startswith("first")] == [f"first, second {n}" for n in range(60)]
