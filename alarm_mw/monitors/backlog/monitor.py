"""``alarm-backlog = NAME``: waits for a listen queue to be full."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from alarm_mw.model.interfaces import MonitorContext, PluginOptions, Report
from alarm_mw.model.keyvalue import build, split
from alarm_mw.monitors.backlog.sock_diag import Listener, SocketDiagnosis, join
from alarm_mw.system.processes import sockets_of_family

_HOST_AND_PORT = re.compile(r"(\[[^]]*\]|[^:/@]*):(\d{1,5})")
_MAX_PORT = 65535
#: Percent.
_ALL = 100


@dataclass(frozen=True, slots=True)
class Queue:
    """A listen queue, with the server's descriptor of its socket if the server owns it."""

    listener: Listener
    fd: int | None = None

    def __str__(self) -> str:
        """Return uWSGI's name for it."""
        fd = "" if self.fd is None else f" (fd: {self.fd})"
        return f'listen queue of socket "{self.listener.address}"{fd}'

    @property
    def state(self) -> str:
        """The number of waiting connections and their limit."""
        return f"({self.listener.queued}/{self.listener.limit})"


class Fullness:
    """Remembers which queues were full, so that each fires once, and once more when that is over."""

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._full: dict[int, Queue] = {}

    def look(self, queues: Iterable[Queue]) -> Iterator[str]:
        """Yield a message for each queue that became full, is no longer full, or whose socket was closed."""
        before, self._full = self._full, {}
        for queue in queues:
            was_full = before.pop(queue.listener.inode, None) is not None
            if self.is_full(queue):
                self._full[queue.listener.inode] = queue
                if not was_full:
                    yield self.describe(queue)
            elif was_full:
                yield self.describe(queue)
        for queue in before.values():
            yield f"{queue} {self._full_words} is over: the socket was closed"

    def is_full(self, queue: Queue) -> bool:
        """Return whether a queue is full."""
        listener = queue.listener
        return listener.queued > 0 and listener.queued * 100 >= listener.limit * self._percent

    def describe(self, queue: Queue) -> str:
        """Return the message that a queue has become full, or is no longer full."""
        return f"{queue} {self._full_words} {'!!!' if self.is_full(queue) else 'is over'} {queue.state}"

    @property
    def _full_words(self) -> str:
        return "full" if self._percent == _ALL else f"at {self._percent} %"


def named(name: str) -> str | tuple[str, int]:
    """Return a unix socket's path (or ``@abstract``) as it is, and ``HOST:PORT`` as an address and a number.

    The host is empty for any. Raises `ValueError` with a sentence for the user.
    """
    if name.startswith(("/", "@")):
        return name
    match = _HOST_AND_PORT.fullmatch(name)
    if match is None or int(match[2]) > _MAX_PORT:
        raise ValueError(f"{name!r} is no socket, expected ADDRESS:PORT, :PORT, a path with its / or @NAME")
    host = match[1].strip("[]")
    try:
        return host and str(ipaddress.ip_address(host)), int(match[2])
    except ValueError:
        raise ValueError(f"{name!r} has no address before its port, expected one such as 127.0.0.1 or [::1]") from None


def serves(listener: Listener, wanted: str | tuple[str, int], file: tuple[int, int] | None) -> bool:
    """Return whether a socket is the one that `named` has read; `file` is the device and inode of its path.

    A socket that listens at all addresses serves each of them.
    """
    if isinstance(wanted, str):
        return listener.address == wanted or (file is not None and listener.file == file)
    host, port = wanted
    if not host:
        return listener.address.endswith(f":{port}") and not listener.address.startswith(("/", "@"))
    return listener.address in {join(each, port) for each in (host, "0.0.0.0", "::")}  # noqa: S104  # compared only


#: The owners of sockets are looked up again after this many checks, because a socket may have been passed on.
REFRESH_OWNERS = 10


class BacklogOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `backlog`."""

    incident_key: ClassVar[str] = "socket"

    sockets: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="`ADDRESS:PORT`, `:PORT`, path or `@NAME` of each socket; by default all of the server's"
        ),
    ] = ()
    percent: Annotated[int, msgspec.Meta(ge=1, le=100, description="fill level in percent at which it fires")] = 100
    interval: Annotated[float, msgspec.Meta(ge=0.01, le=3600, description="seconds between two checks")] = 1.0

    def __post_init__(self) -> None:
        """Check that the names can be those of sockets."""
        for name in self.sockets:
            named(name)

    def knows_end(self) -> bool:
        """Return True: a full queue is empty at some time, or its socket is closed."""
        return True


class BacklogMonitor:
    """Fires when a listen queue is full, and again when that is over.

    A full queue rejects clients. By default all TCP and unix sockets on which the server's processes
    listen are monitored; in process, those of this process and its children. Named sockets may belong to any process.
    With a `name`, each full queue is an incident, with the key `socket`.
    """

    Options: ClassVar[type[PluginOptions]] = BacklogOptions

    def __init__(self, options: BacklogOptions, context: MonitorContext) -> None:
        self._options = options
        self._context = context
        self._fullness = Fullness(options.percent)
        self._wanted = [(name, named(name)) for name in options.sockets]
        #: The process whose sockets are watched: the server under `run`, otherwise this process.
        self._in_process = context.server_pid() is None
        self._owned: dict[int, int] = {}
        #: The addresses of the queues that were full at the last report.
        self._reported: Collection[str] = ()
        self._seen: tuple[int | None, frozenset[int]] | None = None
        self._looks = 0

    @classmethod
    def from_uwsgi(cls, args: str) -> BacklogOptions:
        """Return the options: uWSGI has none; here ``percent=80;sockets=127.0.0.1:8000,/run/app.sock`` may follow."""
        return build(BacklogOptions, dict(split(args.strip())))

    async def run(self) -> None:
        """Check the queues periodically."""
        with SocketDiagnosis() as diagnosis:
            while True:
                queues = self._queues(diagnosis.listeners())
                if self._context.report is None:
                    for text in self._fullness.look(queues):
                        self._context.fire(text.encode("utf-8", "surrogateescape"))
                else:
                    self._report(list(queues), self._context.report)
                await asyncio.sleep(self._options.interval)

    def _report(self, queues: Sequence[Queue], report: Report) -> None:
        """Say which queues are full; several sockets of one address are full where one of them is."""
        full: dict[str, bytes] = {}
        over = dict.fromkeys(self._reported, b"the socket was closed")
        for queue in queues:
            told = full if self._fullness.is_full(queue) else over
            told[queue.listener.address] = self._fullness.describe(queue).encode("utf-8", "surrogateescape")
        self._reported = full.keys()
        report(full, over)

    def _queues(self, listeners: Sequence[Listener]) -> Iterator[Queue]:
        self._find_owned(frozenset(listener.inode for listener in listeners))
        files = {name: _file(name) for name, _ in self._wanted}
        for listener in listeners:
            fd = self._owned.get(listener.inode)
            is_wanted = any(serves(listener, wanted, files[name]) for name, wanted in self._wanted)
            if is_wanted or (fd is not None and not self._wanted):
                yield Queue(listener, fd)

    def _find_owned(self, inodes: frozenset[int]) -> None:
        """Look up the owners of sockets, but only if a socket or the server is new: this is the most expensive step."""
        root = os.getpid() if self._in_process else self._context.server_pid()
        self._looks += 1
        if self._seen != (root, inodes) or self._looks % REFRESH_OWNERS == 0:
            self._seen = (root, inodes)
            self._owned = {} if root is None else sockets_of_family(root)


def _file(name: str) -> tuple[int, int] | None:
    """Return the device and the inode of a socket's file: a server may have bound it by another path."""
    with contextlib.suppress(OSError, ValueError):
        if name.startswith("/"):
            found = Path(name).stat()
            return found.st_dev, found.st_ino
    return None
