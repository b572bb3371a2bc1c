"""Mules under ``alarm-mw run``: mule files as they were written for uWSGI, killed in the middle of their work."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.delivery.outbox.outcome_writer import GATHERED

#: As it stands in uWSGI's documentation, with a file in the place of print.
MULE = """
import os
import uwsgi

def loop():
    while True:
        message = uwsgi.mule_get_msg()
        with open("got", "ab") as got:
            got.write(b"%d %s" % (uwsgi.mule_id(), message))

if __name__ == "__main__":
    with open("pids", "a") as pids:
        pids.write(f"{os.getpid()}\\n")
    loop()
"""

#: Prints so many alarm lines, then waits for the end of its input.
SERVER = """
import sys
for n in range({count}):
    print("ALARM", n, flush=True)
sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(installation: Any) -> Iterator[Start]:
    """Provide a function that runs `SERVER` with mules; what still runs after the test is ended."""
    running: list[subprocess.Popen[bytes]] = []

    def run(count: int, *options: str, program: str = MULE) -> subprocess.Popen[bytes]:
        (installation.directory / "mule.py").write_text(program)
        log = (installation.directory / "log").open("wb")
        with log:
            process: subprocess.Popen[bytes] = installation.start(
                ("--log-alarm", "m ^ALARM", "--alarm-freq", "0", *options),
                sys.executable,
                "-c",
                SERVER.format(count=count),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"", timeout=60)
    assert process.returncode == 0


def got(installation: Any) -> list[str]:
    file = installation.directory / "got"
    return file.read_text().splitlines() if file.exists() else []


def pids(installation: Any) -> list[int]:
    file = installation.directory / "pids"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def is_under_way(installation: Any, messages: int, mules: int) -> bool:
    return len(got(installation)) >= messages and len(pids(installation)) == mules


def is_delivered(installation: Any, count: int) -> bool:
    alarm = installation.status().get("alarms", {}).get("m", {})
    return bool(alarm.get("delivered") == count and alarm.get("waiting") == 0)


