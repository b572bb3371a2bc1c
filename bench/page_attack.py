"""The way of a line while the page is attacked: a thousand connections, slow requests, 10 MB forms, forged requests.

``python bench/page_attack.py``, with the options of `harness`. The same attack on the page of another server is the
peer: what attackers and answers take of the machine's processors is in both.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from corpus import access_lines, configuration, patterns
from harness import Case, Metric, Options, Section, run
from pipeline import ALARM_MW, PATIENCE, Writing, below_us, start

from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

METRICS = {
    "lines": Metric("thousand lines/s", more=True),
    "processor": Metric("processor, ns/line"),
    "memory": Metric("memory, MiB"),
    "growth": Metric("memory it grew by, MiB"),
}

ATTACKER = str(Path(__file__).with_name("attacker.py"))

#: Forged requests a second of the moderate attack.
REQUESTS = 100


def sections(options: Options) -> Iterator[Section]:
    """Measure line by line, and in large portions."""
    connections = options.pick(full=1000, quick=1000, tiny=10)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        lines = folder / "lines"
        lines.write_text("".join(access_lines(10_000)), encoding="utf-8")
        for portion, how, times in (
            (0, "a write for each line", options.pick(full=200, quick=100, tiny=1)),
            (65_536, "writes of 64 KB", options.pick(full=2000, quick=400, tiny=2)),
        ):
            measured = partial(_measured, folder, Writing(lines, times, portion), connections)
            cases = [
                Case("nobody attacks", partial(measured, None)),
                Case("another server's page is attacked", partial(measured, REQUESTS, on_other=True)),
                Case("the page is attacked", partial(measured, REQUESTS)),
            ]
            if not portion:
                cases += [
                    Case(
                        "another server's page, as fast as it answers",
                        partial(measured, 0, on_other=True),
                        "nobody attacks",
                    ),
                    Case(
                        "the page, as fast as it answers",
                        partial(measured, 0),
                        "another server's page, as fast as it answers",
                    ),
                ]
            notes = [f"{connections} slow connections, 4 forms of 10 MB and {REQUESTS} forged requests a second"]
            peer = "another server's page is attacked"
            yield Section(f"Under attack, {how}", METRICS, cases, peer=peer, notes=notes, warm_up=1)


class Attack:
    """Begins when the first line has come, and looks at the memory of the master until the last one has."""

    def __init__(self, stack: ExitStack, words: list[str], state: Path, size: int) -> None:
        self._stack = stack
        self._words = words
        self._socket = str(state / SOCKET_NAME)
        self._size = size
        self._master = 0
        self.before = self.most = 0.0

    def __call__(self, seen: int) -> None:
        """Hear how many bytes have come."""
        if not self._master:
            self._master = int(ask_patiently(self._socket, "/status")["pid"])
            self.before = resident(self._master)
            if self._words:
                attacker = start(self._stack, self._words, stdout=subprocess.PIPE)
                assert attacker.stdout is not None
                assert attacker.stdout.readline() == b"under way\n"
        if seen >= self._size:
            self.most = max(self.most, resident(self._master))


def _measured(
    folder: Path, writing: Writing, connections: int, requests: int | None, *, on_other: bool = False
) -> dict[str, float | None]:
    port, other = free_port(), free_port()
    config = configuration(folder, patterns(10), top=f'[web]\nlisten = "127.0.0.1:{port}"')
    with ExitStack() as stack:
        if on_other:
            _start_other(stack, folder / "other", other)
        words = [sys.executable, ATTACKER, str(other if on_other else port), str(connections), str(requests)]
        attack = Attack(stack, [] if requests is None else words, folder / "state", writing.size)
        flow = below_us(config, writing, folder, attack)
        return {**flow.per_line(writing), "memory": attack.most, "growth": attack.most - attack.before}


def _start_other(stack: ExitStack, folder: Path, port: int) -> None:
    folder.mkdir(exist_ok=True)
    config = configuration(folder, patterns(10), top=f'[web]\nlisten = "127.0.0.1:{port}"')
    state = ["--state-dir", str(folder / "state")]
    start(stack, [ALARM_MW, "run", "--config", str(config), *state, "--", "sleep", "600"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if time.monotonic() > deadline:
            raise RuntimeError("the other server does not start")
        time.sleep(0.05)


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def resident(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    run("page_attack", sections, packages=["hyperscan", "uvicorn", "starlette"])
