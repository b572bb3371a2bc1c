"""One machine of a fleet: a real program under ``alarm-mw run``, with its own state and its own line to Redis."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from waiting import LIMIT

from alarm_mw.engine.ledger import Books, imbalances
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask, ask_patiently
from alarm_mw.transports.places import SOCKET_NAME
from faults.ground import START, wait_until
from faults.processes import children, command, family, lives, send
from faults.row import Outbox

#: Seconds for a reload.
RELOAD = 60.0


class Machine:
    """A program, the master and the supervisor above them. It is left with nothing running."""

    def __init__(self, folder: Path, name: str) -> None:
        (folder / "home").mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self.state = folder / "state"
        #: Environment variables of the supervisor, the master and the program.
        self.environ: dict[str, str] = {}
        #: A descriptor that takes what it prints, instead of a file.
        self.output: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers: Any = None
        self._listener = socket.socket(socket.AF_UNIX)
        (folder / "program").unlink(missing_ok=True)
        self._listener.bind(str(folder / "program"))
        self._listener.listen()
        self._listener.settimeout(START)

    def configure(self, config: str) -> None:
        """Write the configuration."""
        (self.folder / "a.toml").write_text(config)

    # Processes

    def begin(self) -> None:
        """Start it, and do not wait for it."""
        alarm_mw = str(Path(sys.executable).with_name("alarm-mw"))
        run = [alarm_mw, "run", "--config", "a.toml", "--state-dir", str(self.state), "--"]
        program = [
            sys.executable,
            "-S",
            "-E",
            str(Path(__file__).with_name("program.py")),
            str(self.folder / "program"),
        ]
        environ = {**os.environ, "XDG_STATE_HOME": str(self.folder / "home"), **self.environ}
        with (self.folder / "errors").open("ab") as errors, (self.folder / "output").open("ab") as output:
            to = output.fileno() if self.output is None else self.output
            self._process = subprocess.Popen(
                [*run, *program], cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, stdout=to, stderr=errors
            )

    def wait(self) -> None:
        """Wait until its program can be told what to print, and its master answers."""
        self._control, _ = self._listener.accept()
        self._control.settimeout(LIMIT)
        self._answers = self._control.makefile()
        self.ready()

    def start(self) -> None:
        self.begin()
        self.wait()

    def ready(self) -> None:
        """Wait until its master answers."""
        wait_until(self.status, START, f"a master of {self.name} that answers")

    def stop(self) -> None:
        """End it in order, as a deployment does."""
        assert self._process is not None
        self._hang_up()
        self._process.terminate()
        self._process.wait(LIMIT)

    def kill(self) -> None:
        """Kill everything at once, as a power cut would."""
        if self._process is None or self._process.poll() is not None:
            return
        pids = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # so that nobody sees another one's end
            send(pids, number)
        self._process.wait(LIMIT)
        wait_until(lambda: not any(map(lives, pids)), what="the end of all processes")
        self._hang_up()

    def kill_master(self) -> None:
        """Kill the master; the supervisor starts another one."""
        send(self.masters(), signal.SIGKILL)

    def pause(self) -> None:
        """Stop everything, as a machine does that swaps or is being moved."""
        send(self.processes(), signal.SIGSTOP)

    def resume(self) -> None:
        send(self.processes(), signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing running."""
        self.kill()
        self._hang_up()
        self._listener.close()

    def _hang_up(self) -> None:
        if self._control is not None:
            self._answers.close()
            self._control.close()
            self._control = None

    def processes(self) -> list[int]:
        """Return all of them, the eldest first."""
        return [] if self._process is None else family(self._process.pid)

    def masters(self) -> list[int]:
        supervisor = [] if self._process is None else children(self._process.pid)
        return [pid for pid in supervisor if b"alarm_mw.master" in command(pid)]

    def is_running(self) -> bool:
        """Return whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    # What it prints

    def print(self, *lines: str) -> None:
        """Print lines; return when they are written."""
        self.order("print", lines)

    def order(self, name: str, value: object = None) -> dict[str, Any]:
        """Have its program do something, and return what it answers."""
        assert self._control is not None
        self._control.sendall(json.dumps([name, value]).encode() + b"\n")
        return cast("dict[str, Any]", json.loads(self._answers.readline()))

    # What is asked

    @property
    def socket(self) -> str:
        return str(self.state / SOCKET_NAME)

    def status(self) -> dict[str, Any]:
        """Return what ``alarm-mw status --json`` says, nothing where there is no master."""
        try:
            return ask_patiently(self.socket, "/status")
        except NotRunningError:
            return {}

    def api(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Return what the API answers, to a POST where a body is given."""
        method, text = ("GET", b"") if body is None else ("POST", json.dumps(body).encode())
        return ask(self.socket, path, method=method, body=text)

    def reload(self) -> dict[str, Any]:
        """Load the configuration again."""
        return ask_patiently(self.socket, "/reload", method="POST", timeout=RELOAD)

    def silences(self) -> set[str]:
        """Return the ids of the silences that are in force."""
        return {each["id"] for each in self.api("/api/1/silences?all=0")}

    def silence(self, matcher: str) -> str:
        """Silence what a matcher selects for a day, and return the silence's id."""
        wanted = {"targets": [matcher], "seconds": 86_400, "starts": None, "comment": "test"}
        return str(self.api("/api/1/silences", wanted)["id"])

    def incidents(self) -> list[dict[str, Any]]:
        """Return the incidents that are firing."""
        found: list[dict[str, Any]] = self.api("/incidents?all=0")
        return found

    def books(self) -> Books:
        """Return the ledger; wait for the master that has it."""
        wait_until(self.status, what=f"the ledger of {self.name}")
        return cast("Books", self.status())

    def waiting(self) -> int:
        """Return how many messages wait in its outbox."""
        return sum(row["waiting"] for row in self.books()["alarms"].values())

    def errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")

    def imbalances(self) -> list[str]:
        """Return what of its ledger does not add up; of the file, when it does not run."""
        if not self.is_running():
            outbox = Outbox.read(self.state / "outbox.db")
            return imbalances(outbox.books, outbox.waiting)
        return [str(finding) for finding in self.status().get("imbalances", ())]


def start_all(machines: Iterable[Machine], at_once: int) -> None:
    """Start machines, so many at a time."""
    waiting: list[Machine] = []
    for machine in machines:
        machine.begin()
        waiting.append(machine)
        if len(waiting) == at_once:
            waiting.pop(0).wait()
    for machine in waiting:
        machine.wait()
