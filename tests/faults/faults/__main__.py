"""``make faults``: the long form, and its table."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from faults import monkey, page
from faults.catalogue import CATALOGUE, Fault
from faults.row import COLUMNS, Row


def main() -> int:
    """Inject all faults, several servers at a time; return 1 when something was lost, or is not as it should be."""
    parser = argparse.ArgumentParser(prog="faults", description=main.__doc__)
    parser.add_argument("--times", type=int, default=100, help="how often the quick ones are injected")
    parser.add_argument("--jobs", type=int, default=2, help="how many servers run at a time")
    parser.add_argument(
        "--write", action="store_true", help="keep the table of all faults in docs/faults.md, if all is well"
    )
    parser.add_argument(
        "--monkey", type=float, metavar="SECONDS", help="compose two and three faults at a time, for so long, instead"
    )
    parser.add_argument("names", nargs="*", help=f"which faults, all if none: {', '.join(CATALOGUE)}")
    given = parser.parse_args()
    names = given.names or list(CATALOGUE)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ThreadPoolExecutor(given.jobs) as pool:

        def run(name: str) -> list[Row]:
            return _rows(name, CATALOGUE[name], Path(folder) / name, given.times)

        if given.monkey is None:
            rows = [row for found in pool.map(run, names) for row in found]
        else:
            rows = monkey.monkey(Path(folder), given.monkey)
    seconds = time.monotonic() - begin
    _show(rows, seconds)
    is_well = not any(row.lost or row.complaints for row in rows)
    if given.write and is_well and not given.names and given.monkey is None:
        page.write(rows, seconds)
    return int(not is_well)


def _rows(name: str, fault: Fault, folder: Path, times: int) -> list[Row]:
    times = max(1, times * fault.long // 100)
    try:
        return fault.inject(folder, times)
    except Exception as error:  # noqa: BLE001  # the other rows are wanted all the same
        return [Row(name, times, 0, 0, 0, 0, complaints=(f"{type(error).__name__}: {error}",))]


def _show(rows: list[Row], seconds: float) -> None:
    table = Table("fault", *COLUMNS, box=None)
    for row in rows:
        table.add_row(row.fault, *row.cells())
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    for row in rows:
        for complaint in row.complaints:
            console.print(f"{row.fault}: {complaint}", markup=False)
    console.print(f"{sum(row.times for row in rows):,} faults in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
