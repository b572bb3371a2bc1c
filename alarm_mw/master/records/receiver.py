"""The receiver: takes packets from the sockets of the application's processes.

A packet stays in the kernel until its firings are in the outbox: the receiver peeks, hands over, waits, and only then
takes the packets off the socket. What a killed master had not finished is read again by the next one, whose outbox
knows the records by their keys. Behind the packets in the socket come those in the memory that the process shares with
us (`alarm_mw.transports.shared`); it is read to its end when the process has ended.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import math
import os
import select
import selectors
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, TypeVar

from msgspec import structs

from alarm_mw.engine.echo import borne_out
from alarm_mw.master.records.regions import FdStore, Regions
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import Reason
from alarm_mw.system.linux import EXHAUSTED
from alarm_mw.system.peers import Peer, belongs_to_run, peer_of, process_of, refusal, share_of_descriptors
from alarm_mw.system.permissions import is_shared
from alarm_mw.transports.client import enter
from alarm_mw.transports.shared import GREETING, KEPT, Region, is_greeting
from alarm_mw.transports.wire import MAX_PACKET, Counts, MetricChange, Packet, decode

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: ``SO_PEEK_OFF`` (socket(7)): each peek goes on where the last one ended, so that several packets can be looked at.
SO_PEEK_OFF = 42

#: How many packets of one connection are looked at together.
MAX_PACKETS = 64

#: Bytes of packets that are looked at together, of all connections; a little more, since packets are taken whole.
MAX_BYTES = 4 * 1024 * 1024

#: A process has one connection, and others for a moment; so many are no server's.
MAX_OF_PROCESS = 8

#: The source under which packets are counted that are none of ours.
FOREIGN = "foreign"

#: Seconds between looks at whether the receiver was stopped, while a batch is being worked on.
PATIENCE = 0.5

#: So much of the time at the end is for reading what has arrived; the rest is for delivering it.
SHARE_AT_END = 0.8

#: Seconds between looks at the memory that processes share with us.
LOOK_EVERY = 1.0

#: Bytes that hold one descriptor beside a packet.
_ONE_DESCRIPTOR = socket.CMSG_LEN(4)

#: Seconds without new connections after one could not be taken.
ACCEPT_PAUSE = 1.0


@dataclass(slots=True)
class _Connection:
    token: str
    socket: socket.socket
    process: int
    #: It is another user's, as a worker that has given root's rights up.
    is_strange: bool = False
    #: What the process shares with us.
    region: Region | None = None
    #: Nothing was read yet.
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class _Ended:
    """A process that is watched since it has no connection any more."""

    process: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found on a connection."""

    connection: _Connection
    #: How many packets are to be taken off the socket.
    count: int
    #: Those with records, and behind them what is in the region.
    packets: list[bytes]
    #: Whether the other side has closed behind them.
    is_at_end: bool
    #: Up to where the region has been read; None where it was not looked at.
    position: int | None = None


