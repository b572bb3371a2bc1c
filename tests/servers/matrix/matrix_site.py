"""A server of the matrix, asked by its clients, and what came of it."""

from __future__ import annotations

import http.client
import itertools
import re
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from matrix_rows import Program, Row
from ports import free_port
from waiting import LIMIT
from webhook import Webhook, serving

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import Books, imbalances

#: What an alarm says: the way, the number, the process, and its place in all that the process says.
SAID = re.compile(rb"TERRIBLE ALARM (\w+) (\d+) of (\d+): (\d+)")

#: Seconds between the requests of a client, while servers are reloaded below it.
PACE = 0.05


Said = tuple[str, int]


class Hook(Webhook):
    """A web hook that keeps what it gets, in order."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(lambda _, body: self.bodies.append(body))

    def said(self) -> list[tuple[str, int, int, int]]:
        """Return the way, the number, the process and the place of each alarm."""
        found = (SAID.search(body) for body in self.bodies)
        return [(match[1].decode(), int(match[2]), int(match[3]), int(match[4])) for match in found if match]


class Site:
    """A server with its clients, which remember what should be heard of them."""

    def __init__(self, installation: Any, until: Callable[..., None], environ: dict[str, str]) -> None:
        self.installation = installation
        self.until = until
        self.environ = environ
        self.hook = Hook()
        self.port = free_port()
        self.log: Path = installation.directory / "log"
        #: Numbers that were answered, by requests one after the other, and all.
        self.in_turn: list[int] = []
        self.answered: list[int] = []
        #: Numbers of requests whose connection was closed without an answer.
        self.unanswered: list[int] = []
        #: Numbers of requests that killed their worker.
        self.killing: list[int] = []
        self.pids: set[int] = set()
        #: The processes that were there before one of them killed itself.
        self._family: set[int] = set()
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes]

    # -- the server

    def start(self, command: str, options: Sequence[str] | None = None) -> None:
        """Start a command, under ``alarm-mw run`` where there are options for it."""
        words = command.split()
        if options is not None:
            words = self.installation.run_command(options, *words)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                words, cwd=self.installation.directory, env=self.environ, stdout=output, stderr=subprocess.STDOUT
            )

    def start_server(self, row: Row, options: Sequence[str] | None = None) -> None:
        """Start a server; return when it answers."""
        self.start(row.command.format(port=self.port), options)
        self.until(lambda: self._process.poll() is not None or self.is_up())
        assert self._process.returncode is None, self.log.read_text()

    def start_program(self, program: Program, options: Sequence[str] | None = None) -> None:
        """Start a program with all that it has to do."""
        paths = [*self._paths(program)]
        self.environ["TASKS"] = " ".join(paths)
        self.start(program.command.format(paths=" ".join(paths)), options)

    def _paths(self, program: Program) -> Iterator[str]:
        for verb in [*["say"] * program.times, program.last]:
            number = next(self._numbers)
            (self.in_turn if verb == "say" else self.killing).append(number)
            yield f"/{verb}/{number}"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--alarm", f"hook curl:{self.hook.url}", "--log-alarm", "hook TERRIBLE ALARM")

    def wait(self) -> int:
        """Return the server's exit status, when it has ended."""
        return self._process.wait(LIMIT)

    def stop(self) -> int:
        """Ask the server to stop, and return its exit status."""
        self._process.terminate()
        return self.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    @contextmanager
    def cleanup(self) -> Iterator[None]:
        """Leave no server behind."""
        try:
            with serving(self.hook):
                yield
        finally:
            if self._process.poll() is None:
                self._process.terminate()
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()

    # -- its clients

    def ask(self) -> int:
        """Have a number said, by another request where the server has closed the connection; return who answered."""
        while (answer := self._get(f"/say/{(number := next(self._numbers))}")) is None:
            self.unanswered.append(number)
        self.answered.append(number)
        self.pids.add(int(answer))
        return int(answer)

    def ask_in_turn(self, times: int) -> None:
        """Have numbers said one after the other, so that there is an order in which they must be heard."""
        for _ in range(times):
            self.ask()
            self.in_turn.append(self.answered[-1])

    def wait_for_another(self) -> None:
        """Wait until a process answers that was not there when a worker killed itself."""
        self.until(lambda: (answer := self._get("/")) is not None and int(answer) not in self._family)

    def kill_a_worker(self) -> None:
        """Have a number said by a worker that then kills itself."""
        self._family = set(self.installation.descendants(self._process.pid))
        number = next(self._numbers)
        assert self._get(f"/die/{number}") is None
        self.killing.append(number)

    @contextmanager
    def being_asked(self, clients: int = 2) -> Iterator[None]:
        """Have numbers said all the time, by some clients at once."""
        end = threading.Event()

        def client() -> None:
            while not end.wait(PACE):
                self.ask()

        with ThreadPoolExecutor(clients) as pool:
            running = [pool.submit(client) for _ in range(clients)]
            try:
                yield
            finally:
                end.set()
        for one in running:
            one.result()

    def is_up(self) -> bool:
        return self._get("/") is not None

    def _get(self, path: str) -> bytes | None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            try:
                connection.request("GET", path, headers={"Connection": "close"})
                response = connection.getresponse()
                body = response.read()
            except (ConnectionError, http.client.HTTPException):
                return None
            assert response.status == 200, body
            return body

    # -- what came of it

    def expected(self) -> set[Said]:
        """Return what must have been heard: every way of all that came so far."""
        unanswered = [number for _, number in self.printed() if number in self.unanswered]
        said = {*self.in_turn, *self.answered, *self.killing, *unanswered}
        ended = itertools.product(["middleware"], self.answered)
        return {*itertools.product(("print", "logging", "structlog"), said), *ended}

    def heard(self) -> Counter[Said]:
        return Counter((way, number) for way, number, *_ in self.hook.said())

    def all_have_ended(self) -> bool:
        """Return whether the middleware has seen the end of every request that was answered."""
        heard = self.heard()
        return all(("middleware", number) in heard for number in self.answered)

    def order(self) -> dict[tuple[str, int], list[int]]:
        """Return, by way and process, the places of what was said in turn, as they were heard."""
        in_turn, found = set(self.in_turn), defaultdict(list)
        for way, number, pid, place in self.hook.said():
            if number in in_turn:
                found[way, pid].append(place)
        return found

    def is_in_order(self) -> bool:
        return all(places == sorted(places) for places in self.order().values())

    def access_lines(self, row: Row) -> Counter[str]:
        """Return, by the number in its path, how many whole access lines of a request there are."""
        pattern = re.compile(row.access.format(r"GET /say/(\d+)"))
        found = map(pattern.fullmatch, self.log.read_text().splitlines())
        return Counter(match[1] for match in found if match)

    def printed(self) -> Counter[Said]:
        """Return how often each printed line came out, whole."""
        found = (re.fullmatch(SAID, line) for line in self.log.read_bytes().splitlines())
        return Counter((match[1].decode(), int(match[2])) for match in found if match)

    def books(self) -> Books:
        """Return the ledger that the master has left; raise when it does not balance."""
        with closing(Outbox(self.installation.state_dir / "outbox.db")) as outbox:
            books = outbox.ledger.books()
            assert imbalances(books, outbox.count_waiting()) == []
            return books
