"""Where dead letters are asked for: at a running master, or in the outbox of a server that does not run."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from alarm_mw.app.launch.state import OUTBOX_NAME, StateDir, running, state_dirs
from alarm_mw.delivery.dead_letters import Answer, DeadLetters, Order
from alarm_mw.delivery.outbox.database import UnusableError, open_existing
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME, SOCKET_VARIABLE


class DeskError(Exception):
    """Nobody can be asked, or whoever was asked cannot answer: a sentence for people."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One server's."""

    #: A state directory, or a records socket.
    place: Path
    is_socket: bool = False

    def carry_out(self, order: Order) -> Answer:
        """Have it done; raise `DeskError`. Blocks."""
        if self.is_socket:
            return _online(str(self.place), order)
        if not (self.place / OUTBOX_NAME).exists():
            raise DeskError(f"there is no outbox in {self.place}")
        try:
            claimed = StateDir.claim(self.place)
        except OSError as error:
            raise DeskError(f"the state directory {self.place} cannot be used: {error.strerror}") from error
        if claimed is None:  # its server runs
            return _online(str(self.place / SOCKET_NAME), order)
        try:
            return _offline(self.place / OUTBOX_NAME, order)
        finally:
            os.close(claimed.lock)


def desk(state_dir: Path | None, socket: str | None, environ: Mapping[str, str]) -> Desk:
    """Return the one that is meant; raise `DeskError` where that is not one."""
    if socket or (not state_dir and environ.get(SOCKET_VARIABLE)):
        return Desk(Path(socket or environ[SOCKET_VARIABLE]), is_socket=True)
    if state_dir:
        return Desk(state_dir)
    found = [Desk(path.parent) for path in running(environ)] or desks(environ)
    if not found:
        raise DeskError("no server has a default state directory here; give --state-dir")
    if len(found) > 1:
        choices = "".join(f"\n  --state-dir {each.place}" for each in found)
        raise DeskError(f"there are several servers, give one of{choices}")
    return found[0]


def desks(environ: Mapping[str, str]) -> list[Desk]:
    """Return those of all default state directories."""
    return [Desk(path) for path in state_dirs(environ)]


def _online(socket: str, order: Order) -> Answer:
    try:
        answer = ask_patiently(socket, "/dead", method="POST", body=msgspec.json.encode(order))
        return msgspec.convert(answer, Answer)
    except (NotRunningError, msgspec.ValidationError) as error:
        raise DeskError(str(error)) from error


def _offline(path: Path, order: Order) -> Answer:
    try:
        with contextlib.closing(Outbox(path, opened=open_existing(path))) as outbox:
            return DeadLetters(outbox, is_running=False).carry_out(order)
    except (UnusableError, sqlite3.Error) as error:
        raise DeskError(str(error)) from error