class Receiver:
    """Owns the thread that serves a listening socket and the connections accepted there."""

    def __init__(
        self,
        listener: socket.socket,
        submit: Callable[[Batch], None],
        store: FdStore,
        connections: Mapping[str, socket.socket],
        regions: Regions | None = None,
        *,
        token: str = "",
    ) -> None:
        self._listener = listener
        self._submit = submit
        self._store = store
        self._regions = Regions(store, lambda: 0, {}) if regions is None else regions
        #: What a process says that is ours, should it have ended before we could look.
        self._token = token
        #: When to look at all regions.
        self._look_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray(MAX_PACKET)
        #: Until when packets are handed over, in `time.monotonic`'s seconds; after that, what is left is counted.
        self._until = math.inf
        self._has_given_up = False
        self._logged: set[str] = set()
        #: Processes whose end is to be watched as soon as there is a descriptor for that.
        self._unwatched: set[int] = set()
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
        for name, connection in connections.items():
            process = process_of(connection)
            self._add(_Connection(name, connection, process, _is_strange(connection), self._regions.of(process)))
        for process in self._regions.processes() - self._processes.keys():
            self._watch(process)

    def has_sources(self) -> bool:
        """Return whether some process of the application may send records. From any thread."""
        if self._processes or self._regions:
            return True
        try:  # a process that connected before it printed may not be accepted yet
            return bool(select.select([self._listener], [], [], 0)[0])
        except (OSError, ValueError):  # it is closed, or its number is too high
            return False

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread("receiver", self._run)

    def stop(self, timeout: float) -> None:
        """Read what has arrived already, then end; waits for at most `timeout` seconds, and counts what it leaves."""
        self._until = time.monotonic() + timeout * SHARE_AT_END
        self._stop_sender.send(b"x")
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            ready = [key for key, _ in self._selector.select(self._patience())]
            self._listen_again()
            stopping = any(key.fileobj is self._stopping for key in ready)
            self._serve([key.data for key in ready if isinstance(key.data, _Connection)])
            if any(key.fileobj is self._listener for key in ready):
                self._accept()
            for ended in [key.data for key in ready if isinstance(key.data, _Ended)]:
                self._end(ended)
            if time.monotonic() >= self._look_at:
                self._look()
        self._serve_the_rest()
        while not self._has_given_up and any(self._regions.spilled()):
            self._serve_regions()
        if self._has_given_up:
            self._count_the_rest()
        self._submit_counts(*self._regions.collect_last())
        self._close()

    def _count_the_rest(self) -> None:
        """Count the records that nobody works off any more."""
        rest = [data for connection in self._connections() for data in _rest_of(connection)]
        for region in self._regions.spilled():
            while region.has_spilled():
                packets, position = region.spilled()
                region.take_off(position)
                rest += packets
        counts: Counts = {}
        for packet in map(decode, rest):
            if packet is not None and packet.record is not None:
                enter(counts, packet.record.source, f"skipped:{Reason.SHUTDOWN}", 1)
        if counts:
            log.warning("there was no time for %d records before the end", sum(row["lines"] for row in counts.values()))
            self._submit_counts(counts, None)

    def _serve_the_rest(self) -> None:
        """Serve until nothing is readable any more."""
        while not self._has_given_up and (
            ready := [key for key, _ in self._selector.select(0) if key.fileobj is not self._stopping]
        ):
            self._serve([key.data for key in ready if isinstance(key.data, _Connection)])
            for ended in [key.data for key in ready if isinstance(key.data, _Ended)]:
                self._end(ended)
            if any(key.fileobj is self._listener for key in ready):
                self._accept()

    def _accept(self) -> None:
        while self._processes.total() < self._most or self._make_room():
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # Too many open files, most likely; a process that waits is connected, and can send meanwhile.
                log.error("cannot accept a connection for records: %s", error)
                break
            if self._lets_in(accepted):
                connection = _Connection(next(self._tokens), accepted, process_of(accepted), _is_strange(accepted))
                self._store.keep(connection.token, accepted.fileno())
                self._add(connection)
            else:
                accepted.close()
        else:
            self._log_once("there are %d connections for records; others wait until some of them end", self._most)
        self._selector.unregister(self._listener)
        self._accept_at = time.monotonic() + ACCEPT_PAUSE

    def _lets_in(self, accepted: socket.socket) -> bool:
        if not (belongs_to_run(accepted) or self._has_said_so(accepted)):
            self._log_once("a process that does not belong to this server wanted to send records, and may not")
            return False
        process = process_of(accepted)
        if self._processes[process] >= MAX_OF_PROCESS:  # it may have closed some, which nobody has looked at yet
            self._serve([one for one in self._connections() if one.process == process])
        others = [peer_of(connection.socket) for connection in self._connections()]
        if reason := refusal(peer_of(accepted), others, self._most, MAX_OF_PROCESS):
            self._log_once(f"records: {reason}")
        return not reason

    def _make_room(self) -> bool:
        """Read connections of processes that have ended to their end, and let them go; return whether there are any."""
        ended = [one for one in self._connections() if Peer(one.process, 0).has_ended()]
        self._serve(ended)
        still = [one for one in ended if one in self._connections()]
        for connection in still:
            self._remove(connection)
        return bool(ended)

    def _has_said_so(self, accepted: socket.socket) -> bool:
        """Return whether a process that may have ended by now has named the run's token first."""
        try:
            return is_greeting(accepted.recv(MAX_PACKET, socket.MSG_PEEK | socket.MSG_DONTWAIT), self._token)
        except OSError:
            return False

    def _log_once(self, text: str, *facts: object) -> None:
        """Say so once: who sends one packet may send a million."""
        if text not in self._logged:
            self._logged.add(text)
            log.warning(text, *facts)

    def _patience(self) -> float | None:
        due = [self._accept_at, self._look_at if self._regions else None]
        return min((max(at - time.monotonic(), 0.0) for at in due if at is not None), default=None)

    def _listen_again(self) -> None:
        if self._accept_at is not None and time.monotonic() >= self._accept_at:
            self._accept_at = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _add(self, connection: _Connection) -> None:
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        with contextlib.suppress(OSError):  # a process that has ended, or has heard it from former masters
            connection.socket.send(KEPT, socket.MSG_NOSIGNAL)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._processes[connection.process] += 1

    def _serve(self, ready: list[_Connection]) -> None:
        """Work off what waits on these connections, as long as anybody does that."""
        waiting = deque(ready)
        while waiting and not self._has_given_up:
            some = self._peek_some(waiting)
            if self._hand_over([packet for found in some for packet in _admitted(found.packets, found.connection)]):
                for found in some:
                    self._take_off(found)

    def _peek_some(self, waiting: deque[_Connection]) -> list[_Found]:
        """Return what waits on the first of these connections, until that is `MAX_BYTES`."""
        looked: list[_Found] = []
        size = 0
        while waiting and size < MAX_BYTES:
            found = self._peek(waiting.popleft())
            region = found.connection.region
            is_first = all(region is not other.connection.region for other in looked)
            if region is not None and found.count < MAX_PACKETS and is_first:
                found = _with_region(found, region)
            looked.append(found)
            size += sum(map(len, found.packets))
        return looked

    def _take_off(self, found: _Found) -> None:
        connection = found.connection
        with contextlib.suppress(BlockingIOError):  # another master has taken them
            for _ in range(found.count):
                _undisturbed(connection.socket.recv_into, self._buffer)
        if connection.region is not None and found.position is not None:
            self._free(connection.region, found.position)
        if found.is_at_end:
            self._remove(connection)

    def _peek(self, connection: _Connection) -> _Found:
        """Return the packets that wait, and whether the other side has closed behind them."""
        found: list[bytes] = []
        count = 0
        connection.socket.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        try:
            if connection.is_new:
                data = _undisturbed(self._peek_first, connection)
                if not data:
                    return _Found(connection, 0, found, is_at_end=True)
                count = 1
                if not data.startswith(GREETING):
                    found.append(data)
            while count < MAX_PACKETS:
                size = _undisturbed(connection.socket.recv_into, self._buffer, 0, socket.MSG_PEEK)
                if not size:
                    return _Found(connection, count, found, is_at_end=True)
                found.append(bytes(self._buffer[:size]))
                count += 1
        except BlockingIOError:
            return _Found(connection, count, found, is_at_end=False)
        return _Found(connection, count, found, is_at_end=False)

    def _peek_first(self, connection: _Connection) -> bytes:
        """Look at the first packet of a connection, with which a process gives us its region."""
        flags = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
        data, extras, seen, _ = connection.socket.recvmsg(MAX_PACKET, _ONE_DESCRIPTOR, flags)
        if seen & socket.MSG_CTRUNC and not extras:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        for level, kind, content in extras:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptor = int.from_bytes(content[:4], sys.byteorder)
                connection.region = self._regions.take_in(descriptor, connection.process)
        connection.is_new = False
        return data

    def _look(self) -> None:
        """Look at what no connection announces."""
        self._look_at = time.monotonic() + LOOK_EVERY
        unwatched, self._unwatched = self._unwatched, set()
        for process in unwatched:
            self._watch(process)
        self._serve_regions()
        self._submit_counts(*self._regions.collect())

    def _serve_regions(self) -> None:
        """Work off what waits in the regions: behind what is in the sockets, where there are any."""
        self._serve([one for one in self._connections() if one.region is not None and one.region.has_spilled()])
        served = [one.region for one in self._connections()]
        for region in [region for region in self._regions.spilled() if region not in served]:
            packets, position = region.spilled()
            sender = _Sender(self._regions.process_of(region), is_shared())
            if self._hand_over([*_admitted(packets, sender)]):
                self._free(region, position)

    def _free(self, region: Region, position: int) -> None:
        region.take_off(position)
        if region.has_spilled():
            self._look_at = 0.0  # it is the others' turn before that

    def _connections(self) -> list[_Connection]:
        return [key.data for key in self._selector.get_map().values() if isinstance(key.data, _Connection)]

    def _submit_counts(self, counts: Counts, written: Callable[[], object] | None) -> None:
        if counts:
            self._submit(Batch(counts=counts, written=written))

    def _watch(self, process: int) -> None:
        """Wait for the end of a process that has no connection any more, and may still count."""
        try:
            pidfd = os.pidfd_open(process)
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._unwatched.add(process)
                return
            self._regions.ended(process)  # it has, or that is not known
            self._look_at = 0.0
        else:
            self._selector.register(pidfd, selectors.EVENT_READ, _Ended(process, pidfd))

    def _end(self, ended: _Ended) -> None:
        self._selector.unregister(ended.pidfd)
        os.close(ended.pidfd)
        self._regions.ended(ended.process)
        self._look_at = 0.0

    def _hand_over(self, packets: list[Packet | None]) -> bool:
        """Have packets worked off, and return whether somebody does that; until then they stay where they are."""
        if not packets:
            return True
        if time.monotonic() > self._until:
            self._has_given_up = True
            return False
        done = threading.Event()
        found = [packet for packet in packets if packet is not None]
        foreign = len(packets) - len(found)
        if foreign:
            self._log_once("a packet on the records socket is none of ours; it and others like it are not taken")
        counts, written = self._regions.collect()
        batch = _batch(found, foreign, counts, done.set, written)
        if not (batch.items or batch.counts or batch.metrics):
            return True  # they said only that there is something in a region
        self._submit(batch)
        while not done.wait(min(PATIENCE, max(self._until - time.monotonic(), 0.0))):
            if time.monotonic() >= self._until:  # the worker is stopped after this thread
                self._has_given_up = True
                break
        return True

    def _remove(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        self._processes[connection.process] -= 1
        if not self._processes[connection.process]:
            del self._processes[connection.process]
            if connection.process in self._regions.processes():
                self._watch(connection.process)
        connection.socket.close()
        self._store.drop(connection.token)

    def _close(self) -> None:
        for connection in self._connections():
            self._remove(connection)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Ended):
                os.close(key.data.pidfd)
        self._regions.close()
        self._selector.close()
        self._listener.close()
        self._stopping.close()
        self._stop_sender.close()