def test_a_mule_file_for_uwsgi_runs_unchanged(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """`import uwsgi` gives it the messages, byte for byte, and its `uwsgi.alarm` fires alarms."""
    program = """
import uwsgi
uwsgi.log("the mule is at work")
while True:
    uwsgi.alarm("out", b"mule %d of worker %d: " % (uwsgi.mule_id(), uwsgi.worker_id()) + uwsgi.mule_get_msg())
"""
    options = ("--alarm", "m mule:1", "--alarm", "out cmd:cat >> out.txt", "--mule", "mule.py")
    process = start(3, *options, program=program)
    until(lambda: installation.status().get("alarms", {}).get("out", {}).get("delivered") == 3)
    end(process)
    lines = sorted((installation.directory / "out.txt").read_text().splitlines())
    assert lines == [f"mule 1 of worker 0: ALARM {n}" for n in range(3)]
    assert "the mule is at work\n" in (installation.directory / "log").read_text()


def test_killed_mules_lose_no_message(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """A mule is killed five times in a burst of 300: all messages arrive, in order, and the ledger balances."""
    process = start(300, "--alarm", "m mule:1", "--mule", "mule.py")
    for count in range(1, 6):
        until(functools.partial(is_under_way, installation, 40 * count, count))
        os.kill(pids(installation)[-1], signal.SIGKILL)
    until(lambda: len(set(got(installation))) == 300)
    until(lambda: len(pids(installation)) == 6)
    last = pids(installation)[-1]
    until(lambda: is_delivered(installation, 300))
    assert installation.status()["imbalances"] == []
    end(process)
    numbers = [int(line.removeprefix("1 ALARM ")) for line in got(installation)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(300))
    assert len(numbers) <= 305
    assert not lives(last)


def test_a_message_waits_while_no_mule_asks(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """What a mule has not taken when it is killed is there for its successor, once."""
    program = MULE.replace("    loop()", "    while not os.path.exists('go'): pass\n    loop()")
    process = start(20, "--alarm", "m mule:1", "--mule", "mule.py", program=program)
    until(lambda: len(pids(installation)) == 1)
    until(lambda: installation.status().get("alarms", {}).get("m", {}).get("waiting") == 20)
    os.kill(pids(installation)[0], signal.SIGKILL)
    (installation.directory / "go").touch()
    until(lambda: len(got(installation)) == 20)
    end(process)
    assert got(installation) == [f"1 ALARM {n}" for n in range(20)]


def test_a_killed_master_keeps_the_messages(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """The mule dies with its master, the next master's mule goes on, and nothing is lost."""
    process = start(200, "--alarm", "m mule:1", "--mule", "mule.py")
    until(lambda: len(got(installation)) >= 50)
    first = pids(installation)[0]
    os.kill(installation.status()["pid"], signal.SIGKILL)
    until(lambda: not lives(first))
    until(lambda: len(set(got(installation))) == 200)
    until(lambda: is_delivered(installation, 200))
    assert installation.status()["imbalances"] == []
    end(process)
    assert len(got(installation)) <= 200 + GATHERED + 1  # what it was done with in the last moment, and was at work at


def test_two_mules_share_what_is_for_any(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """While one mule is busy with its message, the other gets the next; and a number says which."""
    program = MULE.replace(
        "            got.write(",
        "            other = f'has-{3 - uwsgi.mule_id()}'\n"
        "            open(f'has-{uwsgi.mule_id()}', 'w').close()\n"
        "            while not os.path.exists(other): pass\n"
        "            got.write(",
    )
    options = ("--alarm", "m mule:0", "--alarm", "second mule:2", "--log-alarm", "second 0$")
    process = start(2, *options, "--mule", "mule.py", "--mule", "mule.py", program=program)
    until(lambda: len(got(installation)) == 3)
    end(process)
    lines = got(installation)
    assert {line[0] for line in lines} == {"1", "2"}
    assert sorted(line[2:] for line in lines) == ["ALARM 0", "ALARM 0", "ALARM 1"]
    assert "2 ALARM 0" in lines


def test_a_number_too_high_means_any_mule(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """`mule:7` with one mule is told at the start, as uWSGI tells it, and goes to that one."""
    process = start(1, "--alarm", "m mule:7", "--mule", "mule.py")
    until(lambda: got(installation) == ["1 ALARM 0"])
    end(process)
    assert "invalid mule number 7 (1 mules available), fallback to 0" in (installation.directory / "log").read_text()


def test_a_message_that_breaks_the_mule_stops_nothing(
    installation: Any, start: Start, until: Callable[..., None]
) -> None:
    """A mule that raises says why and is started again; the message that broke five of them is a dead letter."""
    program = MULE.replace(
        '        with open("got"', "        assert b'ALARM 1' not in message\n        with open(\"got\""
    )
    process = start(3, "--alarm", "m mule:1", "--mule", "mule.py", program=program)
    until(lambda: got(installation) == ["1 ALARM 0", "1 ALARM 2"])
    alarm = installation.status()["alarms"]["m"]
    assert alarm["dead"] == {"refused": 1}
    assert installation.status()["imbalances"] == []
    end(process)
    log = (installation.directory / "log").read_text()
    assert log.count("AssertionError") == 5
    assert "mule 1 (pid " in log
    assert "5 mules died while they were working at this message" in log


def test_the_last_message_of_a_program_that_ends_is_done(
    installation: Any, start: Start, until: Callable[..., None]
) -> None:
    """Files, modules and functions can be mules; a thread or a program that ends is done with what it had."""
    program = """
import threading
import alarm_mw

def note():
    message = alarm_mw.mule_get_msg(timeout=30)
    with open("got", "ab") as got:
        got.write(message)

def run():
    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    note()
    print("waited", alarm_mw.mule_get_msg(timeout=0), flush=True)
"""
    process = start(2, "--alarm", "m mule:", "--mule", "mule:run", program=program)
    until(lambda: is_delivered(installation, 2))
    end(process)
    assert got(installation) == ["ALARM 0", "ALARM 1"]
    assert "waited None\n" in (installation.directory / "log").read_text()


def test_an_alarm_for_mules_needs_one(installation: Any) -> None:
    """Without `--mule`, a `mule:` alarm is a warning of uWSGI's options, and a mistake for `alarm_mw.init`."""
    result = installation.run(("--alarm", "m mule:"), "true")
    assert result.returncode == 0
    assert b"--alarm (1st): warning: alarm 'm' needs a mule, and none is configured" in result.stderr
    (installation.directory / "a.toml").write_text('mules = ["a.py"]\n[alarms]\nm = "mule:"\n')
    program = "import alarm_mw\ntry: alarm_mw.init('a.toml')\nexcept alarm_mw.errors.OptionError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=installation.directory, capture_output=True, text=True, check=True
    )
    assert done.stdout == "alarm 'm' needs a mule, and alarm-mw run --mule FILE is what starts mules\n"


def test_what_the_shim_lacks_is_told(installation: Any, start: Start, until: Callable[..., None]) -> None:
    """A function of uWSGI's that is not there is an AttributeError that says so; waiting can have a limit."""
    program = """
import uwsgi
import alarm_mw
def handler(number): pass
uwsgi.register_signal(17, "mule", handler)
try:
    uwsgi.cache_get("x")
except AttributeError as error:
    message = str(error)
uwsgi.mule_get_msg(timeout=30)
with open("got", "w") as got:
    print(uwsgi.mule_get_msg(timeout=0), uwsgi.signal_registered(17), uwsgi.signal_registered(18), file=got)
    print(uwsgi.i_am_the_spooler(), uwsgi.masterpid() > 1, uwsgi.version[:1], uwsgi.mule_id(), file=got)
    print(message, file=got)
"""
    process = start(1, "--alarm", "m mule:", "--mule", "mule.py", program=program)
    until(lambda: is_delivered(installation, 1))
    end(process)
    first, second, message = got(installation)
    assert first == "b'' True False"
    assert second == "False True b'2' 1"
    assert "no 'cache_get'" in message
    assert "Redis" in message
