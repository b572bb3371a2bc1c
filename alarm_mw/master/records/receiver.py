"""The receiver: takes packets from the sockets of the application's processes.

A packet stays in the kernel until its firings are in the outbox: the receiver peeks, hands over, waits, and only then
takes the packets off the socket. What a killed master had not finished is read again by the next one, whose outbox
knows the records by their keys.
"""

from __future__ import annotations

import itertools
import logging
import os
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from alarm_mw.master.threads import start_thread
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import Reason
from alarm_mw.system.peers import belongs_to_run, process_of, share_of_descriptors
from alarm_mw.transports.wire import MAX_PACKET, Counts, MetricChange, Packet, decode

log = logging.getLogger(__name__)

#: ``SO_PEEK_OFF`` (socket(7)): each peek goes on where the last one ended, so that several packets can be looked at.
SO_PEEK_OFF = 42

#: How many packets of one connection are looked at together.
MAX_PACKETS = 64

#: Bytes of packets that are looked at together, of all connections; a little more, since packets are taken whole.
MAX_BYTES = 4 * 1024 * 1024

#: A process has one connection, and a second one for a moment; so many are no server's.
MAX_OF_PROCESS = 32

#: The source under which packets are counted that are none of ours.
FOREIGN = "foreign"

#: Seconds between looks at whether the receiver was stopped, while a batch is being worked on.
PATIENCE = 0.5

#: Seconds without new connections after one could not be taken.
ACCEPT_PAUSE = 1.0


class FdStore(Protocol):
    """Keeps a connection open for the next master, should this one die."""

    def keep(self, token: str, descriptor: int) -> None:
        """Keep a duplicate of it under this name."""
        ...

    def drop(self, token: str) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class _Connection:
    token: str
    socket: socket.socket
    process: int


