"""``alarm-mw top`` with a running server: in a real terminal, with its keys, and printed once."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest
from waiting import LIMIT, PAUSE, wait_until
from waiting import until as soon

from alarm_mw.cli.top.app import Listing, Page, Top
from alarm_mw.cli.top.masters import Masters
from alarm_mw.transports.places import SOCKET_NAME, control_path

CONFIG = """
name = "shop"
[alarms.mail]
action = "cmd"
command = "cat > /dev/null"
[alarms.sms]
action = "cmd"
command = "test -e mended"
[[rules]]
name = "payments"
pattern = 'payment failed: (?P<why>.*)'
key = ["why"]
resolve_after = "1h"
alarms = ["mail", "sms"]
labels = { severity = "critical" }
[[rules]]
name = "db"
pattern = 'lost replica (?P<db>\\S+)'
key = ["db"]
resolve_after = "1h"
alarms = ["mail"]
labels = { severity = "warning" }
"""

SERVER = "echo 'payment failed: card processor unreachable'; printf 'lost replica eu-%d\\n' 1 2 3; exec sleep 600"


@pytest.fixture
def server(installation: Any, until: Callable[..., None]) -> Iterator[Any]:
    """Run a server with four incidents, of which one could not be told to one of its alarms."""
    (installation.directory / "alarms.toml").write_text(CONFIG)
    process = installation.start(["--config", "alarms.toml"], "sh", "-c", SERVER, stdout=subprocess.DEVNULL)
    until(lambda: installation.status().get("letters"))
    until(lambda: installation.status()["alarms"]["mail"]["delivered"] == 4)
    yield installation
    process.terminate()
    process.wait(60)


class Terminal:
    """A terminal of 80 columns and 24 lines, and the command that runs in it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        #: All bytes that were written to it.
        self.written = b""

    def lines(self) -> list[str]:
        """Return what is on the screen, as far as it was written so far."""
        while select.select([self._descriptor], [], [], PAUSE)[0]:
            try:
                read = os.read(self._descriptor, 65536)
            except OSError:  # the command has ended
                break
            self.written += read
            self._stream.feed(read)
        return [line.rstrip() for line in self._screen.display]

    def shows(self, text: str) -> None:
        """Wait until a text is on the screen."""
        wait_until(lambda: any(text in line for line in self.lines()))

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())


