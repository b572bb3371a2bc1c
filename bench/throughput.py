"""What alarms cost a server: a million log records of four gunicorn workers, with and without, in one run.

Two servers stand side by side and are asked in turn, one round each, so that whatever else the machine does hits both.
Both are ``gunicorn`` with 4 workers of 2 threads (``gthread``, connections kept alive). A request

- serialises and parses a small JSON document as often as takes 0.2 ms here, as the lightest of requests does, and then
  2 ms, as one with a template and a database; measured once before both are started;
- logs 10 records of one line through `logging` to a file; every 10,000th record of a worker says TERRIBLE ALARM.

One of them runs under ``alarm-mw run`` and has `alarm_mw.AlarmHandler` beside the file handler, with the rule
``^.*TERRIBLE ALARM`` and the action ``log:``. The other one has neither.

The clients are 4 processes that write prepared bytes to a socket and read the answer. They share the processors with
the servers, as much of them in both cases. So the time of a round is shown, and what processor time the server's
processes took for it, ours included.

``python bench/throughput.py``, with the options of `harness`. Exit status 1 when a record was refused or lost.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from harness import Case, Metric, Options, Section, run
from pipeline import processor_time

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import imbalances

BIN = Path(sys.executable).parent
CLIENTS = 4
WORKERS = 4
#: Seconds that the application works in a request.
WORK = (200e-6, 2e-3)
RECORDS = 10
RARE = 10_000
#: Requests of each client before anything is measured.
WARM = 25
#: Seconds for a server to start or to stop.
PATIENCE = 60.0

METRICS = {"requests": Metric("requests/s", more=True), "processor": Metric("processor, µs a request")}

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

APP = """
import itertools, json, logging, os

TIMES = int(os.environ["TIMES"])
DOCUMENT = {"order": 4711, "lines": [{"sku": f"A-{n}", "count": n, "price": "9.99"} for n in range(5)], "paid": True}

handlers = [logging.FileHandler("records.log")]
if "ALARM_MW_SOCKET" in os.environ:
    import alarm_mw
    handlers.append(alarm_mw.AlarmHandler())
logging.basicConfig(level="INFO", handlers=handlers, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
log = logging.getLogger("shop")
numbers = itertools.count(1)

def work(times):
    for _ in range(times):
        json.loads(json.dumps(DOCUMENT))

def app(environ, start_response):
    work(TIMES)
    for _ in range(10):
        number = next(numbers)
        if number % 10_000:
            log.info("order %d of customer %s was looked at", number, "jane@example.org")
        else:
            log.error("TERRIBLE ALARM: order %d of process %d is lost", number, os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


class Server:
    """A running gunicorn, with everything that was started for it."""

    def __init__(self, directory: Path, command: list[str], times: int) -> None:
        directory.mkdir()
        (directory / "app.py").write_text(APP, encoding="utf-8")
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        words = [*command, str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS)]
        with (directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*words, "--threads", "2", "--no-control-socket", "app:app"],
                cwd=directory,
                env={**os.environ, "TIMES": str(times)},
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Return when all workers have loaded the application."""
        deadline = time.monotonic() + PATIENCE
        while (self.directory / "output").read_bytes().count(b"Booting worker") < WORKERS or not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "output").read_text(errors="replace"))
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def processor_time(self) -> float:
        """Return the processor time, in seconds, that the processes of this server have taken."""
        return processor_time(self._process.pid)

    def stop(self) -> None:
        """Stop it in peace."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)


def ask(port: int, times: int) -> None:
    """Make some requests over one connection; run by a process of its own."""
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            connection.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                part = connection.recv(4096)
                if not part:
                    raise ConnectionError("the server has closed the connection")
                answer += part


def one_round(server: Server, pool: multiprocessing.pool.Pool, requests: int) -> dict[str, float | None]:
    """Make some requests, by all clients at once."""
    before, began = server.processor_time(), time.perf_counter()
    pool.starmap(ask, [(server.port, requests // CLIENTS)] * CLIENTS, chunksize=1)
    took, used = time.perf_counter() - began, server.processor_time() - before
    return {"requests": requests / took, "processor": used / requests * 1e6}


def calibrate(seconds: float) -> int:
    """Return how often the application's work is to be done to take `seconds`."""
    namespace: dict[str, object] = {"__name__": "bench"}
    source = APP.partition("handlers =")[0] + APP[APP.index("def work") : APP.index("def app")]
    os.environ["TIMES"] = "1"
    exec(source, namespace)  # noqa: S102  # our own text, above
    work = namespace["work"]
    assert callable(work)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        work(10)
        took.append((time.perf_counter() - began) / 10)
    return max(1, round(seconds / min(took)))


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Wait for a server, and stop it in the end."""
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def sections(options: Options) -> Iterator[Section]:
    """Ask both servers in turn, and stop them; then see that nothing was lost."""
    rounds = options.rounds or options.pick(full=100, quick=15, tiny=1)
    requests = options.pick(full=1_000, quick=200, tiny=40)
    alarms = ["--alarm", "screen log:", "--log-alarm", "screen ^.*TERRIBLE ALARM"]
    command = [str(BIN / "alarm-mw"), "run", "--state-dir", "state", *alarms, "--"]
    for work in WORK:
        times = calibrate(work)
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            with multiprocessing.get_context("spawn").Pool(CLIENTS) as pool, ExitStack() as stack:
                servers = {
                    name: stack.enter_context(running(Server(directory / name, words, times)))
                    for name, words in (("with", command), ("without", []))
                }
                for server in servers.values():
                    pool.starmap(ask, [(server.port, WARM)] * CLIENTS)  # everything is loaded
                cases = [Case(name, partial(one_round, server, pool, requests)) for name, server in servers.items()]
                title = f"gunicorn, {RECORDS} records and {work * 1e3:g} ms of work a request"
                yield Section(title, METRICS, cases, "without", rounds=rounds)
            if wrong := judge(directory, RECORDS * (requests * rounds + WARM * CLIENTS)):
                raise SystemExit("\n".join(wrong))


def judge(directory: Path, records: int) -> list[str]:
    """Return what the ledger shows to be wrong, after the end of the server."""
    with closing(Outbox(directory / "with" / "state" / "outbox.db")) as outbox:
        books, waiting = outbox.ledger.books(), outbox.count_waiting()
    source, delivered = books["sources"]["logging"], books["alarms"].get("screen", {}).get("delivered", 0)
    wrong = imbalances(books, waiting)
    if source["lines"] != records or source["skipped"]:
        wrong.append(f"{records} records were logged, {source['lines']} came in, skipped: {source['skipped']}")
    if delivered != source["matched"]:
        wrong.append(f"{source['matched']} records matched, {delivered} were delivered")
    return wrong


if __name__ == "__main__":
    run("throughput", sections, packages=["gunicorn"])
