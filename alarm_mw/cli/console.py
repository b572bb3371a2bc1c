"""Tables for the terminal: no cell is cut off, and without a terminal the width is unlimited."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Column, Table

#: Characters in a line of a pipe or a file.
UNLIMITED = 10_000


def console() -> Console:
    """Return a console that prints to the standard output."""
    is_limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_limited else UNLIMITED)


def table(*headers: str) -> Table:
    """Return a table that wraps what is too wide for the terminal."""
    return Table(*(Column(header, overflow="fold") for header in headers))
