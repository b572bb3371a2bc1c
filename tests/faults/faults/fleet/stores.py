"""Redis as a fleet has it: one server that forgets, or a pair of which one replicates."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from redis_server import RedisServer, Sentinel
from waiting import wait_until


class Store(RedisServer):
    """A server that keeps nothing over a restart, and its port over all of them. It is left with nothing running."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, options)

    def answers(self) -> bool:
        """Return whether it answers, if only that it wants a password."""
        said = self.cli("PING")
        return "PONG" in said or "NOAUTH" in said

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it in the middle of whatever it does: connections stay open, and nobody gets an answer."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def flush(self) -> None:
        """Delete everything in it, as also happens to the functions after a restart."""
        self.cli("FLUSHALL")
        self.cli("FUNCTION", "FLUSH")

    @contextlib.contextmanager
    def running(self) -> Iterator[Store]:
        self.start()
        try:
            yield self
        finally:
            self.stop()


class Pair:
    """Two servers, of which one replicates the other until that one fails."""

    def __init__(self, folder: Path) -> None:
        self.stores = [Store(folder / "0"), Store(folder / "1")]
        self._first = 0

    @property
    def master(self) -> Store:
        """The one that is written to."""
        return self.stores[self._first]

    @property
    def replica(self) -> Store:
        return self.stores[1 - self._first]

    def follow(self) -> None:
        """Let the replica follow, and wait until it does."""
        self.replica.cli("REPLICAOF", "127.0.0.1", str(self.master.port))
        wait_until(lambda: "master_link_status:up" in self.replica.cli("INFO", "replication"))

    def fail_over(self, *, is_synced: bool) -> None:
        """Promote the replica and kill the other.

        An unsynced replica has seen nothing of what the other one had.
        """
        self.replica.cli("REPLICAOF", "NO", "ONE")
        if not is_synced:
            self.replica.flush()
        self.master.stop()
        self._first = 1 - self._first

    def recover(self) -> None:
        """Start the one that was killed as a replica."""
        self.replica.start()
        self.follow()

    @contextlib.contextmanager
    def running(self) -> Iterator[Pair]:
        with contextlib.ExitStack() as stack:
            for store in self.stores:
                stack.enter_context(store.running())
            self.follow()
            yield self


@contextlib.contextmanager
def watching(folder: Path, pair: Pair) -> Iterator[Sentinel]:
    """Run a sentinel that knows both of a pair."""
    folder.mkdir(parents=True, exist_ok=True)
    sentinel = Sentinel(folder, pair.master)
    try:
        sentinel.start()
        sentinel.wait_for_replicas(1)
        yield sentinel
    finally:
        sentinel.stop()


def master_of(sentinel: Sentinel) -> int:
    """Return the port of the server that a sentinel takes for the master."""
    return int(sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "alarms").split()[1])
