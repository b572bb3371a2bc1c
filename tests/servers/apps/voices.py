"""What every application of the matrix has to say: a number, once by each way that there is to say it."""

from __future__ import annotations

import itertools
import logging
import os
import signal
from collections.abc import Callable

import structlog

import alarm_mw
from alarm_mw.requests import Request

places = itertools.count()


def configure() -> None:
    """Configure logging as an application does: each record to the alarms, and to the console."""
    if hook := os.environ.get("IN_PROCESS_HOOK"):
        every = {"repeat_after": 0}  # the lines differ by their numbers alone
        alarm_mw.init(
            alarms={"hook": {"action": "curl", "url": hook, "limits": every}}, log_alarms=["hook TERRIBLE ALARM"]
        )
        alarm_mw.capture_stdio()
    logging.basicConfig(level="INFO", handlers=[alarm_mw.AlarmHandler(), logging.StreamHandler()])
    structlog.configure(
        processors=[structlog.processors.add_log_level, alarm_mw.AlarmProcessor(), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(),
    )


def text(way: str, number: object) -> str:
    """Return what is said, with the process that says it, and the place in all that this one says."""
    return f"TERRIBLE ALARM {way} {number} of {os.getpid()}: {next(places)}"


def say(number: object) -> None:
    """Say a number by each way that needs no request."""
    print(text("print", number))
    logging.getLogger("shop").error(text("logging", number))
    structlog.get_logger().error(text("structlog", number))


def answer(path: str) -> bytes:
    """Say the number of ``/say/NUMBER``, ``/die/NUMBER`` and ``/leave/NUMBER``, and do that; ``/`` says nothing."""
    _, verb, *rest = path.split("/")
    if rest:
        say(rest[0])
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "leave":
        os._exit(3)
    return str(os.getpid()).encode()


def said(request: Request) -> str | None:
    """Say, as a request rule, the number of a request that was answered."""
    number = request.path.split("/")[2:]
    return text("middleware", number[0]) if number else None


RULES: list[Callable[[Request], str | None]] = [said]
