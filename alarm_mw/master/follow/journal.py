"""Follows systemd's journal by ``journalctl``: a record for each entry, and the cursor of the last one in the outbox.

See journalctl(1), "JSON" in https://systemd.io/JOURNAL_EXPORT_FORMATS, and systemd.journal-fields(7).
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import msgspec

from alarm_mw.config.settings import Follow
from alarm_mw.master.follow.entries import SOURCE, Entry, command, ending, entry_of, record_of, word
from alarm_mw.master.follow.intake import BatchWorker
from alarm_mw.master.runtime.threads import start_thread
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.types import Reason
from alarm_mw.system.processes import tied

log = logging.getLogger(__name__)

#: What the name of a journal's position begins with.
POSITION = "journal:"

#: Seconds until journalctl is started again: at first, and doubling, at most.
PAUSE_FIRST, PAUSE_MAX = 1.0, 60.0

#: Seconds after which a journalctl that ends has not failed at once.
HEALTHY = 10.0

#: After so many that have failed at once, the cursor is not used any more: the time of the last entry is.
CURSOR_TRIES = 3

#: Bytes that are read from journalctl at a time, and the longest entry; a longer one is passed over.
PIECE = 256 * 1024
LONGEST = 16 * 1024 * 1024

#: How many batches may wait for the worker.
UNDER_WAY = 16

#: The name under which our own log and what passes through us stands in the journal: it is judged already.
OWN = "alarm-mw"


class JournalPosition(msgspec.Struct, array_like=True, frozen=True):
    """The last entry that was judged."""

    cursor: str
    #: In seconds since the epoch.
    time: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(JournalPosition).decode


class FollowedJournal(TypedDict):
    """A followed journal, as ``alarm-mw status --json`` shows it."""

    name: str
    #: When the last entry was written that was judged, in seconds since the epoch; 0 for none.
    time: float
    #: How often journalctl was started again.
    restarts: int
    #: Why it does not run; empty where it does.
    problem: str


def journal_name(follow: Follow) -> str:
    """Return what a journal is called: by its units, and by its directory where that is not the system's."""
    return " ".join(filter(None, (",".join(follow.units) or "*", follow.directory)))


class JournalFollower:
    """Follows the journal of some units. `stop` and `status` are for other threads."""

    def __init__(
        self,
        follow: Follow,
        worker: BatchWorker,
        saved: bytes | None,
        program: str = "journalctl",
    ) -> None:
        self.name = journal_name(follow)
        self._follow = follow
        self._worker = worker
        self._program = program
        self._position = self._read_saved(saved)
        self._places = threading.Semaphore(UNDER_WAY)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._problem = ""
        self._thread: threading.Thread | None = None

    def _read_saved(self, saved: bytes | None) -> JournalPosition | None:
        try:
            return None if saved is None else _decode(saved)
        except ValueError as error:
            log.error("journal %s: its position cannot be read, and is forgotten: %s", self.name, error)
            return None

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread("journal", self._run)

    def stop(self, timeout: float) -> None:
        """End within about `timeout` seconds."""
        self._stopping.set()
        process = self._process
        if process is not None:
            process.terminate()
        if self._thread is not None:
            self._thread.join(timeout)

    def status(self) -> FollowedJournal:
        """Return how far it is."""
        seconds = 0.0 if self._position is None else self._position.time
        return {"name": self.name, "time": seconds, "restarts": self._restarts, "problem": self._problem}

    def _run(self) -> None:
        """Run journalctl again and again, after pauses that grow while it fails at once."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._problem = self._run_once(uses_cursor=failures < CURSOR_TRIES)
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began >= HEALTHY else failures + 1
            pause = min(PAUSE_FIRST * 2.0 ** max(failures - 1, 0), PAUSE_MAX)
            log.warning("journal %s: %s; it is started again in %g s", self.name, self._problem, pause)
            self._stopping.wait(pause)
            self._restarts += 1

    def command(self, *, uses_cursor: bool = True) -> list[str]:
        """Return the command that prints all entries from the position on, for ever."""
        # With --follow alone, journalctl knows the present boot only: what was written before it would be lost.
        wanted = [*command(self._program, self._follow.units, self._follow.directory), "--follow", "--merge"]
        if not self._follow.directory:
            wanted += _of_this_machine()
        if self._position is None:
            return [*wanted, "--lines=" + ("all" if self._follow.start == "beginning" else "0")]
        if uses_cursor:
            return [*wanted, "--lines=all", f"--after-cursor={self._position.cursor}"]
        return [*wanted, "--lines=all", f"--since=@{self._position.time + 1e-6:.6f}"]

    def _run_once(self, *, uses_cursor: bool) -> str:
        """Run journalctl to its end, and return how it ended."""
        try:
            self._process = process = subprocess.Popen(
                tied(self.command(uses_cursor=uses_cursor)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            return f"journalctl cannot be started: {error}"
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            if self._stopping.is_set():
                process.terminate()
            said = self._read(process.stdout.fileno(), process.stderr.fileno())
        self._process = None
        return ending(process.wait(), said)

    def _read(self, output: int, errors: int) -> bytes:
        """Judge what journalctl prints, and return the last that it says of errors."""
        poll, said, rest = select.poll(), b"", b""
        for fd in (output, errors):
            poll.register(fd, select.POLLIN)
        open_fds = {output, errors}
        while open_fds:
            for fd, _ in poll.poll():
                data = os.read(fd, PIECE)
                if not data:
                    open_fds.discard(fd)
                    poll.unregister(fd)
                elif fd == errors:
                    said = (said + data)[-1000:]
                else:
                    rest = self._take(rest + data)
        return said

    def _take(self, data: bytes) -> bytes:
        """Judge the whole lines, and return what is left."""
        end = data.rfind(b"\n") + 1
        entries = [entry for line in data[:end].splitlines() if (entry := entry_of(line)) is not None]
        if entries and not self._submit(entries):
            return b""
        return data[end:] if len(data) - end <= LONGEST else b""

    def _submit(self, entries: Sequence[Entry]) -> bool:
        """Give the worker the entries, as soon as few other batches wait; return False at the end."""
        others = [entry for entry in entries if word(entry.identifier) != OWN]
        own = len(entries) - len(others)
        items = [Item(record_of(entry)) for entry in others]
        counts = {"lines": own, f"skipped:{Reason.ALARM_ORIGIN}": own}
        while not self._places.acquire(timeout=1.0):
            if self._stopping.is_set():
                return False
        position = JournalPosition(entries[-1].cursor, entries[-1].seconds)
        moved = {POSITION + self.name: _encode(position)}
        self._worker.submit(Batch(items, {SOURCE: counts}, self._places.release, positions=moved))
        self._position = position
        return True


def _of_this_machine() -> list[str]:
    """Return what keeps journalctl from merging the journals of other machines that this one collects."""
    try:
        return [f"_MACHINE_ID={Path('/etc/machine-id').read_text().strip()}"]
    except OSError:
        return []


def saved_position(saved: Mapping[str, bytes], follow: Follow) -> bytes | None:
    """Return the position of a journal among all that are saved."""
    return saved.get(POSITION + journal_name(follow))
