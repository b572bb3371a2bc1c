"""``alarm-mw status``, where no master answers; tests/servers has those where one does."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main
from alarm_mw.transports import control
from alarm_mw.transports.places import SOCKET_NAME, control_path


def status(home: Path, *arguments: str) -> Result:
    environ = {"XDG_STATE_HOME": str(home), "ALARM_MW_SOCKET": ""}
    return CliRunner().invoke(main, ["status", *arguments], env=environ)


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a directory whose path leaves room for the name of a socket, wherever the tests run."""
    with tempfile.TemporaryDirectory(prefix="amw-") as name:
        yield Path(name)


def listen(home: Path, name: str) -> socket.socket:
    directory = home / "alarm-mw" / name
    directory.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(directory / SOCKET_NAME))
    listener.listen()
    return listener


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    """The exit status is 1, and the option that helps is named."""
    result = status(tmp_path)
    assert result.exit_code == 1
    assert "--state-dir" in result.stderr


def test_a_state_directory_without_a_master_is_named(tmp_path: Path) -> None:
    """Where nobody answers, the place is shown."""
    result = status(tmp_path, "--state-dir", str(tmp_path))
    assert result.exit_code == 1
    assert str(tmp_path) in result.stderr


def test_of_several_servers_one_must_be_chosen(home: Path) -> None:
    """They are listed by the names that select them; a hash stands only where two would have the same name."""
    names = ("shop", "gunicorn-0a1b2c3d", "uvicorn-0a1b2c3d", "uvicorn-0a1b2c3d-2")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(listen(home, name))
        result = status(home, "--json")
    assert result.exit_code == 1
    options = [line.split()[1] for line in result.stderr.splitlines() if line.startswith("  --name")]
    assert sorted(options) == ["gunicorn", "shop", "uvicorn-0a1b2c3d", "uvicorn-0a1b2c3d-2"]


def test_several_servers_are_summed_up(home: Path) -> None:
    """Without options, there is a line for each, with its name and how it is."""
    with listen(home, "shop"), listen(home, "gunicorn-0a1b2c3d"):
        result = status(home)
    assert result.exit_code == 0
    assert re.search(r"shop +│ no master answers", result.output)
    assert re.search(r"gunicorn +│ no master answers", result.output)
    assert "--name gunicorn" in result.output


def test_a_name_selects_a_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of its program does too; of a wrong name, the one that was meant is named."""
    monkeypatch.setattr(control, "TIMEOUT", 0.1)  # no master starts here
    with listen(home, "shop"), listen(home, "gunicorn-0a1b2c3d"):
        assert "alarm-mw/gunicorn-0a1b2c3d/" in status(home, "--name", "gunicorn").stderr
        wrong = status(home, "--name", "shpo")
    assert wrong.exit_code == 1
    assert "there is no server 'shpo'" in wrong.stderr
    assert "did you mean 'shop'?" in wrong.stderr


ROW = {"lines": 1, "screened_out": 1, "matched": 0, "skipped": {}, "oversized": 0, "lost_bytes": 0}
CONFIGURATION = {"generation": 0, "read_at": 0.0, "files": {}, "refused": []}
ANSWER = {
    "pid": 1,
    "server_pid": 2,
    "masters_replaced": 0,
    "state_dir": "/x",
    "configuration": CONFIGURATION,
    "sources": {},
    "alarms": {},
    "rules": {},
    "unmatched": [],
    "failing": {},
    "long_since": {},
    "letters": 0,
    "silences": {"a": {"seconds": 60.0, "comment": "deployment"}, "b": {"seconds": 60.0, "comment": ""}},
    "imbalances": [],
    "followed": None,
    "findings": [],
}


@contextmanager
def answering(folder: Path, answer: dict[str, Any]) -> Iterator[None]:
    """Answer one question at the control socket of the records socket ``s`` in `folder`."""
    body = json.dumps(answer).encode()
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as executor:
        listener.bind(control_path(str(folder / "s")))
        listener.listen()
        listener.settimeout(10.0)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        served = executor.submit(serve)
        yield
        served.result()


def show(folder: Path, **answer: Any) -> str:
    with answering(folder, {**ANSWER, **answer}):
        result = status(folder, "--socket", str(folder / "s"))
    assert result.exit_code == (3 if answer.get("imbalances") else 0), result.output
    return result.output


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """What an application calls its sources is neither markup nor a command for the terminal."""
    names = ("[/red]", "[bold]x[/bold]", "\x1b]0;title\x07", "\\")
    row = {**ROW, "skipped": {"[/blue]": 5}}
    shown = show(tmp_path, sources=dict.fromkeys(names, row), state_dir="/[/red]", imbalances=["source [/red]: 1 != 2"])
    assert all(text in shown for text in ("│ [/red]", "[bold]x[/bold]", "\\x1b]0;title\\x07", "│ \\ "))
    assert "source [/red]: skipped: 5 [/blue]" in shown
    assert "state in /[/red]" in shown
    assert "source [/red]: 1 != 2" in shown
    assert "\x1b]" not in shown


def test_what_is_rare_is_shown_where_it_happened(tmp_path: Path) -> None:
    """Oversized lines and lost bytes are said when there are some."""
    shown = show(tmp_path, sources={"stdout": ROW})
    assert "oversized" not in shown
    assert "lost bytes" not in shown
    Path(control_path(str(tmp_path / "s"))).unlink()
    shown = show(tmp_path, sources={"stdout": ROW, "stderr": {**ROW, "oversized": 77, "lost_bytes": 88}})
    assert "\nsource stderr: oversized: 77; lost bytes: 88\n" in shown


ALARM = {"matched": 99, "fired": 50, "held_back": {}, "delivered": 47, "waiting": 0, "dead": {}, "dropped": {}}


def test_the_tables_fit_into_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No header is broken, however many reasons there are: they are said below the tables."""
    monkeypatch.setenv("COLUMNS", "80")
    held = {"same_message": 12_345, "alarm_rate": 4}
    row = {**ALARM, "matched": 1_234_567, "held_back": held, "dead": {"refused": 3}, "dropped": {"outbox_full": 1}}
    shown = show(tmp_path, alarms={"jabber-of-the-night": row}, sources={"stdout": {**ROW, "skipped": {"loop": 5}}})
    (header,) = (line for line in shown.splitlines() if "fired" in line and "┃" in line)
    names = [cell.strip() for cell in header.strip("┃").split("┃")]
    assert names == ["alarm", "matched", "fired", "held back", "delivered", "waiting", "dead", "dropped"]
    assert max(len(line) for line in shown.splitlines() if line[:1] in "┃│") <= 80
    below = "held back: 12345 same_message, 4 alarm_rate; dead: 3 refused; dropped: 1 outbox_full"
    assert f"\nalarm jabber-of-the-night: {below}\n" in shown


