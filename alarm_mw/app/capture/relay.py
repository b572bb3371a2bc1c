"""Passes on what a process prints, and offers that process a copy: run as a script, with descriptors as arguments.

``python -I -S stdio_relay.py REPORT SOURCE SINK COPY [SOURCE SINK COPY]``; nothing but the standard library.

A process of its own, because a thread cannot pass on what its own process prints while C code holds the GIL. It ends
when the last writer is gone, not on request: children that outlive the application keep their output.
"""

import mmap
import os
import select
import signal
import struct
import sys
import threading
from collections import deque

CHUNK = 65_536

#: The most that is kept for a reader that does not come, in bytes; lines beyond it are dropped from the copy.
LIMIT = 8_388_608

#: What is kept of a line that does not end, in bytes: more than its reader looks at.
LONGEST = 131_072

#: The report holds, for each stream: is anything under way, and how many lines are missing in the copy?
REPORT = struct.Struct("<?7xQ")


class Report:
    """One stream's part of the memory in which the captured process reads how we stand."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory = memory
        self._at = number * REPORT.size
        self.dropped = 0

    def write(self, *, busy: bool) -> None:
        """Say whether anything that was taken from the source has not been passed on yet."""
        REPORT.pack_into(self._memory, self._at, busy, self.dropped)


class Copy:
    """A bounded queue of whole lines before a pipe that somebody may read, or not."""

    def __init__(self, descriptor: int, report: Report) -> None:
        self.descriptor = descriptor
        self._report = report
        self._half = bytearray()
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._is_read = True
        os.set_blocking(descriptor, False)

    @property
    def waits(self) -> bool:
        """Whether there is something that the reader has not taken yet."""
        return bool(self._queue)

    def offer(self, data: bytes) -> None:
        """Put the lines that `data` completes into the queue."""
        whole, newline, half = data.rpartition(b"\n")
        if newline:
            self._put(bytes(self._half) + whole + newline)
            self._half.clear()
        self._half += half[: LONGEST - len(self._half)]

    def end(self) -> None:
        """Put the last line into the queue, which has no newline."""
        self._put(bytes(self._half))

    def _put(self, lines: bytes) -> None:
        if not self._is_read or not lines:
            return
        room = LIMIT - self._size
        fitting = lines if len(lines) <= room else lines[: lines.rfind(b"\n", 0, room) + 1]
        if fitting:
            self._queue.append(fitting)
            self._size += len(fitting)
        rest = lines[len(fitting) :]
        self._report.dropped += rest.count(b"\n") + (not rest.endswith(b"\n") and rest != b"")

    def flush(self) -> None:
        """Write what the reader takes now."""
        try:
            while self._queue:
                written = os.write(self.descriptor, self._queue[0])
                self._size -= written
                rest = self._queue.popleft()[written:]
                if rest:
                    self._queue.appendleft(rest)
        except BlockingIOError:
            return
        except OSError:
            # The captured process is gone; its children's output passes all the same.
            self._queue.clear()
            self._is_read = False


def relay(source: int, sink: int, copy: Copy, report: Report) -> None:
    """Pass everything from `source` on to `sink`, until there is no writer or no reader any more."""
    try:
        follow(source, sink, copy, report)
    finally:
        # Whatever has happened: the application must not wait for us.
        os.close(source)
        finish(copy)
        report.write(busy=False)
        os.close(copy.descriptor)


def follow(source: int, sink: int, copy: Copy, report: Report) -> None:
    """Pass on what comes, as long as it does."""
    arrival = select.poll()
    arrival.register(source, select.POLLIN)
    while True:
        wait_for(source, copy)
        # Before the source is emptied: if it is empty and we are idle, everything has been passed on.
        report.write(busy=True)
        if arrival.poll(0):
            data = os.read(source, CHUNK)
            if not data or not pass_on(sink, data):
                return
            copy.offer(data)
        copy.flush()
        report.write(busy=copy.waits)


def finish(copy: Copy) -> None:
    """Let the reader have the rest, as long as there is one."""
    copy.end()
    while copy.waits:
        wait_for(None, copy)
        copy.flush()


def wait_for(source: int | None, copy: Copy) -> None:
    """Wait until there is something to read, or room in the copy for what waits."""
    waiting = select.poll()
    if source is not None:
        waiting.register(source, select.POLLIN)
    if copy.waits:
        waiting.register(copy.descriptor, select.POLLOUT)
    waiting.poll()


def pass_on(sink: int, data: bytes) -> bool:
    """Write all of `data`; return False when nobody reads the sink any more."""
    while data:
        try:
            data = data[os.write(sink, data) :]
        except BlockingIOError:
            room = select.poll()
            room.register(sink, select.POLLOUT)
            room.poll()
        except (BrokenPipeError, ConnectionResetError):
            return False
        except OSError:
            # A full disk, a terminal that has gone: the application goes on, as it would had it written itself.
            return True
    return True


def leave_the_application(kept: list[int]) -> None:
    """Hold nothing of the application's but `kept`, and end with it no more than with others."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    below = 3
    for descriptor in sorted(kept):
        os.closerange(below, descriptor)
        below = descriptor + 1
    os.closerange(below, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


def main(arguments: list[str]) -> None:
    """Relay each stream in a thread of its own: a full one does not hold up the other."""
    report, *descriptors = map(int, arguments)
    leave_the_application([report, *descriptors])
    memory = mmap.mmap(report, mmap.PAGESIZE)
    threads = []
    for number in range(len(descriptors) // 3):
        source, sink, copy = descriptors[3 * number : 3 * number + 3]
        told = Report(memory, number)
        threads.append(threading.Thread(target=relay, args=(source, sink, Copy(copy, told), told)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
