"""A real server under ``alarm-mw run``, its clients, and what they know to have been printed or logged."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ports import free_port
from waiting import LIMIT

from alarm_mw.engine.ledger import Books
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME
from faults.processes import children, command, family, lives, send
from faults.row import Outbox, counts

#: Seconds for a start: ten thousand alarms and rules take their time on a busy machine.
START = 240.0

#: How many alarms a request raises.
PORTION = 10

#: Every second alarm is logged, the others are printed.
APP = """
import logging, os
import alarm_mw

SUFFIX = os.environ["SUFFIX"]
logger = logging.getLogger("shop")
logger.propagate = False
logger.addHandler(alarm_mw.AlarmHandler())

def app(environ, start_response):
    begin, _, end = environ["QUERY_STRING"].partition("-")
    for n in range(int(begin), int(end)):
        if n % 2:
            logger.error("TERRIBLE ALARM %d%s", n, SUFFIX)
        else:
            os.write(1, f"TERRIBLE ALARM {n}{SUFFIX}\\n".encode())
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""

#: An alarm that is tried again soon, as tests have no time, and sends each of many equal events.
ALARM = """
[alarms.{name}]
action = "curl"
url = "{url}"
timeout = 1.0
delivery = {{ backoff_first = 0.05, backoff_max = 0.3, give_up_after = {give_up_after} }}
limits = {{ repeat_after = 0 }}
"""

RULE = """
[[rules]]
pattern = "^TERRIBLE ALARM"
alarms = {alarms}
"""


def wait_until(condition: Callable[[], object], timeout: float = LIMIT, what: str = "") -> None:
    """Wait until `condition` holds; what it looks at belongs to other processes, so it is asked again and again."""
    pause, deadline = threading.Event(), time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        pause.wait(0.02)


@contextlib.contextmanager
def meanwhile(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Work in a thread until the end, which its event says."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Ground:
    """Two workers of gunicorn, the master and the supervisor above them. It is left with nothing running."""

    def __init__(self, folder: Path, alarms: Mapping[str, str], more: str = "", give_up_after: int = 600) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.state = folder / "state"
        self.port = free_port()
        #: What was printed or logged for certain.
        self.accepted: set[int] = set()
        #: What each alarm ends with.
        self.suffix = ""
        #: Environment variables of the supervisor and the master; the server is left alone.
        self.environ: dict[str, str] = {}
        self._give_up_after = give_up_after
        self._next = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        (folder / "shop.py").write_text(APP)
        self.configure(alarms, more)

    def configure(self, alarms: Mapping[str, str], more: str = "") -> None:
        """Write the configuration: alarms with their URLs, each with the rule, and what else there is in it."""
        after = self._give_up_after
        tables = "".join(ALARM.format(name=name, url=url, give_up_after=after) for name, url in alarms.items())
        (self.folder / "a.toml").write_text(tables + RULE.format(alarms=list(alarms)) + more)

    # Processes

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and end it in peace."""
        self.start()
        try:
            yield
            self.stop()
        finally:
            self._clean_up()

    def start(self) -> None:
        """Start everything; return when the server answers."""
        alarm_mw = str(Path(sys.executable).with_name("alarm-mw"))
        run = [alarm_mw, "run", "--config", "a.toml", "--state-dir", str(self.state), "--"]
        server = ["-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{self.port}", "--no-control-socket", "shop:app"]
        run += ["env", *(f"--unset={name}" for name in self.environ)]
        environ = {**os.environ, "XDG_STATE_HOME": str(self.folder), "SUFFIX": self.suffix, **self.environ}
        with (self.folder / "output").open("ab") as output, (self.folder / "errors").open("ab") as errors:
            self._process = subprocess.Popen(
                [*run, sys.executable, *server], cwd=self.folder, env=environ, stdout=output, stderr=errors
            )
        wait_until(
            lambda: self._process is None or self._process.poll() is not None or self.answers(), START, what="an answer"
        )
        assert self._process.poll() is None, self.errors()
        wait_until(self.masters, what="a master")

    def ready(self) -> int:
        """Return the master's process, when it answers."""
        wait_until(self.status, START, "a master that answers")
        return self.masters()[0]

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(LIMIT) == 0, self.errors()

    def _clean_up(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill_all()

    @property
    def supervisor(self) -> int:
        assert self._process is not None
        return self._process.pid

    def masters(self) -> list[int]:
        return [pid for pid in children(self.supervisor) if b"alarm_mw.master" in command(pid)]

    def workers(self) -> list[int]:
        servers = [pid for pid in children(self.supervisor) if b"gunicorn" in command(pid)]
        return [worker for server in servers for worker in children(server)]

    def processes(self) -> list[int]:
        """Return all of them, the eldest first."""
        return family(self.supervisor)

    def kill_all(self) -> None:
        """Kill everything at once, as a power cut would."""
        pids = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # so that nobody sees another one's end
            send(pids, number)
        self.wait_for_the_end(pids)

    def kill_supervisor(self) -> None:
        """Kill the supervisor, and wait until the others have ended in its absence."""
        pids = self.processes()
        os.kill(self.supervisor, signal.SIGKILL)
        self.wait_for_the_end(pids)

    def wait_for_the_end(self, pids: Sequence[int]) -> None:
        assert self._process is not None
        self._process.wait(LIMIT)
        wait_until(lambda: not any(map(lives, pids)), what="the end of all processes")

    # What is said

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._get("0-0") == http.client.OK
        return False

    def raise_alarms(self, n: int = PORTION, portion: int = PORTION) -> set[int]:
        """Have so many alarms raised; return their numbers, and count those of requests that were answered."""
        raised: set[int] = set()
        while len(raised) < n:
            with self._lock:
                begin = self._next
                self._next += portion
            numbers = set(range(begin, begin + portion))
            try:
                is_certain = self._get(f"{begin}-{begin + portion}") == http.client.OK
            except (OSError, http.client.HTTPException):
                is_certain = False
            if is_certain:
                with self._lock:
                    self.accepted |= numbers
            raised |= numbers
        return raised

    def _get(self, query: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET", f"/?{query}")
            return connection.getresponse().status
        finally:
            connection.close()

    @contextlib.contextmanager
    def under_load(self, pause: float = 0.05) -> Iterator[None]:
        """Raise alarms all the time, a portion after each pause in seconds."""

        def load(over: threading.Event) -> None:
            while not over.wait(pause):
                self.raise_alarms()

        with meanwhile(load):
            yield

    # What is seen

    def peak(self) -> int:
        """Return the most memory that the master has had, in kilobytes."""
        status = Path(f"/proc/{self.masters()[0]}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")

    def printed(self) -> set[int]:
        """Return the numbers of the alarms that have passed through."""
        lines = (self.folder / "output").read_bytes().split(b"\n")
        return {int(line.split()[2]) for line in lines if line.startswith(b"TERRIBLE ALARM ")}

    def outbox(self) -> Outbox:
        """Read what was left behind; only when nothing runs."""
        return Outbox.read(self.state / "outbox.db")

    def status(self) -> dict[str, Any]:
        """Return what ``alarm-mw status`` says, nothing where there is no master."""
        try:
            return ask_patiently(str(self.state / SOCKET_NAME), "/status")
        except NotRunningError:
            return {}

    def counted(self) -> int:
        """Return how many alarms the ledger accounts for that do not come: on a busy machine, lines may be counted."""
        status = self.status()
        return counts(cast("Books", status)).total() if status else 0
