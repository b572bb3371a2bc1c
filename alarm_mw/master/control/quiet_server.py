"""uvicorn's server for a process that is asked now and then: import it only when somebody asks."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp

from alarm_mw.master.control.http_protocol import BoundedProtocol, ClosableState


class QuietServer(uvicorn.Server):
    """Wakes up for callers and for its end only, where uvicorn's looks ten times a second at the clock."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = self._state = ClosableState()
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Let `serve` return soon."""
        self.should_exit = True
        self._state.is_closing = True
        self._is_over.set()

    async def main_loop(self) -> None:
        """Wait for the end; `BoundedProtocol` does what a tick of uvicorn's would."""
        await self._is_over.wait()


def server_of(app: ASGIApp, backlog: int) -> QuietServer:
    """Return a server for `app`, at whose listener so many callers may be connecting at once."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        backlog=backlog,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    return QuietServer(config)
