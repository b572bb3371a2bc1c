"""The memory that a process of the application shares with its master: counts, and records that the socket cannot hold.

A memfd of the process's, which goes to the master with the first packet of each connection. What is in it outlives the
process, whatever ends that: the master reads the rest of it afterwards. Nobody waits for the other. Three parts:

- a header: how many bytes were ever written to the ring, and how many of them the master has taken;
- a row for each count (`Tally`), which only the process increases. Two words beside it are the master's: what it had
  counted with its last transaction, and with the one before (`Region.collect`);
- a ring of records, each behind its length. A record goes there when the socket is full, and stays until its firings
  are in the outbox, like a packet in the socket.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hmac
import logging
import mmap
import os
import socket
from collections.abc import Mapping

from alarm_mw.transports.client import TALLY_SIZE, Tally, Words, enter, name_of, places_of
from alarm_mw.transports.places import TOKEN_VARIABLE
from alarm_mw.transports.wire import MAX_PACKET, Counts, is_countable

log = logging.getLogger(__name__)

#: Bytes of records that wait in a process's memory beyond those in the socket.
SPILL_SIZE = 1024 * 1024

#: How many of them are looked at together.
MAX_SPILLED = 256

SIZE = TALLY_SIZE + SPILL_SIZE

#: What the first packet of a connection begins with; no packet of records does (`wire.encode`).
GREETING = b"alarm_mw "

#: What the master answers when its supervisor has the connection, which then outlives the master.
KEPT = b"kept"

#: The words of the header, beside `tally.ROWS`: bytes written to the ring, bytes taken from it, and the number of the
#: transaction in which the first and the second of a row's two words were counted.
_WRITTEN, _TAKEN, _NUMBER = 2, 3, 4

_LENGTH = 4

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class SharedMemory:
    """The process's end. `spill` and `introduce` are for one thread at a time; none of it blocks or raises."""

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._file: int | None = None
        self._identity: tuple[int, int] | None = None
        # Our own until a file is needed.
        self._memory = memoryview(bytearray(TALLY_SIZE))
        self._words: Words = self._memory.cast("Q")
        #: Counts what is not sent.
        self.tally = Tally(self._memory)
        #: Whether a master has been given it.
        self.is_known = False
        self._has_logged = False

    def has_spilled(self) -> bool:
        """Return whether records wait here, behind which the next ones have to wait as well."""
        return self._words[_WRITTEN] != self._words[_TAKEN]

    def spill(self, packet: bytes) -> bool:
        """Keep a packet for the master; return whether there was room."""
        written = self._words[_WRITTEN]
        if not self.is_known or written - self._words[_TAKEN] + _LENGTH + len(packet) > SPILL_SIZE:
            return False
        data = len(packet).to_bytes(_LENGTH, "little") + packet
        begin = TALLY_SIZE + written % SPILL_SIZE
        head, tail = data[: SIZE - begin], data[SIZE - begin :]
        self._memory[begin : begin + len(head)] = head
        self._memory[TALLY_SIZE : TALLY_SIZE + len(tail)] = tail
        self._words[_WRITTEN] = written + len(data)
        return True

    def introduce(self, connection: socket.socket) -> None:
        """Give it to the master at the other end, as the first packet of this connection."""
        if not self._is_intact():
            self._renew()
        file = self._file
        try:
            socket.send_fds(connection, [GREETING + self._token.encode()], [] if file is None else [file])
        except OSError:
            return  # what is sent next finds out why
        self.is_known = self.is_known or file is not None

    def close(self) -> None:
        """Let go of the descriptor. The memory stays in place: other threads may be counting."""
        if self._is_intact() and self._file is not None:
            os.close(self._file)
        self._file = None

    def _is_intact(self) -> bool:
        """Return whether the descriptor is still ours: an application may close what it has not opened."""
        return self._file is not None and _identity(self._file) == self._identity

    def _renew(self) -> None:
        """Continue in another file, if there can be one; a master that has the present one counts that as well."""
        try:
            file = _sealed_file()
        except OSError as error:
            self._log_once(error)
            return
        try:
            memory = _mapped(file)
        except OSError as error:
            os.close(file)
            self._log_once(error)
            return
        self.tally.move(memory[:TALLY_SIZE], with_counts=not self.is_known)
        self._memory, self._words = memory, memory.cast("Q")
        self._file, self._identity = file, _identity(file)

    def _log_once(self, error: OSError) -> None:
        if not self._has_logged and error.errno not in (errno.EMFILE, errno.ENFILE):  # those may be free soon
            self._has_logged = True
            log.warning("the master does not learn how much this process logs that no rule matches: %s", error)


