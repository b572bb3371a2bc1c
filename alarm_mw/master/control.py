"""The control API: an HTTP server on a unix socket, which costs nothing until somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from alarm_mw.config.loaded import Loaded
from alarm_mw.delivery.breaker import Failing
from alarm_mw.engine.ledger import Books, imbalances
from alarm_mw.master.batch import Silence
from alarm_mw.master.listening import listen
from alarm_mw.master.reload import Reloaded
from alarm_mw.master.runtime import Runtime

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

#: How many commands may be connecting at once.
BACKLOG = 16


class InForce(TypedDict):
    """The configuration that is in force."""

    #: How often it has been read again since the start.
    generation: int
    #: When it was read, in seconds since the epoch.
    read_at: float
    #: Its files, and whether each is still what was read: False for one that has changed since.
    files: dict[str, bool]


class Silenced(TypedDict):
    """A silence that lasts."""

    #: How many more seconds.
    seconds: float
    comment: str


class Status(TypedDict):
    """What ``alarm-mw status --json`` prints."""

    pid: int
    server_pid: int | None
    state_dir: str
    configuration: InForce
    sources: dict[str, object]
    alarms: dict[str, object]
    #: The alarms that somebody has silenced.
    silences: dict[str, Silenced]
    #: What the application counts by `alarm_mw.metrics`.
    metrics: dict[str, int]
    #: How the receivers of alarms fail, of those that do.
    failing: dict[str, Failing]
    #: One sentence for every equation of the ledger that does not hold.
    imbalances: list[str]


def in_force(loaded: Loaded) -> InForce:
    """Return what is in force. Looks at its files, and so may block."""
    changed = loaded.changed_files()
    return {
        "generation": loaded.generation,
        "read_at": loaded.time,
        "files": {file: file not in changed for file in loaded.files},
    }


def status(runtime: Runtime, state_dir: str, server_pid: int | None, loaded: Loaded) -> Status:
    """Return the ledger as it stands."""
    books, waiting = _steady_books(runtime)
    return {
        "pid": os.getpid(),
        "server_pid": server_pid,
        "state_dir": state_dir,
        "configuration": in_force(loaded),
        "sources": dict(books["sources"]),
        "alarms": dict(books["alarms"]),
        "silences": {
            alarm: {"seconds": seconds, "comment": comment} for alarm, (seconds, comment) in runtime.silences().items()
        },
        "metrics": runtime.metrics.values(),
        "failing": runtime.failing(),
        "imbalances": imbalances(books, waiting),
    }


def _steady_books(runtime: Runtime) -> tuple[Books, dict[str, int]]:
    """Read ledger and outbox at one moment, between two transactions."""
    with runtime.outbox.still():
        return runtime.books()


class ControlServer:
    """Listens at `path`; loads the web framework when the first connection arrives."""

    def __init__(
        self,
        path: Path,
        tell_status: Callable[[], Status],
        reload: Callable[[], Coroutine[None, None, Reloaded]],
        silence: Callable[[Silence], list[str]],
    ) -> None:
        self._path = path
        self._silence = silence
        self._tell_status = tell_status
        self._reload = reload
        self._listener = listen(path, BACKLOG)
        self._serving: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None

    async def start(self) -> None:
        """Wait for the first connection, without being in the way."""
        asyncio.get_running_loop().add_reader(self._listener, self._first_connection)

    def _first_connection(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._serving = asyncio.create_task(self._serve(), name="alarm-mw-control")

    async def _serve(self) -> None:
        import uvicorn  # noqa: PLC0415  # 60 ms and 10 MB, for the first who asks

        app = _application(self._tell_status, self._reload, self._silence)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        await self._server.serve(sockets=[self._listener])

    async def stop(self, timeout: float) -> None:
        """Stop serving within `timeout` seconds and take the socket's path away."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._server is not None:
            self._server.should_exit = True
        if self._serving is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._serving, timeout)
        self._listener.close()
        self._path.unlink(missing_ok=True)


def _application(
    tell_status: Callable[[], Status],
    reload: Callable[[], Coroutine[None, None, Reloaded]],
    silence: Callable[[Silence], list[str]],
) -> ASGIApp:
    from starlette.applications import Starlette  # noqa: PLC0415  # see ControlServer
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import JSONResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def get_status(_: Request) -> JSONResponse:
        return JSONResponse(tell_status())

    async def post_reload(_: Request) -> JSONResponse:
        return JSONResponse(await reload())

    async def post_silence(request: Request) -> JSONResponse:
        asked = request.query_params
        try:
            wanted = Silence(asked["alarm"], float(asked["seconds"]), asked.get("comment", ""))
        except (KeyError, ValueError):
            return JSONResponse({"error": "expected alarm and seconds"}, 400)
        return JSONResponse({"alarms": silence(wanted)})

    return Starlette(
        routes=[
            Route("/status", get_status),
            Route("/reload", post_reload, methods=["POST"]),
            Route("/silence", post_silence, methods=["POST"]),
        ]
    )
