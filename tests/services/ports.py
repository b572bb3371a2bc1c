"""TCP ports of this machine, for the servers of tests."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """Return a port that the kernel gives to nobody who does not ask for it by number."""
    for port in random.sample(range(10_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no free port")


def answers(port: int) -> bool:
    """Return whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True
