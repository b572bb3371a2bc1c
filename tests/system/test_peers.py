"""A process number that the kernel has given to another process proves nothing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from alarm_mw.system.peers import belongs_to_run, peer_of

NOBODY = 65534

#: Where root can say which number the next process gets.
_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def child_with(pid: int) -> int:
    """Return a child with this number, which the test has to end."""
    for _ in range(1000):
        _LAST_PID.write_text(str(pid - 1))
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        if child == pid:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    raise AssertionError(f"no child got the number {pid}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, and choose a number")
def test_a_stranger_whose_number_a_worker_has_got_does_not_belong_to_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another user connects, lets another process hold the connection, and ends; then a worker gets its number."""
    monkeypatch.setattr(os, "getppid", os.getpid)  # for the test's children to be those of the supervisor
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as held:
        name = f"\0alarm-mw-test-{os.getpid()}"
        listener.bind(name)
        listener.listen()
        stranger = os.fork()
        if stranger == 0:
            os.setuid(NOBODY)
            held.connect(name)
            os._exit(0)
        os.waitpid(stranger, 0)
        connection, _ = listener.accept()
        worker = child_with(stranger)
        try:
            with connection:
                assert peer_of(connection) == (worker, NOBODY)
                assert not belongs_to_run(connection)
        finally:
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
