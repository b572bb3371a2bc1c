"""Celery: what a task prints and logs, which Celery takes into its own hands."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
