"""One ini file of a deployment, under a real uWSGI and under gunicorn with ``alarm-mw run``: the same arrives."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until
from webhook import serving

#: Seconds that the long command works. The time limit of commands in TOML is 30; with more than that the test takes as
#: much longer: ``LONG_COMMAND=45 pytest tests/servers/test_uwsgi_deployment.py``.
LONG_COMMAND = float(os.environ.get("LONG_COMMAND", "2"))

#: Seconds after which the web hook answers: more than the 4 that uWSGI waits for where there is no `socket-timeout`.
SLOW_ANSWER = 5.0

INI = """
[uwsgi]
uid = www-data
gid = www-data
chdir = {folder}/run
umask = 027
env = PATH={folder}/bin:/usr/bin:/bin
env = SHOP=green grocer
socket-timeout = 30
alarm-freq = 0

alarm = who cmd:(id; pwd; umask; echo "$SHOP"; cat) >> who
alarm = long cmd:(echo begun; cat; sleep {long}; echo done) >> long
alarm = mailme cmd:mail -s 'uWSGI alarm' -a 'From: uwsgi@example.org' root@example.org
alarm = hook curl:http://127.0.0.1:{port}/hook;method=POST;subject=uWSGI
not-log-alarm = who only a drill
log-alarm = who,mailme ^TERRIBLE
log-alarm = long ^SLOW
log-alarm = hook ^HOOK
if-env = DEPLOYED
log-alarm = mailme ^DEPLOYED %(_)
endif =
if-env = STAGING
alarm = never cmd:cat >> never
log-alarm = never .
endif =
alarm-backlog = nobody
"""

#: Stands where the ini file's `env` has it found, and keeps what it is told.
MAIL = """#!/bin/sh
{ printf '<%s>\\n' "$@"; cat; } >> mail
"""

APP = """
import sys

def application(environ, start_response):
    sys.stderr.buffer.write(bytes.fromhex(environ["QUERY_STRING"]) + b"\\n")
    sys.stderr.flush()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

LINES = (
    b"TERRIBLE caf\xc3\xa9 \xff",
    b"TERRIBLE: only a drill",
    b"SLOW one",
    b"HOOK one",
    b"SLOW two",
    b"DEPLOYED yes",
    b"nothing",
)

#: How many alarms of each kind are to arrive.
EXPECTED = {"who": 1, "long": 2, "mail": 2, "hook": 1}


#: What the commands have written, whose the files are, and what the web hook got.
Arrived = tuple[dict[str, bytes], dict[str, str], list[bytes]]


class Hook:
    """A web hook that takes its time, and keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.answers = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.bodies.append(self._body())
                threading.Event().wait(SLOW_ANSWER)
                self.send_response(204)
                self.end_headers()
                hook.answers += 1

            def _body(self) -> bytes:
                """Return the body; uWSGI sends it in chunks."""
                if (length := self.headers["Content-Length"]) is not None:
                    return self.rfile.read(int(length))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def arrived(folder: Path) -> dict[str, bytes]:
    """Return what the commands have written, by the names of files; the folder of this run is called FOLDER."""
    run = folder / "run"
    files = {name: run / name for name in ("who", "long", "mail", "never") if (run / name).exists()}
    return {name: file.read_bytes().replace(bytes(folder), b"FOLDER") for name, file in files.items()}


def in_any_order(arrived: Arrived) -> Arrived:
    """Return the same where the lines of commands that ran side by side are sorted."""
    files, permissions, bodies = arrived
    sides = {name: b"\n".join(sorted(files[name].splitlines())) for name in ("long", "mail")}
    return {**files, **sides}, permissions, bodies


def modes(folder: Path) -> dict[str, str]:
    """Return the owner, the group and the permissions of the files."""
    files = [folder / "run" / name for name in arrived(folder)]
    return {file.name: f"{file.owner()}:{file.group()} {file.stat().st_mode & 0o777:o}" for file in files}


def is_over(found: Mapping[str, bytes], answers: int) -> bool:
    counts = {
        "who": found.get("who", b"").count(b"\nTERRIBLE"),
        "long": found.get("long", b"").count(b"done"),
        "mail": found.get("mail", b"").count(b"<root@example.org>"),
        "hook": answers,
    }
    return all(counts[name] >= n for name, n in EXPECTED.items())


def ask(address: str, line: bytes) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", f"/?{line.hex()}")
        assert connection.getresponse().read() == b"ok"
    finally:
        connection.close()


@pytest.fixture
def played(installation: Any) -> Iterator[Callable[..., Arrived]]:
    """Return a function that runs a server until the alarms of `LINES` have arrived, and returns these."""
    folders: list[Path] = []

    def play(server: Callable[[Path], list[str]], listening: str) -> Arrived:
        folder = Path(tempfile.mkdtemp())
        folders.append(folder)
        folder.chmod(0o755)
        for name in ("run", "bin"):
            (folder / name).mkdir()
        (folder / "run").chmod(0o777)
        (folder / "run" / "app.py").write_text(APP)
        (folder / "bin" / "mail").write_text(MAIL)
        (folder / "bin" / "mail").chmod(0o755)
        hook = Hook()
        with serving(hook.server):
            (folder / "deploy.ini").write_text(
                INI.format(folder=folder, long=LONG_COMMAND, port=hook.server.server_port)
            )
            environ = {**installation.environ, "DEPLOYED": "yes"}
            log = folder / "log"
            with log.open("wb") as output:
                process = subprocess.Popen(server(folder), cwd=folder, env=environ, stdout=output, stderr=output)
            try:
                wait_until(lambda: re.search(listening, log.read_text("latin1")) or process.poll() is not None)
                address = re.search(listening, log.read_text("latin1"))
                assert address is not None, log.read_text("latin1")
                for line in LINES:
                    ask(address[1], line)
                wait_until(lambda: is_over(arrived(folder), hook.answers), 60 + LONG_COMMAND)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(30)
        return arrived(folder), modes(folder), hook.bodies

    yield play
    for folder in folders:
        shutil.rmtree(folder)


def uwsgi(folder: Path) -> list[str]:
    options = ["--plugin", "python3,alarm_curl", "--master", "--http-socket", "127.0.0.1:0", "--wsgi-file", "app.py"]
    return ["uwsgi", *options, "--ini", str(folder / "deploy.ini")]


def test_what_arrives_is_what_arrives_under_uwsgi(played: Callable[..., Arrived], installation: Any) -> None:
    """User, group, directory, umask and variables of commands, files and mails, and a slow web hook's one request.

    A command is started once and runs to its end, whatever fires meanwhile, and nothing is repeated.
    """

    def gunicorn(folder: Path) -> list[str]:
        server = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--chdir", str(folder / "run")]
        command: list[str] = installation.run_command(("--ini", str(folder / "deploy.ini")), *server, "app:application")
        return command

    theirs = in_any_order(played(uwsgi, r"bound to TCP address (\S+) .*[\s\S]*spawned uWSGI worker 1"))
    ours = in_any_order(played(gunicorn, r"Listening at: http://(\S+)"))
    assert ours == theirs
    found, permissions, bodies = ours
    assert found["who"].splitlines()[:4] == [
        b"uid=33(www-data) gid=33(www-data) groups=33(www-data)",
        b"FOLDER/run",
        b"0027",
        b"green grocer",
    ]
    assert found["long"].count(b"begun") == found["long"].count(b"done") == 2
    assert set(permissions.values()) == {"www-data:www-data 640"}
    assert bodies == [b"Subject: uWSGI\r\n\r\nHOOK one\n"]
    assert "never" not in found