class Receiver:
    """Owns the thread that serves a listening socket and the connections accepted there."""

    def __init__(
        self,
        listener: socket.socket,
        submit: Callable[[Batch], None],
        store: FdStore,
        connections: Mapping[str, socket.socket],
    ) -> None:
        self._listener = listener
        self._submit = submit
        self._store = store
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(MAX_PACKET)
        self._is_stopping = False
        self._told: set[str] = set()
        #: How many connections each process has.
        self._processes: Counter[int] = Counter()
        #: How many connections are taken; the other descriptors are for what is done with the records.
        self._most = share_of_descriptors(2)
        #: When to accept again, after it failed.
        self._accept_at: float | None = None
        self._tokens = (f"{os.getpid()}-{n}" for n in itertools.count())
        self._stopping, self._stop_sender = socket.socketpair()
        self._thread: threading.Thread | None = None
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._stopping, selectors.EVENT_READ)
        for token, connection in connections.items():
            self._add(_Connection(token, connection, process_of(connection)))

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread("receiver", self._run)

    def stop(self, timeout: float) -> None:
        """Read what has arrived already, then end; waits for at most `timeout` seconds."""
        self._is_stopping = True
        self._stop_sender.send(b"x")
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            ready = [key for key, _ in self._selector.select(self._patience())]
            self._listen_again()
            stopping = any(key.fileobj is self._stopping for key in ready)
            self._serve([key.data for key in ready if key.data is not None])
            if any(key.fileobj is self._listener for key in ready):
                self._accept()
        self._serve_the_rest()
        self._close()

    def _serve_the_rest(self) -> None:
        """Serve until nothing is readable any more."""
        while ready := [key for key, _ in self._selector.select(0) if key.fileobj is not self._stopping]:
            if not self._serve([key.data for key in ready if key.data is not None]):
                return
            if any(key.fileobj is self._listener for key in ready):
                self._accept()

    def _accept(self) -> None:
        try:
            while self._processes.total() < self._most:
                accepted, _ = self._listener.accept()
                if self._lets_in(accepted):
                    connection = _Connection(next(self._tokens), accepted, process_of(accepted))
                    self._store.keep(connection.token, accepted.fileno())
                    self._add(connection)
                else:
                    accepted.close()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # Too many open files, most likely; whoever waits is connected, and can send meanwhile.
            log.error("a new connection for records cannot be taken: %s", error)
        else:
            self._tell("there are %d connections for records; others wait until some of them end", self._most)
        self._selector.unregister(self._listener)
        self._accept_at = time.monotonic() + ACCEPT_PAUSE

    def _lets_in(self, accepted: socket.socket) -> bool:
        if not belongs_to_run(accepted):
            self._tell("a process that does not belong to this server wanted to send records, and may not")
            return False
        if self._processes[process_of(accepted)] >= MAX_OF_PROCESS:
            self._tell("a process has %d connections for records, and gets no more", MAX_OF_PROCESS)
            return False
        return True

    def _tell(self, text: str, *facts: object) -> None:
        """Say so once: who sends one packet may send a million."""
        if text not in self._told:
            self._told.add(text)
            log.warning(text, *facts)

    def _patience(self) -> float | None:
        return None if self._accept_at is None else max(self._accept_at - time.monotonic(), 0.0)

    def _listen_again(self) -> None:
        if self._accept_at is not None and time.monotonic() >= self._accept_at:
            self._accept_at = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _add(self, connection: _Connection) -> None:
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._processes[connection.process] += 1

    def _serve(self, ready: list[_Connection]) -> bool:
        """Work off what waits on these connections; return False where nobody does that any more."""
        waiting = deque(ready)
        while waiting:
            if not self._serve_some(waiting):
                return False
        return True

    def _serve_some(self, waiting: deque[_Connection]) -> bool:
        """Do so for the first of them, until they bring `MAX_BYTES` together."""
        peeked: list[tuple[_Connection, list[bytes], bool]] = []
        size = 0
        while waiting and size < MAX_BYTES:
            connection = waiting.popleft()
            found, at_end = self._peek(connection)
            peeked.append((connection, found, at_end))
            size += sum(map(len, found))
        packets = [data for _, found, _ in peeked for data in found]
        if packets and not self._hand_over(packets):
            return False
        for connection, found, at_end in peeked:
            for _ in found:
                connection.socket.recv_into(self._buffer)
            if at_end:
                self._remove(connection)
        return True

    def _peek(self, connection: _Connection) -> tuple[list[bytes], bool]:
        """Return the packets that wait, and whether the other side has closed behind them."""
        found: list[bytes] = []
        connection.socket.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        try:
            while len(found) < MAX_PACKETS:
                size = connection.socket.recv_into(self._buffer, 0, socket.MSG_PEEK)
                if not size:
                    return found, True
                found.append(bytes(self._buffer[:size]))
        except BlockingIOError:
            return found, False
        except OSError:
            return found, True
        return found, False

    def _hand_over(self, packets: list[bytes]) -> bool:
        """Return whether the packets were worked off; until then they stay where they are."""
        done = threading.Event()
        found = [packet for packet in map(decode, packets) if packet is not None]
        foreign = len(packets) - len(found)
        if foreign:
            self._tell("a packet on the records socket is none of ours; it and others like it are not taken")
        self._submit(_batch(found, foreign, done.set))
        while not done.wait(PATIENCE):
            if self._is_stopping:
                return False
        return True

    def _remove(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        self._processes[connection.process] -= 1
        if not self._processes[connection.process]:
            del self._processes[connection.process]
        connection.socket.close()
        self._store.drop(connection.token)

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._remove(key.data)
        self._selector.close()
        self._listener.close()
        self._stopping.close()
        self._stop_sender.close()


def _batch(packets: list[Packet], foreign: int, done: Callable[[], object]) -> Batch:
    items: list[Item] = []
    counts: Counts = {}
    if foreign:
        counts[FOREIGN] = {"lines": foreign, f"skipped:{Reason.UNREADABLE}": foreign}
    metrics: list[MetricChange] = []
    for packet in packets:
        if packet.record is not None:
            items.append(Item(packet.record, packet.alarm))
        for source, columns in packet.counts.items():
            total = counts.setdefault(source, {})
            for column, n in columns.items():
                total[column] = total.get(column, 0) + n
        metrics.extend(packet.metrics)
    return Batch(items, counts, done, metrics)
