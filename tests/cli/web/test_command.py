"""``alarm-mw web``: users for the configuration. Its links are tried with a real server, where the page is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ports import free_port
from waiting import LIMIT, wait_until
from web_server import Server, logged_in

from alarm_mw.cli.main import main
from alarm_mw.config.load import load
from alarm_mw.config.sources import Sources
from alarm_mw.web.security.passwords import is_password


def test_a_user_for_the_configuration(tmp_path: Path) -> None:
    """What is printed can be written into the file as it is, and has a hash in place of the password."""
    done = CliRunner().invoke(main, ["web", "--add-user", "kim", "--read"], input="correct horse\ncorrect horse\n")
    assert done.exit_code == 0
    file = tmp_path / "alarm-mw.toml"
    file.write_text(done.stdout[done.stdout.index("[[web.users]]") :])
    (user,) = load(Sources.of_files([str(file)]), {}).web.users
    assert (user.name, user.role) == ("kim", "read")
    assert is_password("correct horse", user.password)
    assert not is_password("wrong horse", user.password)


def test_a_name_that_is_none() -> None:
    """It is refused, with what is expected."""
    done = CliRunner().invoke(main, ["web", "--add-user", "k m"], input="a\na\n")
    assert done.exit_code == 2
    assert "alarm-mw: name: expected letters, digits and any of ._@+-, got 'k m'" in done.output


def test_without_a_server(tmp_path: Path) -> None:
    """The exit status is 1, and the error says where it was looked for."""
    done = CliRunner().invoke(main, ["web", "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "no master answers" in done.output


def test_a_page_of_all_servers(tmp_path: Path) -> None:
    """The command serves it at the given address, prints a URL that logs in, and ends at Ctrl-C."""
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "home")}
    server = Server(tmp_path, '[alarms.a]\naction = "log"\n', state=tmp_path / "home" / "alarm-mw" / "shop")
    listen = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "alarm_mw", "web", "--all", "--listen", listen]
    try:
        with subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as page:
            assert page.stdout is not None
            with logged_in(page.stdout.readline().strip()) as browser:
                wait_until(lambda: "shop" in browser.get("/").text)
            taken = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False)
            page.send_signal(signal.SIGINT)
            assert page.wait(LIMIT) == 0
    finally:
        server.stop()
    assert taken.returncode == 2
    assert f"the page cannot be served at {listen}: " in taken.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["--all"], 1, "no server is running"),
        (["--listen", "127.0.0.1:8420"], 2, "--listen is for --all"),
    ],
)
def test_nothing_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, error: str
) -> None:
    """Without a server, or with an option that has no use, the error says so."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["web", *arguments])
    assert done.exit_code == status
    assert error in done.output


def test_plain_http_for_other_machines_is_named(tmp_path: Path) -> None:
    """A page of all servers that other machines reach leads to a warning, and its URL works on this machine."""
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "home")}
    server = Server(tmp_path, '[alarms.a]\naction = "log"\n', state=tmp_path / "home" / "alarm-mw" / "shop")
    port = free_port()
    command = [sys.executable, "-m", "alarm_mw", "web", "--all", "--listen", f"0.0.0.0:{port}"]
    try:
        with subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as page:
            assert page.stdout is not None
            assert page.stderr is not None
            assert f"other machines reach the page at 0.0.0.0:{port} by plain HTTP" in page.stderr.readline()
            assert page.stdout.readline().startswith(f"http://127.0.0.1:{port}/login/")
            page.terminate()
            page.wait(LIMIT)
    finally:
        server.stop()