class _Sender(NamedTuple):
    """Who wrote what a region holds, whose connection has ended: whether another user, is not known any more."""

    process: int
    is_strange: bool


def _is_strange(connection: socket.socket) -> bool:
    return not peer_of(connection).is_owners()


def _admitted(packets: Iterable[bytes], sender: _Connection | _Sender) -> Iterator[Packet | None]:
    """Yield what packets hold, None for what is none of ours, with the sender that the kernel names.

    Keys are a process's own: nobody can make another one's records, or the master's, duplicates beforehand.
    """
    process = sender.process
    for packet in map(decode, packets):
        if packet is not None and packet.record is not None:
            record = packet.record
            own = f"{process}:{record.call}" if record.call else ""
            record = structs.replace(record, key=f"{process}:{record.key}", call=own)
            if sender.is_strange:
                record = structs.replace(borne_out(record), pid=process)
            yield structs.replace(packet, record=record)
        else:
            yield packet


def _undisturbed(read: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """Read from a connection; a process that has closed it with our answer unread is reported once, before the rest."""
    try:
        return read(*args, **keywords)
    except ConnectionResetError:
        return read(*args, **keywords)


def _rest_of(connection: _Connection) -> Iterator[bytes]:
    """Yield what is left on a connection."""
    with contextlib.suppress(OSError):
        while data := _undisturbed(connection.socket.recv, MAX_PACKET):
            yield data


def _with_region(found: _Found, region: Region) -> _Found:
    """Add what waits in the region of a connection whose socket was read to its end."""
    if not region.has_spilled():
        return found
    packets, position = region.spilled()
    return _Found(found.connection, found.count, [*found.packets, *packets], found.is_at_end, position)


def _batch(
    packets: list[Packet],
    foreign: int,
    counts: Counts,
    done: Callable[[], object],
    written: Callable[[], object] | None,
) -> Batch:
    items: list[Item] = []
    if foreign:
        counts[FOREIGN] = {"lines": foreign, f"skipped:{Reason.UNREADABLE}": foreign}
    metrics: list[MetricChange] = []
    for packet in packets:
        if packet.record is not None:
            items.append(Item(packet.record, packet.alarm))
        metrics.extend(packet.metrics)
    return Batch(items, counts, done, metrics, written=written)
