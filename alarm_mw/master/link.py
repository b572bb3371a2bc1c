"""The master's end of the socket to its supervisor."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alarm_mw.master.records.regions import REGION

#: The longest message, in bytes.
MAX_MESSAGE = 256

#: It has hung up, or we have.
_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EBADF})

#: What the names of memory files begin with that a master leaves to the next one, among its connections.
FILE = "file-"

#: What the supervisor has added to a master's environment.
_OF_MASTERS = frozenset({"ALARM_MW_FDS", "ALARM_MW_PLAN_FD"})


def environ_of_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the server was started, out of a master's."""
    return {name: value for name, value in environ.items() if name not in _OF_MASTERS}


@dataclass(frozen=True, slots=True)
class StreamFds:
    """One of the server's output streams."""

    name: str
    #: What the server writes, to be read.
    source: int
    #: Where it goes.
    sink: int
    #: A shared mapping that outlives masters.
    state: int
    #: A pipe between the source and a file (`alarm_mw.supervisor.streams.Stream.transit`).
    transit: tuple[int, int] | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        return (self.source, self.sink, self.state, *(self.transit or ()))

    @classmethod
    def read(cls, stream: Mapping[str, Any]) -> StreamFds:
        """Return what a supervisor calls a stream; one of before an upgrade has no `transit`."""
        transit = stream.get("transit")
        return cls(
            stream["name"], stream["source"], stream["sink"], stream["state"], tuple(transit) if transit else None
        )


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the supervisor has left to this master."""

    streams: tuple[StreamFds, ...]
    listener: socket.socket
    connections: Mapping[str, socket.socket]
    #: Descriptors of the memory files that the master before has left (`Link.leave`), by their names.
    files: Mapping[str, int]
    #: Descriptors of memory that processes have shared (`alarm_mw.master.records.regions`), by their tokens.
    regions: Mapping[str, int]
    link: Link
    #: How many masters this one has been preceded by, and how the last of them has ended.
    replaced: int = 0
    last_end: str = ""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Inheritance:
        """Take the descriptors that ``ALARM_MW_FDS`` names."""
        fds = json.loads(environ["ALARM_MW_FDS"])
        streams = tuple(map(StreamFds.read, fds["streams"]))
        for stream in streams:
            for descriptor in stream.descriptors:
                os.set_inheritable(descriptor, False)  # its signature
        kept = fds["connections"]
        files = {token.removeprefix(FILE): kept[token] for token in kept if token.startswith(FILE)}
        for descriptor in files.values():
            os.set_inheritable(descriptor, False)  # its signature
        regions = {token: kept[token] for token in kept if token.startswith(REGION)}
        connections = {token: _socket(kept[token]) for token in kept if not token.startswith((FILE, REGION))}
        ends = fds.get("replaced", 0), fds.get("last_end", "")  # a supervisor of before an upgrade has none
        listener, link = _socket(fds["listen"]), Link(_socket(fds["control"]))
        return cls(streams, listener, connections, files, regions, link, *ends)


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)  # its signature
    return socket.socket(fileno=descriptor)


class Link:
    """Sends messages to the supervisor, and receives its own. Messages are words; `send` is safe in any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(True)

    def send(self, *words: str) -> None:
        """Send a message; a supervisor that has gone does not matter here."""
        self._send(" ".join(words).encode("ascii"), [])

    def keep(self, token: str, descriptor: int) -> None:
        """Let the supervisor hold a connection open for the next master (`FdStore`)."""
        self._send(f"keep {token}".encode("ascii"), [descriptor])

    def leave(self, name: str, descriptor: int) -> None:
        """Let the supervisor hold a memory file for the next master, in the place of a former one of that name."""
        self.keep(FILE + name, descriptor)

    def replace(self, what: str, descriptor: int) -> None:
        """Have the supervisor use this in the place of the run's ``listen`` socket or ``lock``."""
        self._send(what.encode("ascii"), [descriptor])

    def plan(self, descriptor: int) -> None:
        """Have the supervisor give this plan to the next masters (`Plan.write`)."""
        self._send(b"plan", [descriptor])

    def drop(self, token: str) -> None:
        """Let it go (`FdStore`)."""
        self.send("drop", token)

    def hear(self) -> list[str]:
        """Wait for a message and return its words; none when the supervisor has gone."""
        try:
            return self._connection.recv(MAX_MESSAGE).decode("ascii", "replace").split()
        except ConnectionResetError:
            # Reported once, when the supervisor died with messages of ours unread; its own are still there.
            return self.hear()

    def close(self) -> None:
        """Hang up: the supervisor then knows that nothing more will be said."""
        self._connection.close()

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._connection, [message], descriptors)
        except OSError as error:
            if error.errno not in _GONE:
                raise
