"""What a master and the processes that it can reach say to each other: signals that are raised, messages for mules.

Both write frames to one stream socket: the length in four bytes, then a packet in MessagePack. A connection is either a
process's own, for its signals, or that of a thread in a mule, which asks for one message after the other.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import Annotated, Self

import msgspec

from alarm_mw.system.sockets import reachable

#: The bytes before a packet that hold its length.
HEAD = 4

#: Seconds until a master that cannot be reached is tried again.
RECONNECT_PAUSE = 0.2

#: The numbers of uWSGI's signals.
SIGNALS = range(256)

#: How many pairs of signal and target a process may have handlers for.
MAX_HANDLED = 1024

_TARGET = re.compile(r"(worker|mule)(s|[1-9][0-9]{0,3})?")
_SAME = {"": "worker", "worker0": "worker", "mule0": "mule", "active-workers": "workers"}


class Register(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A process has handlers for these signals, each with a target; replaces what it said before."""

    #: The mule's number, 0 for a worker.
    mule: int
    signals: frozenset[tuple[int, str]]


class Taken(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The process has the signal, and is going to run its handlers."""

    id: int


class Ran(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The handlers have returned."""

    id: int


class Ask(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A mule is done with the message of that id, if any, and waits for the next one."""

    mule: int
    done: str = ""
    #: Seconds to wait for a message; None for ever.
    timeout: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Done(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A mule is done with a message, and waits for none."""

    id: str


class Raised(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Run the handlers that are registered for this signal with this target."""

    id: int
    number: int
    target: str


class Message(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A message for the mule that asked."""

    id: str
    message: bytes


class Nothing(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """There was no message within the time that the mule named."""


FromProcess = Register | Taken | Ran | Ask | Done
FromMaster = Raised | Message | Nothing

_encoder = msgspec.msgpack.Encoder()
_from_process: msgspec.msgpack.Decoder[FromProcess] = msgspec.msgpack.Decoder(FromProcess)
_from_master: msgspec.msgpack.Decoder[FromMaster] = msgspec.msgpack.Decoder(FromMaster)


def normal_target(target: str) -> str:
    """Return a target of uWSGI's in the one form that is used here; raise `ValueError` for what is none."""
    target = _SAME.get(target, target)
    if not _TARGET.fullmatch(target):
        raise ValueError(f"unknown target {target!r}: expected worker, workers, workerN, mule, mules or muleN")
    return target


def frame(packet: FromProcess | FromMaster) -> bytes:
    """Return the packet as it goes over the socket."""
    data = _encoder.encode(packet)
    return len(data).to_bytes(HEAD, "big") + data


def from_process(data: bytes) -> FromProcess:
    """Return the packet; raise `msgspec.MsgspecError` or `ValueError` where the bytes are none."""
    packet = _from_process.decode(data)
    if isinstance(packet, Register) and not (
        len(packet.signals) <= MAX_HANDLED
        and all(number in SIGNALS and _TARGET.fullmatch(target) for number, target in packet.signals)
    ):
        raise ValueError("there is no such signal or target")
    return packet


class Connection:
    """A process's connection to its master. Blocks; `send` is safe in any thread as long as frames are small."""

    def __init__(self, path: str) -> None:
        """Connect to the master's socket at `path`; raises `OSError`."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with reachable(path) as address:
                self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def send(self, packet: FromProcess) -> None:
        """Send a packet; raises `OSError`."""
        self._socket.sendall(frame(packet))

    def receive(self, timeout: float | None = None) -> FromMaster:
        """Wait for a packet; raises `OSError` when none comes any more, `TimeoutError` after `timeout` seconds.

        After an error, the connection must be closed: half of a packet may have been read.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        size = int.from_bytes(self._read(HEAD, deadline), "big")
        return _from_master.decode(self._read(size, deadline))

    def close(self) -> None:
        """Hang up, in this process: the parent of a forked one keeps its own end."""
        self._socket.close()

    def hang_up(self) -> None:
        """End the connection itself, so that a thread that waits in `receive` goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, size: int, deadline: float | None) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the master has gone")
            data += part
        return bytes(data)
