"""``alarm-backlog = NAME``: waits for a listen queue to be full."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.model.keyvalue import build, split
from alarm_mw.monitors.backlog.queues import Fullness, Queue, named, serves
from alarm_mw.monitors.backlog.sock_diag import Listener
from alarm_mw.monitors.backlog.sockets import SocketDiagnosis
from alarm_mw.system.processes import sockets_of_family

#: After so many looks it is asked anew whose a socket is, though no socket is new: one may have been handed over.
ASK_ANEW = 10


class BacklogOptions(PluginOptions, frozen=True, kw_only=True):
    """What the `backlog` monitor can be told."""

    sockets: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="`ADDRESS:PORT`, `:PORT`, path or `@NAME` of each; by default all of the server's"),
    ] = ()
    percent: Annotated[int, msgspec.Meta(ge=1, le=100, description="how full a queue has to be")] = 100
    interval: Annotated[float, msgspec.Meta(ge=0.01, le=3600, description="seconds between two looks")] = 1.0

    def __post_init__(self) -> None:
        """Check that the names can be those of sockets."""
        for name in self.sockets:
            named(name)


class BacklogMonitor:
    """Fires when as many connections wait at a socket as may, and once more when that is over.

    Beyond that the kernel turns clients away. The sockets are those at which the server's processes listen, TCP or
    unix, found by themselves; in process, those of this process and its children. Named ones may be anybody's.
    """

    Options: ClassVar[type[PluginOptions]] = BacklogOptions

    def __init__(self, options: BacklogOptions, context: MonitorContext) -> None:
        self._options = options
        self._context = context
        self._fullness = Fullness(options.percent)
        self._wanted = [(name, named(name)) for name in options.sockets]
        #: Whose sockets are looked for: under `run` the server's, and where there is none, this process's.
        self._in_process = context.server_pid() is None
        self._owned: dict[int, int] = {}
        self._seen: tuple[int | None, frozenset[int]] | None = None
        self._looks = 0

    @classmethod
    def from_uwsgi(cls, args: str) -> BacklogOptions:
        """Return the options: uWSGI has none; here ``percent=80;sockets=127.0.0.1:8000,/run/app.sock`` may follow."""
        return build(BacklogOptions, dict(split(args.strip())))

    async def run(self) -> None:
        """Look at the queues, again and again."""
        with SocketDiagnosis() as diagnosis:
            while True:
                for text in self._fullness.look(self._queues(diagnosis.listeners())):
                    self._context.fire(text.encode("utf-8", "surrogateescape"))
                await asyncio.sleep(self._options.interval)

    def _queues(self, listeners: Sequence[Listener]) -> Iterator[Queue]:
        self._find_owned(frozenset(listener.inode for listener in listeners))
        files = {name: _file(name) for name, _ in self._wanted}
        for listener in listeners:
            fd = self._owned.get(listener.inode)
            is_wanted = any(serves(listener, wanted, files[name]) for name, wanted in self._wanted)
            if is_wanted or (fd is not None and not self._wanted):
                yield Queue(listener, fd)

    def _find_owned(self, inodes: frozenset[int]) -> None:
        """Look into the processes, but only when a socket or the server is new: this costs more than all the rest."""
        root = os.getpid() if self._in_process else self._context.server_pid()
        self._looks += 1
        if self._seen != (root, inodes) or self._looks % ASK_ANEW == 0:
            self._seen = (root, inodes)
            self._owned = {} if root is None else sockets_of_family(root)


def _file(name: str) -> tuple[int, int] | None:
    """Return the device and the inode of a socket's file: a server may have bound it by another path."""
    with contextlib.suppress(OSError, ValueError):
        if name.startswith("/"):
            found = Path(name).stat()
            return found.st_dev, found.st_ino
    return None
