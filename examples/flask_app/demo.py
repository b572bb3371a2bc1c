"""Shows alarms at work, from the printed line to the webhook: ``make demo``."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import httpx
from rich.console import Console
from rich.text import Text
from serving import PATIENCE, Arrivals, Server, environment, running
from sink import Received, serving

HERE = Path(__file__).parent

COMMAND = (
    *("alarm-mw", "run", "--config", "alarm-mw.toml", "--"),
    *("gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "app:app"),
)

#: How the command of the alarm `file` writes an alarm down.
WRITTEN = re.compile(r"(?P<source>\w+), rule (?P<rule>.*?): (?P<line>.*)")

#: What a source is called for people.
SOURCES = {
    "stdout": "a line printed on the standard output",
    "stderr": "a line printed on the standard error",
    "logging": "a log record, by AlarmHandler",
    "wsgi": "a request, by the middleware UploadCheck",
}


#: Columns of the picture.
PICTURE_WIDTH = 100


@dataclass(frozen=True)
class Visit:
    """A request to the app, and the alarm that it must raise."""

    method: str
    path: str
    what: str
    #: The line of the alarm; empty where none may come.
    line: str = ""


VISITS = (
    Visit("GET", "/", "prints a line that no rule matches"),
    Visit("GET", "/explode", "prints", "TERRIBLE ALARM! The world exploded!!!"),
    Visit("POST", "/upload", "is watched by a middleware", "TERRIBLE ALARM! An upload has been made!"),
    Visit("GET", "/pay", "logs an error and prints it, which is one alarm", "ERROR shop: order 42 could not be paid"),
    Visit("GET", "/drill", "prints a line that the rules exclude"),
)

ALARMS = tuple(visit.line for visit in VISITS if visit.line)


class DemoError(Exception):
    """Something did not happen as it must; the text says what."""


class Demo:
    """The demo while its server and its sink run."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.hooks: Arrivals[Received] = Arrivals()
        self._file = folder / "alarms.txt"
        self._state_home = folder
        self._env = environment(
            {"ALARMS_FILE": str(self._file), "XDG_STATE_HOME": str(folder), "COLUMNS": str(PICTURE_WIDTH)}
        )

    def run(self, *, serve: bool) -> None:
        """Show everything; raise `DemoError` or `TimeoutError` when something does not arrive."""
        with serving(self.hooks.add) as sink:
            self._say(f"$ {' '.join(COMMAND)}", "bold")
            with running(COMMAND, HERE, {**self._env, "SINK_URL": sink}) as server:
                url = server.wait_until_ready()
                self._say(f"The app is served at {url}/, webhooks are received at {sink}\n")
                self._show(server, url)
                if serve:
                    self._serve(server, url)

    def _show(self, server: Server, url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:
            for visit in VISITS:
                self._visit(client, server, visit)
        self._check_deliveries(self._settled())
        self._say("$ alarm-mw status", "bold")
        self._say(self._status())
        self._say(f"{len(ALARMS)} alarms, each by webhook and by command: everything arrived, once.", "bold green")
        self._say(NEXT)

    def _visit(self, client: httpx.Client, server: Server, visit: Visit) -> None:
        client.request(visit.method, visit.path).raise_for_status()
        self._say(f"{visit.method} {visit.path} {visit.what}", "bold")
        if not visit.line:
            self._say("  nothing fires\n")
            return
        hook = self.hooks.wait_for(lambda hook: hook.body == f"{visit.line}\n".encode(), f"a webhook: {visit.line}")
        line = server.lines.wait_for(lambda line: _is_written(line, visit.line), f"a line in the file: {visit.line}")
        written = WRITTEN.fullmatch(line)
        assert written is not None
        if line not in self._file.read_text().splitlines():
            raise DemoError(f"the command wrote to the log, but not into its file: {line}")
        self._say(f"  {visit.line}", "red")
        self._say(f"  seen as    {SOURCES[written['source']]}")
        self._say(f"  rule       {written['rule']}")
        self._say(f"  webhook    {hook}")
        self._say(f"  command    {line}\n")

    def _settled(self) -> dict[str, dict[str, int]]:
        """Return the alarms' rows of the ledger once nothing waits."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = json.loads(self._status("--json"))
            alarms: dict[str, dict[str, int]] = answer["alarms"]
            if not any(row["waiting"] for row in alarms.values()):
                return alarms
        raise DemoError("some alarms still wait to be delivered")

    def _check_deliveries(self, alarms: dict[str, dict[str, int]]) -> None:
        delivered = {name: row["delivered"] for name, row in alarms.items()}
        if delivered != {"webhook": len(ALARMS), "file": len(ALARMS)}:
            raise DemoError(f"{len(ALARMS)} alarms were raised, but the ledger says: {delivered}")
        if len(self.hooks.all()) != len(ALARMS):
            raise DemoError(f"{len(ALARMS)} alarms were raised, but {len(self.hooks.all())} webhooks arrived")

    def _status(self, *options: str) -> str:
        command = ["alarm-mw", "status", *options]
        done = subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=HERE
        )
        if done.returncode:
            raise DemoError(f"alarm-mw status ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _serve(self, server: Server, url: str) -> None:
        """Show what arrives until ^C, or until the server ends."""
        self._say("\nThe app goes on until ^C. In another terminal:", "bold")
        for visit in VISITS:
            self._say(f"  curl{' -X POST' if visit.method == 'POST' else ''} {url}{visit.path}")
        self._say(f"  XDG_STATE_HOME={self._state_home} {Path(sys.executable).parent / 'alarm-mw'} status\n")
        shown = len(self.hooks.all())
        while server.process.poll() is None:
            self.hooks.wait_more(shown, 1.0)
            for hook in self.hooks.all()[shown:]:
                self._say(f"  webhook    {hook}")
                shown += 1

    def _say(self, text: str, style: str = "") -> None:
        # Text, not markup: what an app prints is data.
        self.console.print(Text(text.rstrip(" "), style=style), soft_wrap=True)


NEXT = """
What to try next:
  make demo ARGS=--serve     the app goes on, for you to raise alarms with curl
  make demo ARGS=--page      the web page of a shop whose last week is made up
  examples/flask_app         the app and its configuration, in TOML and as a uwsgi.ini
  README.md                  how to attach alarms to your own application"""


def _is_written(line: str, alarm: str) -> bool:
    found = WRITTEN.fullmatch(line)
    return found is not None and found["line"] == alarm


def _end(number: int, _frame: object) -> NoReturn:
    """Leave all contexts, which stop what was started."""
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="go on serving until ^C")
    parser.add_argument("--page", action="store_true", help="serve the page of a shop whose last week is made up")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also write what is shown as a picture")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    if options.page:
        return subprocess.run([sys.executable, str(HERE.parent / "page" / "demo.py")], check=False).returncode
    console = Console(record=True, highlight=False, width=PICTURE_WIDTH if options.svg else None)
    try:
        with tempfile.TemporaryDirectory(prefix="alarm-mw-demo-") as folder:
            Demo(console, Path(folder)).run(serve=options.serve)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 0 if options.serve else 128 + signal.SIGINT
    except (DemoError, TimeoutError, httpx.HTTPError) as error:
        console.print(Text(f"The demo failed: {error}", style="bold red"), soft_wrap=True)
        return 1
    if options.svg:
        console.save_svg(str(options.svg), title="make demo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
