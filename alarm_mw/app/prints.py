"""How this process's prints go out where a master reads them."""

from __future__ import annotations

import io
import os
import sys

from alarm_mw.transports.places import SOCKET_VARIABLE


def attach() -> None:
    """Under a master, let this process's unbuffered prints go out line by line.

    Where ``PYTHONUNBUFFERED`` is set, as ``alarm-mw run`` does, Python writes a line and its newline apart, and the
    lines of several workers run into each other. Written whole, they do not. Half a line, printed without a newline,
    waits for its other half, as at a terminal.
    """
    stdout = sys.stdout
    if SOCKET_VARIABLE in os.environ and isinstance(stdout, io.TextIOWrapper) and stdout.write_through:
        stdout.reconfigure(line_buffering=True, write_through=False)
        # Else half a line would be printed by the child as well.
        os.register_at_fork(before=stdout.flush)
