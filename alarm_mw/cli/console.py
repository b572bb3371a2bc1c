"""Tables and text for the terminal: no cell is cut off, and without a terminal the width is unlimited."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from alarm_mw.model.printable import printable

#: Characters in a line of a pipe or a file.
UNLIMITED = 10_000


def console() -> Console:
    """Return a console that prints to the standard output."""
    is_limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_limited else UNLIMITED)


def table(*headers: str) -> Table:
    """Return a table that wraps what is too wide for the terminal."""
    return Table(*(Column(header, overflow="fold") for header in headers))


def plain_text(text: str, style: str = "", limit: int | None = None) -> Text:
    """Return text from elsewhere for a console, without markup and control characters, and without its last newline.

    At most `limit` characters are shown.
    """
    return Text(printable(text.removesuffix("\n"), limit), style)
