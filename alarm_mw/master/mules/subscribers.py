"""The master's end of the connections to workers and mules: raises signals there, hands messages to mules."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from alarm_mw.master.control.listening import listen
from alarm_mw.master.mules.queue import Asker, MuleQueue
from alarm_mw.master.mules.signal_table import Member, SignalTable
from alarm_mw.model.types import Firing
from alarm_mw.system.peers import GuardedSocket, Peer, belongs_to_run, peer_of, refusal, share_of_descriptors
from alarm_mw.system.permissions import socket_mode
from alarm_mw.transports.subscription import (
    HEAD,
    Ask,
    Done,
    FromMaster,
    FromProcess,
    Message,
    Nothing,
    Raised,
    Ran,
    Register,
    Taken,
    frame,
    from_process,
)

log = logging.getLogger(__name__)

#: Seconds to wait for a process that asks for a signal which nobody has asked for: one may just be connecting again.
JOIN_PATIENCE = 1.0

#: Seconds that a process gets to take a signal. Its handlers may run for longer.
TAKE_PATIENCE = 5.0

#: Seconds for connections to end that have been closed.
CLOSE_PATIENCE = 1.0

#: How many processes may be connecting at once.
BACKLOG = 128

#: How many connections a process may have: one for its signals, and another one for a moment; a mule has one for each
#: thread that asks for messages.
MAX_OF_PROCESS = 4
MAX_OF_MULE = 1000

#: How many signals that a process has not handled wait for it at most.
MAX_UNHANDLED = 1000

#: The longest packet that a process may send, in bytes.
MAX_PACKET = 64 * 1024


class Subscribers:
    """Listens at `path` for workers and mules. Lives on the event loop that `start` is called on.

    Who is at the other end, the kernel says. `mule_number` returns the number of the mule that a process is, or 0.
    """

    def __init__(
        self,
        path: Path,
        server_pid: Callable[[], int | None],
        mule_number: Callable[[int], int],
        identify: Callable[[socket.socket], Peer] = peer_of,
    ) -> None:
        self._path = path
        self._server_pid = server_pid
        self._mule_number = mule_number
        self._identify = identify
        self._listener = GuardedSocket.of(listen(path, BACKLOG, socket_mode()), belongs_to_run)
        self._server: asyncio.Server | None = None
        self._table = SignalTable()
        self._queue = MuleQueue()
        #: Set when a process has subscribed.
        self.joined = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._numbers = itertools.count(1)
        #: How many connections are taken.
        self._most = share_of_descriptors(4)
        self._logged: set[str] = set()

    async def start(self) -> None:
        """Accept connections."""
        # `start_unix_server` looks for the path of the address, from Python 3.13 on: of a long path that is a stand-in.
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def stop(self) -> None:
        """Close every connection, and take the socket's path away."""
        if self._server is not None:
            self._server.close()
        if tasks := {connection.task for connection in self._connections}:
            for connection in self._connections:
                connection.close()
            await asyncio.wait(tasks, timeout=CLOSE_PATIENCE)
        self._path.unlink(missing_ok=True)

    async def raise_signal(self, number: int) -> bool:
        """Have the handlers of signal `number` run; return whether some process took it (an action's `Processes`)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_PATIENCE):
                while not self._table.targets(number):
                    self.joined.clear()
                    await self.joined.wait()
        targets = self._table.targets(number)
        took = await asyncio.gather(*(self._raise_for(number, target) for target in targets))
        return any(took)

    async def send_to_mule(self, mule: int, firing: Firing) -> None:
        """Return when mule number `mule`, or any for 0, is done with the message (an action's `Processes`)."""
        await self._queue.deliver(mule, firing)

    async def _raise_for(self, number: int, target: str) -> bool:
        """Send it to all that the target means; if it means one, to the next when the first cannot take it."""
        told: set[Member] = set()
        while fresh := [member for member in self._table.addressees(number, target) if member not in told]:
            told.update(fresh)
            if any(await asyncio.gather(*(self._notify(member, number, target) for member in fresh))):
                return True
        return False

    async def _notify(self, member: Member, number: int, target: str) -> bool:
        # It may have left since it was found.
        connection = next((each for each in self._connections if each.member is member), None)
        return connection is not None and await connection.raise_signal(Raised(next(self._numbers), number, target))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = self._identify(writer.get_extra_info("socket"))
        mule = self._mule_number(peer.pid)
        if reason := self._refusal(peer, MAX_OF_MULE if mule else MAX_OF_PROCESS):
            self._say_once(f"signals and messages: {reason}")
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(writer, self._queue, task, peer, mule)
        self._connections.add(connection)
        try:
            while True:
                self._obey(connection, from_process(await _read(reader)))
                await writer.drain()  # a process that does not read the answers gets no more of them
        except (OSError, asyncio.IncompleteReadError):
            pass  # it has ended
        except (msgspec.MsgspecError, ValueError):
            self._say_once(
                "what arrived on the subscribers' socket is none of ours; it and others like it are not taken"
            )
        finally:
            self._connections.remove(connection)
            self._end(connection)

    def _refusal(self, peer: Peer, most_of_process: int) -> str:
        """Return why a process gets no connection; those of processes that have ended are closed first."""
        others = [connection.peer for connection in self._connections]
        reason = refusal(peer, others, self._most, most_of_process)
        if reason:
            ended = [connection for connection in self._connections if connection.peer.has_ended()]
            for connection in ended:
                connection.task.cancel()
            others = [connection.peer for connection in self._connections if connection not in ended]
        return reason and refusal(peer, others, self._most, most_of_process)

    def _say_once(self, text: str) -> None:
        """Say so once."""
        if text not in self._logged:
            self._logged.add(text)
            log.warning(text)

    def _obey(self, connection: _Connection, packet: FromProcess) -> None:
        match packet:
            case Register():
                self._register(connection, packet)
            case Taken(id=number):
                connection.taken(number)
            case Ran(id=number):
                connection.ran(number)
            case Ask(mule=mule) if mule and mule == connection.mule:
                connection.ask(packet)
            case Ask():
                raise ValueError("the messages are another mule's")
            case Done(id=message):
                connection.done(message)

    def _register(self, connection: _Connection, packet: Register) -> None:
        if packet.mule != connection.mule:
            raise ValueError("it is another mule, or none")
        if connection.member is None:
            connection.member = self._table.join(packet, connection.peer.pid, self._server_pid())
        connection.member.signals = packet.signals
        self.joined.set()

    def _end(self, connection: _Connection) -> None:
        if connection.member is not None:
            self._table.leave(connection.member)
        connection.close()


class _Connection:
    """A process that has registered, or a thread of a mule that asks for messages."""

    def __init__(
        self, writer: asyncio.StreamWriter, queue: MuleQueue, task: asyncio.Task[None], peer: Peer, mule: int
    ) -> None:
        self.peer = peer
        #: Its number; 0 for what is no mule.
        self.mule = mule
        self._writer = writer
        self._queue = queue
        self._untaken: dict[int, asyncio.Future[bool]] = {}
        #: Signals whose handlers have not returned.
        self._unhandled: set[int] = set()
        self._is_asking = False
        self._asker: Asker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.member: Member | None = None
        #: What reads from it.
        self.task = task

    async def raise_signal(self, signal: Raised) -> bool:
        """Return whether the process took it."""
        assert self.member is not None
        if len(self._unhandled) >= MAX_UNHANDLED:
            return False
        self._unhandled.add(signal.id)
        self.member.unfinished += 1
        taken = self._untaken[signal.id] = asyncio.get_running_loop().create_future()
        self._send(signal)
        try:
            async with asyncio.timeout(TAKE_PATIENCE):
                was_taken: bool = await taken
                return was_taken
        except TimeoutError:
            log.warning("process %d does not take signal %d", self.member.pid, signal.number)
            return False
        finally:
            self._untaken.pop(signal.id, None)

    def taken(self, number: int) -> None:
        taken = self._untaken.get(number)
        if taken is not None and not taken.done():
            taken.set_result(True)

    def ran(self, number: int) -> None:
        if self.member is not None and number in self._unhandled:
            self._unhandled.remove(number)
            self.member.unfinished -= 1

    def ask(self, packet: Ask) -> None:
        """Answer with the next message. Raises `ValueError` where the question before has no answer yet."""
        if self._is_asking:
            raise ValueError("it asks twice")
        self._is_asking = True
        self._asker = self._asker or Asker(packet.mule, self._give)
        self._queue.done(self._asker, packet.done)
        if packet.timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(packet.timeout, self._no_message, self._asker)
        self._queue.ask(self._asker)

    def done(self, message: str) -> None:
        if self._asker is not None:
            self._queue.done(self._asker, message)

    def close(self) -> None:
        """Hang up; what the process had not taken is not delivered."""
        self._stop_timer()
        for taken in self._untaken.values():
            if not taken.done():
                taken.set_result(False)
        if self._asker is not None:
            self._queue.gone(self._asker)
        self._writer.close()

    def _give(self, message: Message) -> None:
        self._stop_timer()
        self._is_asking = False
        self._send(message)

    def _no_message(self, asker: Asker) -> None:
        if self._queue.stop_asking(asker):
            self._is_asking = False
            self._send(Nothing())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, packet: FromMaster) -> None:
        self._writer.write(frame(packet))


async def _read(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(HEAD), "big")
    if size > MAX_PACKET:
        raise ValueError("too long")
    return await reader.readexactly(size)