class Region:
    """The master's end, for one thread. What a process has written there is looked at as a stranger's."""

    def __init__(self, file: int, transaction: int) -> None:
        """Map what came with a connection; `transaction` is the number of the last one that the outbox has.

        Raises `ValueError` where a process could take the memory away again, else `OSError`.
        """
        if os.fstat(file).st_size != SIZE or fcntl.fcntl(file, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("it is none of ours")
        #: What identifies it.
        self.identity = _identity(file)
        self._address = _map(file)
        self._memory = _view(self._address)
        self._words: Words = self._memory.cast("Q")
        #: Which of the two words beside a count has what the outbox knows.
        self._slot = 0
        self._settle(transaction)

    def has_spilled(self) -> bool:
        """Return whether there are records in the ring."""
        return self._words[_WRITTEN] != self._words[_TAKEN]

    def spilled(self) -> tuple[list[bytes], int]:
        """Return the first packets in the ring, and what `take_off` is to be given when they have been worked off."""
        written, position = self._words[_WRITTEN], self._words[_TAKEN]
        packets: list[bytes] = []
        if written - position > SPILL_SIZE:  # nobody writes that: go on with what comes
            return packets, written
        while position + _LENGTH <= written and len(packets) < MAX_SPILLED:
            size = int.from_bytes(self._read(position, _LENGTH), "little")
            position += _LENGTH
            if size > MAX_PACKET or position + size > written:
                return packets, written
            packets.append(self._read(position, size))
            position += size
        return packets, position if len(packets) == MAX_SPILLED else written

    def take_off(self, position: int) -> None:
        """Free the ring up to there."""
        self._words[_TAKEN] = position

    def collect(self, counts: Counts, transaction: int) -> bool:
        """Add what was counted since the last time; return whether that was anything.

        The new counts are noted under the number of the transaction that they are going to be part of, beside the old
        ones under theirs: whichever the outbox has after a kill, the next master knows what was counted.
        """
        changed: list[tuple[int, int]] = []
        for place in places_of(self._words):
            n = self._words[place]
            more = n - self._words[place + 1 + self._slot]
            if more > 0 and is_countable(*(name := name_of(self._memory, place)), more):
                enter(counts, *name, more)
                changed.append((place, n))
        if not changed:
            return False
        other = 1 - self._slot
        for place in places_of(self._words):
            self._words[place + 1 + other] = self._words[place + 1 + self._slot]
        for place, n in changed:
            self._words[place + 1 + other] = n
        self._words[_NUMBER + other] = transaction
        return True

    def collected(self) -> None:
        """Take note that the outbox has what was collected last."""
        self._slot = 1 - self._slot

    def close(self) -> None:
        """Let the memory go."""
        self._words.release()
        self._memory.release()
        _libc.munmap(self._address, SIZE)

    def _settle(self, transaction: int) -> None:
        """Find out what earlier masters have counted, and note it in both places."""
        numbers = [self._words[_NUMBER + slot] for slot in (0, 1)]
        done = [slot for slot in (0, 1) if numbers[slot] <= transaction]
        # Where the outbox is an older one, or another, the least is what it may know.
        slot = max(done, key=numbers.__getitem__) if done else min((0, 1), key=numbers.__getitem__)
        for place in places_of(self._words):
            self._words[place + 2 - slot] = self._words[place + 1 + slot]
        self._words[_NUMBER + 1 - slot] = self._words[_NUMBER + slot] = 0
        self._slot = 0

    def _read(self, position: int, size: int) -> bytes:
        begin = TALLY_SIZE + position % SPILL_SIZE
        head = bytes(self._memory[begin : min(begin + size, SIZE)])
        return head + bytes(self._memory[TALLY_SIZE : TALLY_SIZE + size - len(head)])


def token_of(environ: Mapping[str, str]) -> str:
    """Return what a process of this run says of itself; empty where a master was started by somebody else."""
    return environ.get(TOKEN_VARIABLE, "")


def is_greeting(packet: bytes, token: str) -> bool:
    """Return whether a first packet names this token; no packet names an empty one."""
    return bool(token) and hmac.compare_digest(packet, GREETING + token.encode())


def _sealed_file() -> int:
    """Return a new memfd that keeps its size: processes that map it rely on that."""
    file = os.memfd_create("alarm-mw", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(file, SIZE)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(file)
        raise
    return file


def _identity(file: int) -> tuple[int, int] | None:
    try:
        facts = os.fstat(file)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _mapped(file: int) -> memoryview:
    """Return a file's memory, which stays mapped.

    The module `mmap` keeps a second descriptor, which it closes in the end, even if that number is reused by then.
    """
    return _view(_map(file))


def _map(file: int) -> int:
    address = _libc.mmap(None, SIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, file, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(address)


def _view(address: int) -> memoryview:
    return memoryview((ctypes.c_char * SIZE).from_address(address)).cast("B")
