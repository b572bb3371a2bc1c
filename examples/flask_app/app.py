"""A shop that raises alarms in every way: it prints, it logs, and a middleware watches its requests."""

from __future__ import annotations

import logging
import logging.config

from flask import Flask

from alarm_mw.wsgi import UploadCheck

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line"},
            "alarms": {"class": "alarm_mw.AlarmHandler", "formatter": "line"},
        },
        "loggers": {"shop": {"level": "INFO", "handlers": ["alarms", "console"]}},
    }
)

logger = logging.getLogger("shop")

app = Flask(__name__)
app.wsgi_app = UploadCheck(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way to add a middleware


@app.get("/")
def index() -> str:
    print("Somebody looks at the shop.")
    return "Welcome.\n"


@app.post("/upload")
def upload() -> str:
    return "Thank you.\n"


@app.get("/explode")
def explode() -> str:
    print("TERRIBLE ALARM! The world exploded!!!")
    return "It was a nice world.\n"


@app.get("/drill")
def drill() -> str:
    print("TERRIBLE ALARM! This is only a drill.")
    return "Please stay calm.\n"


@app.get("/pay")
def pay() -> str:
    logger.error("order 42 could not be paid")
    return "Please try another card.\n"
