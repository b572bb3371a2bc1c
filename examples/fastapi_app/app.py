"""A shop that raises alarms in every way: it prints, it logs with structlog, and a middleware watches its requests."""

from __future__ import annotations

import structlog
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from alarm_mw import AlarmProcessor
from alarm_mw.asgi import UploadCheck

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        AlarmProcessor(),
        structlog.processors.JSONRenderer(),
    ]
)

logger = structlog.get_logger()

app = FastAPI(default_response_class=PlainTextResponse)
app.add_middleware(UploadCheck)


@app.get("/")
async def index() -> str:
    print("Somebody looks at the shop.")
    return "Welcome.\n"


@app.post("/upload")
async def upload() -> str:
    return "Thank you.\n"


@app.get("/explode")
async def explode() -> str:
    print("TERRIBLE ALARM! The world exploded!!!")
    return "It was a nice world.\n"


@app.get("/drill")
async def drill() -> str:
    print("TERRIBLE ALARM! This is only a drill.")
    return "Please stay calm.\n"


@app.get("/pay")
async def pay() -> str:
    logger.error("the order could not be paid", order=42)
    return "Please try another card.\n"