@contextmanager
def top_in_terminal(installation: Any, **environ: str) -> Iterator[Terminal]:
    """Run the command in a terminal, as after a login over ssh."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [installation.command, "top", "--state-dir", str(installation.state_dir)]
    bare = {
        name: value for name, value in installation.environ.items() if not name.startswith(("LC_", "LANG", "NO_COLOR"))
    }
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env={**bare, "TERM": "xterm-256color", **environ}
    ) as process:
        os.close(slave)
        terminal = Terminal(master)
        try:
            yield terminal
            terminal.type("q")
            wait_until(lambda: terminal.lines() and process.poll() is not None)
            assert process.returncode == 0
        finally:
            process.kill()
            os.close(master)


def test_a_night_in_a_terminal(server: Any) -> None:
    """Seen, opened, acknowledged with a comment and filtered, by keys; each line fits into 80 columns."""
    with top_in_terminal(server, LANG="C.UTF-8") as terminal:
        terminal.shows("shop: 4 incidents, 1 dead letter, the ledger balances")
        lines = terminal.lines()
        assert lines[1].startswith("● CRITICAL payments      payment failed: card processor unrea…")
        assert lines[1].endswith("1 ×")
        assert "mail ✓ sms ✗" in lines[2]
        assert lines[-1] == "j k move  Enter open  a ack  s silence  r retry  / filter  ? keys  q leave"
        terminal.type("\r")
        terminal.shows("CRITICAL payment failed: card processor unreachable")
        terminal.shows("firing         sms")
        terminal.type("a")
        terminal.shows("acknowledge payments, comment:")
        terminal.type("on it\r")
        terminal.shows("acknowledged")
        terminal.type("\x1b")
        terminal.shows("left: on it")
        terminal.type("/eu-2\r")
        terminal.shows("/ eu-2")
        wait_until(lambda: len([line for line in terminal.lines() if "replica" in line]) == 1)
        terminal.type("\x1b")
        terminal.shows("eu-3")
        terminal.type("s")
        terminal.shows('silence rule="db", db="eu-2" for:')
        terminal.type("deployment\r")
        terminal.shows("for 2 h")
        terminal.type("s")
        terminal.shows("2h")
        terminal.type("\x15")
        wait_until(lambda: terminal.lines()[-1] == "")
        terminal.type("soon\r")
        terminal.shows("as in 2h deployment, got 'soon'")
        terminal.type("?")
        terminal.shows("Enter       open the incident")
        terminal.type("\x1b")
        terminal.shows("eu-3")
    ((matchers, silence),) = server.status()["silences"].items()
    assert (matchers, silence["comment"]) == ('db="eu-2", rule="db"', "deployment")


def test_a_terminal_without_colors_and_unicode(server: Any) -> None:
    """With NO_COLOR and the locale C no color and nothing but ASCII is written; the selection is in reverse."""
    with top_in_terminal(server, LC_ALL="C", NO_COLOR="1") as terminal:
        terminal.shows("* CRITICAL payments")
        terminal.shows("mail + sms !")
        terminal.type("jja")
        terminal.shows("acknowledge db")
        terminal.type("\x1b")
        terminal.shows("j k move")
    assert terminal.written.isascii()
    codes = {
        code
        for part in terminal.written.split(b"\x1b[")[1:]
        if (code := part.partition(b"m")[0]).replace(b";", b"").isdigit()
    }
    assert {b"0", b"7;39;49"} <= codes
    colors = {int(number) for code in codes for number in code.split(b";") if number} - {0, 1, 2, 7, 39, 49}
    assert colors == set()


async def _on(masters: Masters, act: Callable[..., Any]) -> None:
    app = Top(masters)
    async with app.run_test(size=(80, 24)) as pilot, asyncio.timeout(LIMIT):
        await soon(lambda: app.row is not None)
        await act(app, pilot)


def test_a_retry_asks_with_the_number(server: Any) -> None:
    """The dead letters of the selected incident are put back when the answer is yes; of none, that is said."""
    masters = Masters(lambda: [str(server.state_dir / SOCKET_NAME)])

    async def act(app: Top, pilot: Any) -> None:
        (server.directory / "mended").touch()
        await pilot.press("r")
        await soon(lambda: "retry 1 dead letter?" in str(app.screen.query("Question Static").first().render()))
        await pilot.press("y", "enter")
        await soon(lambda: app.row is not None and app.row.incident.delivery["sms"] == "delivered")
        await pilot.press("r")
        await soon(lambda: "no dead letters" in str(app.screen.query_one("#message").render()))

    asyncio.run(_on(masters, act))
    assert server.status()["letters"] == 0


def test_the_selection_stays_with_its_incident(server: Any) -> None:
    """What becomes more or less important moves; the selected incident stays selected."""
    masters = Masters(lambda: [str(server.state_dir / SOCKET_NAME)])

    async def act(app: Top, pilot: Any) -> None:
        listing = app.query_one(Listing)
        await pilot.press("j", "a")
        await pilot.press("o", "k", "enter")
        await soon(lambda: listing.highlighted == 3)
        assert app.row is not None
        assert app.row.incident.rule == "db"
        await pilot.press("g")
        assert app.row.incident.rule == "payments"
        await pilot.press("G", "k", "j", "enter")
        await soon(lambda: isinstance(app.screen, Page))
        await pilot.press("j", "k", "G", "g", "escape")
        await soon(lambda: not isinstance(app.screen, Page))
        await pilot.resize_terminal(60, 20)
        await soon(lambda: listing.size.width == 60)

    asyncio.run(_on(masters, act))


def test_a_master_that_is_away_is_named(server: Any) -> None:
    """What it said last stays on the screen, and its next answer is shown."""
    real = str(server.state_dir / SOCKET_NAME)
    masters = Masters(lambda: [real])
    control, away = Path(control_path(real)), server.directory / "away"

    def shows(part: str, text: str, app: Top) -> bool:
        if control.exists():  # the master makes it again when it sees that it is gone
            control.rename(away)
        return text in str(app.query_one(part).render())

    def put_back() -> None:
        if not control.exists():
            away.rename(control)

    async def act(app: Top, pilot: Any) -> None:
        await soon(lambda: shows("#verdict", "shop does not answer", app))
        assert app.row is not None
        await pilot.press("enter")
        await soon(lambda: shows("#message", "no master answers", app))
        put_back()
        await soon(lambda: "shop does not answer" not in str(app.query_one("#verdict").render()))

    asyncio.run(_on(masters, act))


def _once(installation: Any, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    command = [installation.command, "top", *arguments, "--state-dir", str(installation.state_dir)]
    environ = {name: value for name, value in installation.environ.items() if name != "COLUMNS"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ, **keywords)


def test_it_is_printed_once(server: Any) -> None:
    """With --once, also where textual is missing; nothing is cut off in a pipe, and filters apply."""
    done = _once(server, "--once", "--unicode", "--filter", "severity=critical")
    assert done.returncode == 0, done.stderr
    verdict, first, second = done.stdout.splitlines()
    assert verdict == "4 incidents, 1 dead letter, the ledger balances"
    assert "payment failed: card processor unreachable  " in first
    assert "mail ✓ sms ✗" in second
    hidden = "import sys; sys.modules['textual'] = None; from alarm_mw.cli.main import main; main()"
    command = [sys.executable, "-c", hidden, "top", "--once", "--ascii", "--state-dir", str(server.state_dir)]
    bare = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=server.environ).stdout
    assert bare.isascii()
    assert len(bare.splitlines()) == 9
    quiet = _once(server, "--once", "--filter", "nothing").stdout
    assert "4 lines seen, 5 matched" in quiet


def test_without_a_terminal_once_is_named(server: Any) -> None:
    """Live, it needs a terminal; the error names the option that does not."""
    done = _once(server, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--once" in done.stderr


def test_without_a_master_it_says_so(installation: Any) -> None:
    """The exit status is 1."""
    done = _once(installation, "--once")
    assert done.returncode == 1
    assert "no master answers" in done.stderr


def test_without_textual_the_extra_is_named(installation: Any) -> None:
    """The error says what to install, and what works without it."""
    hidden = "import sys; sys.modules['textual'] = None; from alarm_mw.cli.main import main; main()"
    master, slave = pty.openpty()
    command = [sys.executable, "-c", hidden, "top", "--state-dir", str(installation.state_dir)]
    done = subprocess.run(
        command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(master)
    os.close(slave)
    assert done.returncode == 2
    assert "pip install 'alarm-mw[top]'" in done.stderr
    assert "--once" in done.stderr


def test_several_servers_of_one_host(installation: Any, until: Callable[..., None]) -> None:
    """`status` names them with a summary of each, and `top --all` shows the incidents of all, with their servers."""
    (installation.directory / "alarms.toml").write_text(CONFIG.replace('name = "shop"', "", 1))

    def say(*arguments: str) -> str:
        command = [installation.command, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=installation.environ
        ).stdout

    with ExitStack() as stack:
        for name, line in (("shop", "lost replica eu-1"), ("blog", "lost replica us-1")):
            command = [installation.command, "run", "--config", "alarms.toml", "--name", name]
            server = stack.enter_context(
                subprocess.Popen(
                    [*command, "--", "sh", "-c", f"echo {line}; exec sleep 600"],
                    cwd=installation.directory,
                    env=installation.environ,
                    stdout=subprocess.DEVNULL,
                )
            )
            stack.callback(server.terminate)
        until(lambda: say("status").count("1 incident, the ledger balances") == 2)
        assert re.search(r"shop +│ 1 incident", say("status"))
        shown = say("top", "--all", "--once", "--unicode")
        assert re.search(r"lost replica eu-1.*\n +shop · db=eu-1", shown)
        assert re.search(r"lost replica us-1.*\n +blog · db=us-1", shown)
        assert say("status", "--name", "blog").startswith("blog: 1 incident, the ledger balances\n")
