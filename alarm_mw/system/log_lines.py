"""The program's own log lines: with the time, and as JSON objects if the environment asks for them."""

from __future__ import annotations

import os
import time

#: ``json`` or ``text``, the default.
VARIABLE = "ALARM_MW_LOG_FORMAT"


def log_line(level: str, text: str, now: float, mark: str = "") -> str:
    """Return a log line of this process, without its end. `mark` names the process where there are several."""
    moment = time.localtime(now)
    if os.environ.get(VARIABLE) != "json":
        at = f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)},{int(now * 1000) % 1000:03}"
        return f"{at} alarm-mw: {mark}{level}: {text}"
    import json  # noqa: PLC0415  # the supervisor does without it

    at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(now * 1000) % 1000:03}{time.strftime('%z', moment)}"
    facts = {"time": at, "level": level, "logger": "alarm_mw", "process": mark.removesuffix(": "), "pid": os.getpid()}
    return json.dumps({name: value for name, value in facts.items() if value} | {"message": text})


def start_logging(level: str, mark: str = "") -> None:
    """Write log records from `level` on to the standard error, a line each; a traceback is part of its line's text."""
    import logging  # noqa: PLC0415  # see above

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return log_line(record.levelname, super().format(record), record.created, mark)

    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=level, handlers=[handler])
