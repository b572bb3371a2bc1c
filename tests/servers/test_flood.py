"""A flood under ``alarm-mw run``: a person is woken once, told how many there were, and the output passes."""

from __future__ import annotations

import os
import pwd
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.engine.flood_control.pending_digest import PendingDigest
from alarm_mw.engine.memory import Memory

LINES = 100_000

#: Prints lines that all match, each another one, whenever it is told how many.
SERVER = """
import os, sys
begin = 0
for word in sys.stdin:
    end = begin + int(word)
    data = "".join(f"TERRIBLE ALARM number {n}: the database is gone\\n" for n in range(begin, end)).encode()
    begin = end
    while data:
        data = data[os.write(1, data):]
"""

CONFIG = """
[alarms.a]
action = "cmd"
command = "echo $ALARM_SOURCE $ALARM_HELD_BACK >> told.txt; cat >> messages.txt"
limits = { rate = "RATE", for_humans = true, repeat_after = 0 }

[[rules]]
pattern = "^TERRIBLE ALARM"
alarms = "a"
"""


class Flood:
    """A server that floods when it is told to."""

    def __init__(self, installation: Any, rate: str, until: Callable[..., None]) -> None:
        self.directory: Path = installation.directory
        (self.directory / "a.toml").write_text(CONFIG.replace("RATE", rate))
        self._installation = installation
        self._until = until
        with (self.directory / "output").open("wb") as output:
            options = ("--config", "a.toml")
            self.process = installation.start(
                options, sys.executable, "-c", SERVER, stdin=-1, stdout=output, stderr=output
            )

    def pour(self, n: int) -> None:
        self.process.stdin.write(b"%d\n" % n)
        self.process.stdin.flush()

    def row(self) -> dict[str, Any]:
        alarms: dict[str, dict[str, Any]] = self.status()["alarms"]
        return alarms.get("a", {"matched": 0, "fired": 0, "digests": 0, "held_back": {}})

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def answers() -> bool:
            found.update(self._installation.status())
            return bool(found)

        self._until(answers)
        return found

    def told(self) -> list[tuple[str, int]]:
        """Return the source of each message that was sent, and how many more it told of."""
        file = self.directory / "told.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(source, int(number)) for source, number in map(str.split, lines)]

    def pending(self) -> PendingDigest:
        """Return what the outbox holds of what nobody has been told yet."""
        database = sqlite3.connect(self._installation.state_dir / "outbox.db")
        ((saved,),) = database.execute("SELECT data FROM memory")
        database.close()
        return Memory.loads(saved, 0.0, time.time()).held_back.alarms["a"]

    def end(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(60) == 0

    def numbers(self) -> list[int]:
        """Return the numbers of the lines that were passed on.

        The log of the master goes to the same file, and a new master's first line may come within a word of output.
        """
        output = re.sub(
            r"\d{4}-\d\d-\d\d \S+ alarm-mw: WARNING: the master before .*\n",
            "",
            (self.directory / "output").read_text(),
        )
        return [int(line.split()[3][:-1]) for line in output.splitlines()]


@pytest.fixture
def start(installation: Any, until: Callable[..., None]) -> Iterator[Callable[[str], Flood]]:
    """Start floods of alarms with the rate that is given."""
    with ExitStack() as ends:

        def started(rate: str) -> Flood:
            flood = Flood(installation, rate, until)
            ends.callback(flood.process.wait, 60)
            ends.callback(flood.process.stdin.close)
            return flood

        yield started


def test_a_flood_is_a_few_messages_whose_numbers_add_up(
    start: Callable[[str], Flood], until: Callable[..., None]
) -> None:
    """At most the messages of the rate go out, they account for every line, and memory and output stay as they were."""
    flood = start("2/3s")
    flood.status()
    begin = time.monotonic()
    flood.pour(LINES)
    until(lambda: flood.row()["matched"] == LINES)
    until(lambda: sum(n + (source != "digest") for source, n in flood.told()) == LINES)
    took = time.monotonic() - begin
    status = flood.status()
    memory = Path(f"/proc/{status['pid']}/status").read_text().partition("VmHWM:")[2].split()[0]
    flood.end()
    row = status["alarms"]["a"]
    assert status["imbalances"] == []
    assert row["fired"] == len(flood.told()) <= 2 * (took // 3 + 1)
    assert row["digests"] >= 1
    assert row["held_back"] == {"rate": LINES - row["fired"] + row["digests"]}
    assert "more since" in (flood.directory / "messages.txt").read_text()
    assert int(memory) < 100_000
    assert flood.numbers() == list(range(LINES))


def test_a_killed_master_wakes_nobody_again(start: Callable[[str], Flood], until: Callable[..., None]) -> None:
    """A master that is killed in a flood is followed by one that goes on where it was, limits and numbers included."""
    flood = start("1/1h")
    first = flood.status()["pid"]
    flood.pour(LINES)
    until(lambda: flood.row()["matched"] == LINES)
    until(lambda: flood.pending().count == LINES - 1)
    flood.pour(LINES)
    until(lambda: flood.row()["matched"] > LINES)
    os.kill(first, signal.SIGKILL)
    until(lambda: flood.status()["pid"] != first)
    flood.pour(1)
    flood.end()
    assert flood.numbers() == list(range(2 * LINES + 1))
    assert flood.told() == [("stdout", 0)]
    pending = flood.pending()
    assert LINES <= pending.count <= 2 * LINES
    assert pending.first == b"TERRIBLE ALARM number 1: the database is gone\n"
    assert pending.last == b"TERRIBLE ALARM number %d: the database is gone\n" % (2 * LINES)


def test_a_silence_is_a_command(installation: Any, start: Callable[[str], Flood], until: Callable[..., None]) -> None:
    """Whoever silences an alarm hears nothing of it, sees that in the status, and is told at the end what there was."""

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        arguments = [installation.command, *words, "--state-dir", str(installation.state_dir)]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)

    flood = start("1/1h")
    flood.status()
    silenced = command("silence", "a", "--for", "1h", "--comment", "deployment")
    me = pwd.getpwuid(os.getuid()).pw_name
    assert re.fullmatch(
        rf"alarm a is silenced until \S+ \S+ by {me}: deployment\ncovers 0 of 0 open incidents\n", silenced.stderr
    ), silenced
    assert str(uuid.UUID(silenced.stdout.strip())) + "\n" == silenced.stdout
    flood.pour(10)
    until(lambda: flood.row()["held_back"] == {"silenced": 10})
    shown = command("status").stdout
    assert "alarm a is silenced until" in shown
    assert ": deployment" in shown
    assert flood.told() == []
    assert command("unsilence", "a").stdout == "no silences\n"
    until(lambda: flood.told() == [("digest", 10)])
    assert flood.status()["silences"] == {}
    mistaken = command("silence", "b", "--for", "1h")
    assert (mistaken.returncode, mistaken.stderr) == (2, "alarm-mw: unknown alarm 'b'; there are: a\n")
    incomplete = command("silence", "aa").stderr
    assert "no duration given: give --for" in incomplete
    assert "unknown alarm 'aa' (did you mean 'a'?); there are: a" in incomplete
    assert "expected a time such as" in command("silence", "a", "--for", "long").stderr
    assert command("silence").stdout == "no silences\n"
    misspelled = command("silence", 'alarm="b"', "--for", "1h")
    assert misspelled.stderr.endswith("covers 0 of 0 open incidents\nwarning: there is no alarm 'b'\n")
    command("unsilence", "--all")
    everything = command("silence", "--all", "--for", "1h").stdout.strip()
    assert command("silence").stdout.startswith(f'{everything}  alarm=~".+" is silenced until ')
    assert command("unsilence", "--all").stdout == "no silences\n"
    flood.end()


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["silence", "a"], "no duration given: give --for"),
        (["silence", "--all"], "no duration given: give --for"),
        (["silence", "--for", "1h"], "no alarm given: name one, give matchers, or give --all"),
        (["silence", "a", "--all", "--for", "1h"], "not both"),
        (["silence", "--list", "a"], "--list with an alarm"),
        (["silence", "a", "--for", "1h", "--json"], "give it with --list"),
        (["silence", "a", "--for", "1h", "--start", "later"], "expected a time such as 2026-11-30T22:00"),
        (["unsilence", "a", "--all"], "not both"),
        (["unsilence"], "no silence given: give its id, its alarm or its matchers, or --all"),
    ],
)
def test_a_silence_needs_an_alarm_and_a_time(installation: Any, words: list[str], advice: str) -> None:
    """What is missing is named."""
    done = subprocess.run([installation.command, *words], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, advice in done.stderr) == (2, True), done.stderr


