"""What the command line is told of a master."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from alarm_mw.master.control.servers import ControlServer
from alarm_mw.master.control.status import Answers, Status
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask, read_patiently
from alarm_mw.transports.places import control_path


def fail() -> Status:
    raise RuntimeError("a mistake")


def test_a_master_that_fails_is_not_taken_for_none(tmp_path: Path) -> None:
    """The error says that it has answered, and where to look; its page of errors is no figures."""
    socket = str(tmp_path / "alarm.sock")
    nothing = cast("Any", None)
    answers = Answers(fail, cast("Any", fail), nothing, nothing, nothing)

    async def run() -> None:
        server = ControlServer(Path(control_path(socket)), answers, MagicMock())
        await server.start()
        for question in (ask, read_patiently):
            with pytest.raises(NotRunningError, match="HTTP 500; its log says why"):
                await asyncio.to_thread(question, socket, "/status")
        await server.stop(1.0)

    asyncio.run(run())
