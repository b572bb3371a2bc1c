"""Celery: what a task prints and logs, which Celery takes into its own hands."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alarm_mw.config.rule_sets import RULE_SETS

DOCS = Path(__file__).parents[2] / "docs"

TASKS = """
import logging
import os

from celery import Celery
from celery.signals import after_setup_logger

import alarm_mw

folder = os.path.abspath("queue")
os.makedirs(folder, exist_ok=True)
places = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), folder)
app = Celery("tasks", broker="filesystem://", broker_transport_options=places)
app.conf.broker_connection_retry_on_startup = True

@after_setup_logger.connect
def add_alarms(logger, **_):
    logger.addHandler(alarm_mw.AlarmHandler())

@app.task
def work():
    print("TERRIBLE ALARM printed")
    logging.getLogger("work").error("TERRIBLE ALARM logged")
"""


def test_what_a_task_says_fires_once(installation: Any, until: Callable[..., None]) -> None:
    """Celery logs what is printed, and prints it: handler and output see the same, and one alarm fires."""
    folder: Path = installation.directory
    (folder / "tasks.py").write_text(TASKS)
    installation.environ["PYTHONPATH"] = str(folder)
    rules = ("--alarm", "a cmd:cat >> out.txt", "--log-alarm", "a TERRIBLE ALARM", "--alarm-freq", "0")
    celery = [sys.executable, "-m", "celery", "--app", "tasks"]
    out = folder / "out.txt"
    with (folder / "log").open("wb") as log:
        process = installation.start(rules, *celery, "worker", "--concurrency", "2", stdout=log, stderr=log)
        subprocess.run([*celery, "call", "tasks.work"], cwd=folder, env=installation.environ, check=True, stdout=log)
        until(lambda: out.exists() and "printed" in out.read_text() and "logged" in out.read_text())
        until(lambda: installation.status()["alarms"]["a"]["held_back"].get("echo") == 2)
        status = installation.status()
        process.send_signal(signal.SIGQUIT)
        process.wait(60)
    assert len([line for line in out.read_text().splitlines() if "TERRIBLE" in line]) == 2
    assert status["alarms"]["a"]["fired"] == 2
    assert status["sources"]["logging"]["lines"] >= 2
    assert status["imbalances"] == []


LEVELS = """
from celery.utils.log import get_task_logger

places = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), "queue")
app.conf.update(broker_url="filesystem://", broker_transport_options=places, broker_connection_retry_on_startup=True)

@app.task
def work():
    get_task_logger(__name__).error("the bank does not answer")
    raise ValueError("the world exploded")
"""

RULES = """
[alarms]
a = "cmd:cat >> out.txt"

[[rules]]
pattern = "the bank does not answer|raised unexpected"
level = "ERROR"
alarms = "a"
"""


def test_rules_that_ask_for_a_level_see_what_tasks_log(installation: Any, until: Callable[..., None]) -> None:
    """The lines on the page give the handler to Celery's own loggers as well: the tasks', and that of failed tasks."""
    folder: Path = installation.directory
    (folder / "queue").mkdir()
    (folder / "tasks.py").write_text(_listing("servers.md", "tasks.py") + LEVELS)
    (folder / "alarm-mw.toml").write_text(RULES)
    celery = [sys.executable, "-m", "celery", "--app", "tasks"]
    with (folder / "log").open("wb") as log:
        process = installation.start((), *celery, "worker", "--concurrency", "1", stdout=log, stderr=log)
        subprocess.run([*celery, "call", "tasks.work"], cwd=folder, env=installation.environ, check=True, stdout=log)
        until(lambda: "work[" in (folder / "log").read_text() and "ValueError" in (folder / "log").read_text())
        until(lambda: installation.status()["alarms"]["a"]["delivered"] == 2)
        process.send_signal(signal.SIGQUIT)
        process.wait(60)


def _listing(page: str, name: str) -> str:
    text = (DOCS / page).read_text()
    return text[text.index(f"# {name}\n") :].partition("```")[0]


TROUBLE = """
import os
import signal
import time

from celery import Celery

places = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), "queue")
app = Celery("tasks", broker="filesystem://", broker_transport_options=places)
app.conf.broker_connection_retry_on_startup = True

@app.task
def fail():
    raise ValueError("the world exploded")

@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)

@app.task(time_limit=1)
def linger():
    time.sleep(60)
"""


def test_what_celery_says_when_something_is_wrong(installation: Any, until: Callable[..., None]) -> None:
    """Each event fires its rule of the ready set, once, and no other."""
    folder: Path = installation.directory
    (folder / "queue").mkdir()
    (folder / "tasks.py").write_text(TROUBLE)
    expected = ("task_failed", "time_limit", "unknown_task", "worker_died")
    rules = [part for rule in RULE_SETS["celery"] for part in _told(rule.name)]
    celery = [sys.executable, "-m", "celery", "--app", "tasks"]
    with (folder / "log").open("wb") as log:
        process = installation.start(rules, *celery, "worker", "--concurrency", "1", stdout=log, stderr=log)
        for task in ("fail", "linger", "unknown", "die"):
            call = [*celery, "call", f"tasks.{task}"]
            subprocess.run(call, cwd=folder, env=installation.environ, check=True, stdout=log)
        until(lambda: all((folder / name).exists() for name in expected))
        process.send_signal(signal.SIGQUIT)
        process.wait(60)
    fired = {
        rule.name: (folder / rule.name).read_text() for rule in RULE_SETS["celery"] if (folder / rule.name).exists()
    }
    counts = {name: text.count("\n") for name, text in fired.items()}
    # A process that takes more than a moment to end by SIGTERM, after its time limit, is killed as well.
    assert counts.pop("worker_died") in {1, 2}
    assert counts == dict.fromkeys(expected[:-1], 1)


def _told(rule: str) -> tuple[str, ...]:
    return "--alarm", f"{rule} cmd:cat >> {rule}", "--rules", f"{rule} celery.{rule}"
