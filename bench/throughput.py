"""What alarms cost a server: a million log records of four gunicorn workers, with and without, in one run.

Two servers stand side by side and are asked in turn, one round each, so that whatever else the machine does hits both.
Both are ``gunicorn`` with 4 workers of 2 threads (``gthread``, connections kept alive). A request

- serialises and parses a small JSON document as often as takes 200 µs here, measured once before both are started;
- logs 10 records of one line through `logging` to a file; every 10,000th record of a worker says TERRIBLE ALARM.

One of them runs under ``alarm-mw run`` and has `alarm_mw.AlarmHandler` beside the file handler, with the rule
``^.*TERRIBLE ALARM`` and the action ``log:``. The other one has neither.

The clients are 4 processes that write prepared bytes to a socket and read the answer. They share the processors with
the servers, as much of them in both cases. So the time of a round is told, and what processor time the server's
processes took for it, ours included.

    python bench/throughput.py [--requests N] [--rounds N] [--json FILE]

Exit status 1 when a record was refused or lost, or when the throughput with alarms is below 97 % of that without.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.pool
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from alarm_mw.delivery.outbox import Outbox
from alarm_mw.engine.ledger import imbalances

BIN = Path(sys.executable).parent
CLIENTS = 4
WORKERS = 4
RECORDS = 10
RARE = 10_000
#: Of the throughput without alarms.
WANTED = 0.97
#: Seconds for a server to start or to stop.
PATIENCE = 60.0

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


@dataclass(frozen=True, slots=True)
class Round:
    """What one round took, in seconds: on the clock, and of the processors, by the server's processes."""

    wall: float
    processor: float


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
        return sum(map(_processor_time, _family(self._process.pid)))

    def stop(self) -> None:
        """Stop it in peace."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def one_round(server: Server, pool: multiprocessing.pool.Pool, requests: int) -> Round:
    """Make some requests, by all clients at once."""
    before, began = server.processor_time(), time.perf_counter()
    pool.starmap(ask, [(server.port, requests // CLIENTS)] * CLIENTS, chunksize=1)
    return Round(time.perf_counter() - began, server.processor_time() - before)


def calibrate(seconds: float = 200e-6) -> int:
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


def measure(directory: Path, requests: int, rounds: int, times: int) -> dict[str, list[Round]]:
    """Ask both servers in turn, and stop them; return the rounds of each."""
    alarms = ["--alarm", "screen log:", "--log-alarm", "screen ^.*TERRIBLE ALARM"]
    command = [str(BIN / "alarm-mw"), "run", "--state-dir", "state", *alarms, "--"]
    found: dict[str, list[Round]] = {"with": [], "without": []}
    with multiprocessing.get_context("spawn").Pool(CLIENTS) as pool, ExitStack() as stack:
        servers = {
            name: stack.enter_context(running(Server(directory / name, words, times)))
            for name, words in (("with", command), ("without", []))
        }
        for server in servers.values():
            pool.starmap(ask, [(server.port, 25)] * CLIENTS)  # everything is loaded
        for number in range(rounds):
            # Who is asked first changes from round to round.
            for name in sorted(servers, reverse=bool(number % 2)):
                found[name].append(one_round(servers[name], pool, requests // rounds))
    return found


def judge(directory: Path, records: int) -> list[str]:
    """Return what the ledger shows to be wrong, after the end of the server."""
    with closing(Outbox(directory / "with" / "state" / "outbox.db")) as outbox:
        books, waiting = outbox.ledger.books(), outbox.count_waiting()
    source, alarm = books["sources"]["logging"], books["alarms"]["screen"]
    wrong = imbalances(books, waiting)
    if source["lines"] != records or source["skipped"]:
        wrong.append(f"{records} records were logged, {source['lines']} came in, skipped: {source['skipped']}")
    if alarm["delivered"] != source["matched"] or not alarm["delivered"]:
        wrong.append(f"{source['matched']} records matched, {alarm['delivered']} were delivered")
    print(f"ledger: {source['lines']:,} records, {source['matched']} matched, {alarm['delivered']} delivered")
    return wrong


def summary(found: dict[str, list[Round]], requests: int) -> dict[str, float]:
    """Return the figures: requests per second, and with to without, of all and in the middle of the pairs."""
    wall = {name: sum(one.wall for one in rounds) for name, rounds in found.items()}
    processor = {name: sum(one.processor for one in rounds) for name, rounds in found.items()}
    pairs = list(zip(found["without"], found["with"], strict=True))
    return {
        "requests_per_second_without": requests / wall["without"],
        "requests_per_second_with": requests / wall["with"],
        "throughput_ratio": wall["without"] / wall["with"],
        "throughput_ratio_median": statistics.median(one.wall / other.wall for one, other in pairs),
        "processor_us_per_request_without": processor["without"] / requests * 1e6,
        "processor_us_per_request_with": processor["with"] / requests * 1e6,
        "processor_ratio": processor["without"] / processor["with"],
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=100_000, help="of each server; ten records each")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write all figures to this file as well")
    options = parser.parse_args()
    step = options.rounds * CLIENTS
    requests = options.requests // step * step
    times = calibrate()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), requests, options.rounds, times)
        wrong = judge(Path(name), RECORDS * (requests + 25 * CLIENTS))
    figures = summary(found, requests)
    report = {
        "python": platform.python_version(),
        "gunicorn": version("gunicorn"),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "requests": requests,
        "work_times": times,
        **figures,
        "rounds": {name: [asdict(one) for one in rounds] for name, rounds in found.items()},
    }
    for key, value in figures.items():
        print(f"{key:34} {value:10.3f}")
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2), encoding="utf-8")
    if figures["throughput_ratio_median"] < WANTED:
        wrong.append(f"throughput is {figures['throughput_ratio_median']:.1%} of that without, {WANTED:.0%} is wanted")
    for sentence in wrong:
        print(f"wrong: {sentence}", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
