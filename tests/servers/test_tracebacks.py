"""Tracebacks under ``alarm-mw run``: each is one alarm, whole, whoever else prints into the same pipe."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[[rules]]
pattern = "PaymentError"
alarms = "a"

[alarms.a]
action = "cmd"
command = "cat > messages/$ALARM_ID"
limits = { for_humans = false }
"""

#: Two workers with three threads each print 10,000 lines and 30 chained tracebacks, each of these at once as `logging`
#: and `print(traceback.format_exc())` do.
SHOP = """
import os, random, sys, threading, traceback
class PaymentError(Exception): pass
def charge(order):
    raise KeyError(order)
def pay(order):
    try:
        charge(order)
    except KeyError as error:
        raise PaymentError(f"{order} failed") from error
def serve(name):
    failing = random.Random(name).sample(range(1600), 5)
    for n in range(1667):
        sys.stderr.write(f"request {n} of {name} took 3 ms\\n")
        if n in failing:
            try:
                pay(f"{name}-{n}")
            except PaymentError:
                sys.stderr.write(traceback.format_exc())
for worker in "ab":
    if not os.fork():
        threads = [threading.Thread(target=serve, args=(f"{worker}{n}",)) for n in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os._exit(0)
os.wait(), os.wait()
"""

HALF = """
import sys
def write(text):
    sys.stderr.write(text); sys.stderr.flush()
write('Traceback (most recent call last):\\\\n  File "/app/shop.py", line 3, in pay\\\\n    charge(order)\\\\n')
sys.stdin.readline()
write("PaymentError: card declined\\\\n")
sys.stdin.readline()
""".replace("\\\\n", "\\n")


@pytest.fixture
def directory(installation: Any) -> Path:
    directory: Path = installation.directory
    (directory / "a.toml").write_text(CONFIG)
    (directory / "messages").mkdir()
    return directory


def messages(directory: Path) -> list[str]:
    return [file.read_text() for file in (directory / "messages").iterdir()]


def test_each_traceback_of_threads_and_workers_is_one_alarm(installation: Any, directory: Path) -> None:
    """Among 10,000 other lines of six threads in two processes, 30 chained tracebacks are 30 whole alarms."""
    run = installation.run(("--config", "a.toml"), sys.executable, "-c", SHOP)
    told = messages(directory)
    orders = [re.findall(r"^(?:KeyError: '|PaymentError: )([ab]\d-\d+)", text, re.MULTILINE) for text in told]
    assert sorted(order for order, *_ in orders) == sorted(
        order.decode() for order in re.findall(rb"PaymentError: (\S+)", run.stderr)
    )
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in orders)
    assert len(told) == 30
    assert len({re.sub(r"[ab]\d-\d+", "", text) for text in told}) == 1
    assert run.stderr.count(b"request") == 10_002
    assert not any("request" in text for text in told)


def test_ini_file_keeps_one_alarm_a_line(installation: Any, directory: Path) -> None:
    """With uWSGI's options each matching line is an alarm of its own, as in uWSGI."""
    (directory / "uwsgi.ini").write_text(
        "[uwsgi]\nalarm-freq = 0\nalarm = a cmd:cat >> lines\nlog-alarm = a Error|Traceback\n"
    )
    text = 'Traceback (most recent call last):\\n  File "a.py", line 3, in pay\\nKeyError: 1\\n'
    installation.run(("--ini", "uwsgi.ini"), "printf", text)
    assert sorted((directory / "lines").read_text().splitlines()) == [
        "KeyError: 1",
        "Traceback (most recent call last):",
    ]


def test_killed_master_loses_no_half_of_a_traceback(
    installation: Any, directory: Path, until: Callable[..., None]
) -> None:
    """A master that is killed within a traceback leaves what it has seen to the next one: the alarm is whole."""
    (directory / "a.toml").write_text(CONFIG + "\n[records.stderr]\nmax_wait = 20\n")
    with (directory / "output").open("wb") as output:
        server = installation.start(
            ("--config", "a.toml"), sys.executable, "-c", HALF, stdin=-1, stdout=output, stderr=output
        )
    until(lambda: b"charge" in (directory / "output").read_bytes())
    (master,) = installation.masters(server.pid)
    os.kill(master, signal.SIGKILL)
    server.stdin.write(b"\n")
    server.stdin.flush()
    until(lambda: b"declined" in (directory / "output").read_bytes())
    server.communicate(b"\n", timeout=60)
    (text,) = messages(directory)
    assert text == (
        "Traceback (most recent call last):\n"
        '  File "/app/shop.py", line 3, in pay\n'
        "    charge(order)\n"
        "PaymentError: card declined\n"
    )
