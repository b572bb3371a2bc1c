"""A Celery worker that gives itself its tasks, through files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import voices
from celery import Celery, signals

QUEUE = Path("queue")
for folder in ("messages", "control"):
    (QUEUE / folder).mkdir(parents=True, exist_ok=True)

app = Celery("celery_app", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(QUEUE / "messages"),
        "data_folder_out": str(QUEUE / "messages"),
        "control_folder": str(QUEUE / "control"),
        "polling_interval": 0.05,
    },
    worker_hijack_root_logger=False,
    task_ignore_result=True,
)


def configure(**_: Any) -> None:
    voices.configure()


def begin(**_: Any) -> None:
    for path in os.environ["TASKS"].split():
        answer.delay(path)


answer = app.task(voices.answer, name="answer")
signals.setup_logging.connect(configure)
signals.worker_ready.connect(begin)
