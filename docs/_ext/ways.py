"""``{ways}``: the ways of a printed line and of a log call through the program, traced in a real run."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from reference import Generated, table
from sphinx.application import Sphinx

#: Seconds that the traced program may take.
LIMIT = 60.0

#: Where a line is looked at or handed on. Its way are the functions that are open at the first call of each.
_MILESTONES_OF_A_PRINT = (
    "patterns.prefilter.Prefilter.scan",
    "master.worker.worker.Worker.submit",
    "engine.flood_control.flood_control.FloodControl.decide",
    "delivery.outbox.outbox.Outbox.take",
    "delivery.dispatcher.Dispatcher.offer",
    "delivery.lane.Lane.offer",
    "delivery.lane.Lane._work",
    "actions.curl.http_transport.Connection.exchange",
)
_MILESTONES_OF_A_LOG_CALL = (
    "handler.AlarmHandler.emit",
    "transports.records.RecordMaker.make",
    "transports.wire.encode",
    "transports.unix.UnixTransport.send",
    "transports.wire.decode",
    "master.worker.worker.Worker.submit",
)

#: Installed as `sitecustomize` in every process of the run: notes what is open whenever a milestone is called.
_TRACER = """
import atexit, json, os, sys, threading, time
milestones, calls = frozenset(os.environ.get("WAYS_MILESTONES", "").split()), []
def name(frame):
    return f"{frame.f_globals['__name__'].removeprefix('alarm_mw.')}.{frame.f_code.co_qualname}"
def note(frame, event, _):
    if event == "call" and "/alarm_mw/" in frame.f_code.co_filename and name(frame) in milestones:
        now, opened = time.monotonic(), []
        while frame is not None:
            if "/alarm_mw/" in frame.f_code.co_filename:
                opened.append(name(frame))
            frame = frame.f_back
        calls.append((now, opened[::-1]))
def save():
    sys.setprofile(None)
    with open(os.path.join(os.environ["WAYS_FOLDER"], f"{os.getpid()}.json"), "w") as file:
        json.dump(calls, file)
if milestones:
    threading.setprofile(note)
    sys.setprofile(note)
    atexit.register(save)
"""

#: Prints or logs the same once to open every connection, and once more to be traced.
_PROGRAM = """
import logging, pathlib, sys, time
import alarm_mw
logging.getLogger("shop").addHandler(alarm_mw.AlarmHandler())
def emit(text):
    print(text, flush=True) if sys.argv[1] == "print" else logging.getLogger("shop").error(text)
for number in range(2):
    text = f"TERRIBLE ALARM {number}"
    sys.stdin.readline()
    if number:
        pathlib.Path(sys.argv[2]).write_text(repr(time.monotonic()))
    emit(text)
sys.stdin.readline()
"""

_CONFIGURATION = """
[alarms.hook]
action = "curl"
url = "http://127.0.0.1:{port}/"
method = "POST"
limits = {{ repeat_after = 0 }}
[[rules]]
pattern = "^TERRIBLE ALARM"
alarms = ["hook"]
"""


def way_of_a_print() -> list[str]:
    """Return the functions that a printed line passes from the pipe to the request, in order, each once."""
    return _traced("print", _MILESTONES_OF_A_PRINT)


def way_of_a_log_call() -> list[str]:
    """Return the functions from the log call until the worker has the record, in order, each once."""
    return _traced("log", _MILESTONES_OF_A_LOG_CALL)


def _traced(how: str, milestones: Sequence[str]) -> list[str]:
    """Run a program that prints or logs an alarm under ``alarm-mw run``, and return the functions on its way."""
    with tempfile.TemporaryDirectory() as name, _receiver() as (port, requests):
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(_TRACER, "utf-8")
        (folder / "program.py").write_text(_PROGRAM, "utf-8")
        (folder / "alarm-mw.toml").write_text(_CONFIGURATION.format(port=port), "utf-8")
        command = [str(Path(sys.executable).with_name("alarm-mw")), "run", "--config", "alarm-mw.toml"]
        command += ["--state-dir", "state", "--", sys.executable, "program.py", how, "began"]
        environ = {**os.environ, "PYTHONPATH": name, "WAYS_FOLDER": name, "WAYS_MILESTONES": " ".join(milestones)}
        with subprocess.Popen(
            command, cwd=name, env=environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as run:
            assert run.stdin is not None
            for number in range(2):
                run.stdin.write("\n")
                run.stdin.flush()
                requests.wait_for(number + 1)
            run.communicate("\n", timeout=LIMIT)
        began, ended = float((folder / "began").read_text("utf-8")), requests.times[1]
        calls = [each for file in folder.glob("*.json") for each in json.loads(file.read_text("utf-8"))]
    stacks = list(_in_order(milestones, sorted(each for each in calls if began <= each[0] <= ended)))
    # A comprehension is a part of its function.
    return list(dict.fromkeys(name for opened in stacks for name in opened if not name.endswith(">")))


def _in_order(milestones: Sequence[str], calls: Sequence[tuple[float, list[str]]]) -> Iterator[list[str]]:
    """Return what was open at the first call of each milestone after that of the one before it."""
    ahead = iter(calls)
    for milestone in milestones:
        found = next((opened for _, opened in ahead if opened[-1] == milestone), None)
        if found is None:
            raise LookupError(f"the way does not lead over {milestone}")
        yield found


class _Requests:
    """When requests came."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.times.append(time.monotonic())
            self._changed.notify_all()

    def wait_for(self, n: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.times) >= n, LIMIT)


@contextmanager
def _receiver() -> Iterator[tuple[int, _Requests]]:
    """Receive webhooks on a port of this machine."""
    requests = _Requests()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            requests.add()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], requests
        finally:
            server.shutdown()
            thread.join()


def modules_of(way: Sequence[str]) -> list[str]:
    """Return the module of each function of a way."""
    outer = [name.partition(".<locals>")[0] for name in way]
    return [re.match(r"[a-z0-9_.]+(?=\.)", name)[0] for name in outer]  # type: ignore[index]


def report() -> Iterator[str]:
    """Return both ways, a line for each function, below a line with their counts."""
    for title, way in (("A printed line", way_of_a_print()), ("A log call", way_of_a_log_call())):
        yield f"{title}: {len(way)} functions in {len({*modules_of(way)})} modules"
        yield from (f"  {name}" for name in way)


class Ways(Generated):
    """Shows both ways, with the functions of a module that follow each other in one row."""

    def lines(self) -> Iterator[str]:
        """Return a sentence and a table for each way."""
        ways = (
            ("A printed line, from the pipe to the webhook's request", way_of_a_print()),
            ("A log call, from the handler to the worker thread", way_of_a_log_call()),
        )
        for title, way in ways:
            modules = modules_of(way)
            yield from ("", f"**{title}** ({len(way)} functions in {len({*modules})} modules):", "")
            groups = itertools.groupby(zip(modules, way, strict=True), key=lambda pair: pair[0])
            rows = (
                (f"`{module}`", ", ".join(f"`{name.removeprefix(module + '.')}`" for _, name in pairs))
                for module, pairs in groups
            )
            yield from table(("module", "functions, in this order"), rows)


def setup(app: Sphinx) -> dict[str, object]:
    """Add the directive (Sphinx's extension interface)."""
    app.add_directive("ways", Ways)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
