"""Small HTTP servers on the event loop, which cost nothing until somebody asks: the control socket, and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alarm_mw.config.upkeep import host_and_port
from alarm_mw.master.batch import Silence
from alarm_mw.master.control import Silenced, Status
from alarm_mw.master.listening import listen
from alarm_mw.master.peers import GuardedSocket, is_owners
from alarm_mw.master.prometheus import CONTENT_TYPE
from alarm_mw.master.reload import Reloaded

if TYPE_CHECKING:
    from starlette.routing import Route
    from starlette.types import ASGIApp

    from alarm_mw.master.quiet_server import QuietServer

log = logging.getLogger(__name__)

#: How many callers may be connecting at once.
BACKLOG = 16

#: Seconds until it is tried again to load what answers.
LOAD_PAUSE = 1.0

#: Bytes that an order about dead letters may have.
MAX_BODY = 1024 * 1024

#: Seconds for requests to be answered when a listener is to end.
STOP_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the control API does when it is asked; all but `reload` is called in a thread."""

    status: Callable[[], Status]
    metrics: Callable[[], bytes]
    reload: Callable[[], Coroutine[None, None, Reloaded]]
    #: Returns the names of all alarms, and the silences that last.
    silence: Callable[[Silence], tuple[list[str], dict[str, Silenced]]]
    dead: Callable[[bytes], bytes]


class LazyServer:
    """Serves what `make_app` makes; loads the web framework when the first connection arrives."""

    def __init__(self, name: str, listener: socket.socket, make_app: Callable[[], ASGIApp]) -> None:
        self._name = name
        self._listener = listener
        self._make_app = make_app
        self._serving: asyncio.Task[None] | None = None
        self._server: QuietServer | None = None

    async def start(self) -> None:
        """Wait for the first connection, without being in the way."""
        asyncio.get_running_loop().add_reader(self._listener, self._first_connection)

    def _first_connection(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._serving = asyncio.create_task(self._serve(), name=f"alarm-mw-{self._name}")

    async def _serve(self) -> None:
        while self._server is None:
            try:
                self._server = self._made()
            except (OSError, ImportError) as error:  # such as no descriptor left
                log.error("nobody can be answered at the %s socket: %s", self._name, error)
                await asyncio.sleep(LOAD_PAUSE)
        await self._server.serve(sockets=[self._listener])

    def _made(self) -> QuietServer:
        import uvicorn  # noqa: PLC0415  # 60 ms and 6 MB, for the first who asks

        from alarm_mw.master.http_protocol import BoundedProtocol  # noqa: PLC0415  # they load it
        from alarm_mw.master.quiet_server import QuietServer  # noqa: PLC0415  # they load it

        config = uvicorn.Config(
            self._make_app(),
            http=BoundedProtocol,
            backlog=BACKLOG,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        return QuietServer(config)

    async def stop(self, timeout: float) -> None:
        """Stop serving within `timeout` seconds."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._server is not None:
            self._server.end()
        elif self._serving is not None:
            self._serving.cancel()
        if self._serving is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._serving, timeout)
        self._listener.close()


class ControlServer:
    """The control API at `path`."""

    def __init__(self, path: Path, answers: Answers) -> None:
        self._path = path
        listener = GuardedSocket.of(listen(path, BACKLOG), is_owners)
        self._server = LazyServer("control", listener, lambda: control_app(answers))

    async def start(self) -> None:
        """Wait for the first connection."""
        await self._server.start()

    async def stop(self, timeout: float) -> None:
        """Stop serving within `timeout` seconds and take the socket's path away."""
        await self._server.stop(timeout)
        self._path.unlink(missing_ok=True)


class MetricsPort:
    """Serves ``/metrics``, and nothing else, at the TCP address of the configuration. Lives on the event loop."""

    def __init__(self, tell_metrics: Callable[[], bytes]) -> None:
        self._tell_metrics = tell_metrics
        self._address = ""
        self._server: LazyServer | None = None

    async def listen_at(self, address: str) -> None:
        """Listen at ``host:port`` from now on, at no address where it is empty; the log tells why that cannot be."""
        if address == self._address and (self._server is not None or not address):
            return
        await self.stop()
        self._address = address
        if address:
            self._server = await self._started(address)

    async def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(STOP_TIMEOUT)

    async def _started(self, address: str) -> LazyServer | None:
        host, port = host_and_port(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            log.error("metrics cannot be shown at %s: %s", address, error)
            return None
        listener.setblocking(False)
        server = LazyServer("metrics", listener, lambda: _metrics(self._tell_metrics))
        await server.start()
        return server


def control_app(answers: Answers) -> ASGIApp:
    """Return the control API."""
    from starlette.applications import Starlette  # noqa: PLC0415  # see LazyServer
    from starlette.requests import ClientDisconnect, Request  # noqa: PLC0415  # see LazyServer
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415  # see LazyServer
    from starlette.routing import Route  # noqa: PLC0415  # see LazyServer

    async def get_status(_: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(answers.status))

    async def post_reload(_: Request) -> JSONResponse:
        return JSONResponse(await answers.reload())

    async def post_silence(request: Request) -> JSONResponse:
        asked = request.query_params
        try:
            wanted = Silence(asked["alarm"], _seconds(asked["seconds"]), asked.get("comment", ""))
        except (KeyError, ValueError):
            return JSONResponse({"error": "expected alarm and seconds"}, 400)
        known, silences = await asyncio.to_thread(answers.silence, wanted)
        return JSONResponse({"alarms": known, "silences": silences})

    async def post_dead(request: Request) -> Response:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    return JSONResponse({"error": f"more than {MAX_BODY} bytes"}, 413)
        except ClientDisconnect:
            return Response(status_code=400)
        done = await asyncio.to_thread(answers.dead, bytes(body))
        return Response(done, media_type="application/json")

    return Starlette(
        routes=[
            Route("/status", get_status),
            _metrics_route(answers.metrics),
            Route("/reload", post_reload, methods=["POST"]),
            Route("/silence", post_silence, methods=["POST"]),
            Route("/dead", post_dead, methods=["POST"]),
        ]
    )


def _seconds(text: str) -> float:
    """Return a length of time; raise ValueError for what is none, as NaN, which no later status could show."""
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError("no length of time")
    return seconds


def _metrics(tell_metrics: Callable[[], bytes]) -> ASGIApp:
    from starlette.applications import Starlette  # noqa: PLC0415  # see LazyServer

    return Starlette(routes=[_metrics_route(tell_metrics)])


def _metrics_route(tell_metrics: Callable[[], bytes]) -> Route:
    from starlette.requests import Request  # noqa: PLC0415  # see LazyServer
    from starlette.responses import Response  # noqa: PLC0415  # see LazyServer
    from starlette.routing import Route  # noqa: PLC0415  # see LazyServer

    async def get_metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(tell_metrics), headers={"Content-Type": CONTENT_TYPE})

    return Route("/metrics", get_metrics)
