"""An application that prints one line on request: an alarm with the moment at which it was printed.

Like `writer.py` it runs below whatever is measured, and connects to the address in its environment.
"""

from __future__ import annotations

import os
import socket
import time


def main() -> None:
    """Print a line for each byte that comes."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(os.environ["BENCH_CONTROL"])
        control.sendall(b"%d\n" % os.getpid())
        while control.recv(1):
            os.write(1, b"TERRIBLE ALARM at %d\n" % time.monotonic_ns())


main()
