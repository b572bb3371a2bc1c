"""The table of a run, kept in docs/faults.md."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from faults.row import COLUMNS, Row

PAGE = Path(__file__).parents[3] / "docs" / "faults.md"

#: What stands between these is made from a run.
BEGIN, END = "<!-- made by make faults -->", "<!-- end -->"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    header = ("fault", *COLUMNS)
    lines = [header, ("---", *("--:" for _ in COLUMNS)), *((_code(row.fault), *row.cells()) for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def write(rows: Sequence[Row], seconds: float, page: Path = PAGE) -> None:
    """Put a run into the page, in the place of the last one."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{BEGIN}\n\n{_about(rows, seconds)}\n\n{table(rows)}\n\n{END}"
    page.write_text(before + made + after, encoding="utf-8")


def _about(rows: Sequence[Row], seconds: float) -> str:
    """Return when and on what it was run; nothing that names the machine."""
    faults, accepted = sum(row.times for row in rows), sum(row.accepted for row in rows)
    machine = f"{os.cpu_count()} processors, {sys.platform.capitalize()}, Python {platform.python_version()}"
    return (
        f"The run of {datetime.now(UTC):%Y-%m-%d}, on {machine}: {faults:,} faults in {seconds / 60:.0f} minutes, "
        f"{accepted:,} alarms, {sum(row.lost for row in rows)} lost."
    )


def _code(fault: str) -> str:
    return fault.replace("SIGKILL", "`SIGKILL`")