def test_of_several_servers_each_is_known_by_its_command(installation: Any, until: Callable[..., None]) -> None:
    """Where one has to be chosen, command and directory are shown; `status --all` shows all of them."""

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        arguments, environ = [installation.command, *words], {**installation.environ, "ALARM_MW_SOCKET": ""}
        return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False, env=environ)

    home = installation.directory / "xdg" / "alarm-mw"
    home.mkdir(parents=True)
    waiting = (sys.executable, "-I", "-S", "-c", "input()", "alarm-mw", "hub")  # as `alarm-mw hub` does
    for name, server in (("shop-1f2e", ("sh", "-c", "read 2e")), ("shop-3d4c", waiting)):
        options = ("--state-dir", str(home / name), "--alarm", "a log:", "--log-alarm", "a x")
        installation.start(options, *server, stdin=-1, stdout=-1, stderr=-1)
    until(lambda: command("status", "--all", "--json").stdout.count('"server_pid"') == 2)
    asked = command("status", "--json")
    assert asked.returncode == 1
    assert f"--name shop-1f2e   (sh -c 'read 2e' in {installation.directory})" in asked.stderr
    assert f"--name shop-3d4c   (alarm-mw hub in {installation.directory})" in asked.stderr
    both = command("status", "--all")
    assert both.returncode == 0
    assert [line.rpartition("/")[2] for line in both.stdout.splitlines() if line.startswith("state in ")] == [
        "shop-1f2e",
        "shop-3d4c",
    ]
    assert "cannot be combined" in command("status", "--all", "--prometheus").stderr