def test_what_was_retried_is_said(tmp_path: Path) -> None:
    """Dead letters that were retried and delivered do not look like dead ones."""
    row = {**ALARM, "dead": {"refused": 3}, "retried": 3}
    shown = show(tmp_path, alarms={"hook": row})
    assert "alarm hook: dead: 3 refused; dead letters that were retried since: 3" in shown


@pytest.mark.parametrize(
    ("alarms", "text"),
    [
        (["jabber", "hook"], "nothing has matched yet for jabber, hook\n"),
        ([f"a{n}" for n in range(22)], "a18, a19 and 2 more\n"),
    ],
)
def test_alarms_for_which_nothing_has_matched_are_named(tmp_path: Path, alarms: list[str], text: str) -> None:
    """Where an alarm stands in no table, it is seen that it is configured; of very many, the first are named."""
    assert text in show(tmp_path, unmatched=alarms)


def test_an_alarm_that_fails_is_named(tmp_path: Path) -> None:
    """Since when, how often and why; what a receiver says cannot reach the terminal's controls."""
    later = time.time() + 1000.0
    jabber = {"since": 0.0, "failures": 7, "error": "refused \x1b[2J", "is_open": True, "next_at": later}
    hook = {"since": 0.0, "failures": 1, "error": "500", "is_open": False, "next_at": 0.0}
    with answering(tmp_path, {**ANSWER, "failing": {"jabber": jabber, "hook": hook}}):
        result = status(tmp_path, "--socket", str(tmp_path / "s"))
    assert result.exit_code == 0
    shown = f"tried with one firing at a time, next at {time.strftime('%H:%M:%S', time.localtime(later))}: refused"
    assert re.search(rf"alarm jabber: 7 failed attempts since (1970|1969)-\S+ \S+, {shown}", result.stdout)
    assert re.search(r"alarm hook: 1 failed attempt since \S+ \S+: 500", result.stdout)
    assert "\x1b[2J" not in result.stdout


@pytest.mark.parametrize(
    ("n", "text"), [(0, None), (1, "1 dead letter, see `alarm-mw dead`"), (2, "2 dead letters, see `alarm-mw dead`")]
)
def test_dead_letters_that_lie_there_are_told_of(tmp_path: Path, n: int, text: str | None) -> None:
    """The table counts those that were put back or dropped since as well."""
    lines = show(tmp_path, letters=n).splitlines()
    assert lines[0].startswith("no incidents, " if text is None else f"no incidents, {text.partition(', see')[0]}, ")
    assert [line for line in lines[1:] if "letter" in line] == ([] if text is None else [text])


def test_the_configuration_in_force_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it was read, how often again, and its files, near ones by their names; each that has changed says so."""
    monkeypatch.chdir(tmp_path)
    files = {str(tmp_path / "alarm-mw.toml"): True, "/etc/uwsgi.ini": False}
    shown = show(tmp_path, configuration={**CONFIGURATION, "generation": 2, "files": files})
    (line,) = (line for line in shown.splitlines() if line.startswith("configuration of "))
    assert line.endswith(", reloaded 2 times: alarm-mw.toml, /etc/uwsgi.ini (changed since: `alarm-mw reload`)")


def test_a_configuration_that_was_refused_is_told_of(tmp_path: Path) -> None:
    """Status shows for a file that is reloaded automatically why it is not in force, until it is."""
    shown = show(tmp_path, configuration={**CONFIGURATION, "refused": ["a.toml:1: no [b]", "1 problem"]})
    assert "a later configuration was refused:\n  a.toml:1: no [b]\n  1 problem\n" in shown


def test_an_attempt_that_takes_long_is_named(tmp_path: Path) -> None:
    """A command that hangs may be what keeps an alarm from all others."""
    (line,) = [line for line in show(tmp_path, long_since={"mail": time.time() - 45}).splitlines() if "mail" in line]
    assert re.fullmatch(r"alarm mail: an attempt has been running for 4[5-9] s, since \d\d:\d\d:\d\d", line)


@pytest.mark.parametrize(
    ("replaced", "line"),
    [
        (0, "master 1, server 2"),
        (1, "master 1, server 2; 1 earlier master was replaced, see the log"),
        (3, "master 1, server 2; 3 earlier masters were replaced, see the log"),
    ],
)
def test_masters_that_were_replaced_are_counted(tmp_path: Path, replaced: int, line: str) -> None:
    """A master that was killed in the night is seen in the morning."""
    assert show(tmp_path, masters_replaced=replaced).splitlines()[1] == line
