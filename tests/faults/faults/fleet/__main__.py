"""``make faults-fleet``: all scenarios in their long form, or faults by chance."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from faults.fleet.catalogue import CATALOGUE
from faults.fleet.chaos import MACHINES, chaos
from faults.fleet.scale import LONG, SHORT
from faults.fleet.verdict import Verdict
from faults.seeds import new_seed


def main() -> int:
    """Run scenarios, print what they measure, and return 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(prog="faults.fleet", description=main.__doc__)
    parser.add_argument("--short", action="store_true", help="with few machines, and briefly")
    parser.add_argument("--chaos", type=float, metavar="SECONDS", help="inject faults by chance for so long, instead")
    parser.add_argument("--machines", type=int, default=MACHINES, help="how many machines there are with --chaos")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep all files of the machines there")
    parser.add_argument("names", nargs="*", help=f"which scenarios, all if none: {', '.join(CATALOGUE)}")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scale = SHORT if given.short else LONG
    with _folder(given.keep) as folder:
        if given.chaos is not None:
            scenario = partial(chaos, folder, given.chaos, new_seed(), given.machines)
            return int(not _run(scenario, "chaos"))
        names = given.names or [*CATALOGUE]
        found = [_run(partial(CATALOGUE[name], folder / name, scale), name) for name in names]
        return int(not all(found))


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _run(scenario: Callable[[Verdict], None], name: str) -> bool:
    """Run one, print its verdict, and return whether all is well."""
    begun, verdict = time.monotonic(), Verdict()
    try:
        scenario(verdict)
    except Exception as error:  # noqa: BLE001  # the others are wanted all the same
        verdict.complaints.append(f"{type(error).__name__}: {error}")
    is_well = not verdict.complaints
    sys.stdout.write(f"{name}: {'ok' if is_well else 'FAILED'} in {time.monotonic() - begun:.0f} s\n")
    for what, value in verdict.figures.items():
        sys.stdout.write(f"    {what}: {value}\n")
    for complaint in verdict.complaints:
        sys.stdout.write(f"  ! {complaint}\n")
    sys.stdout.flush()
    return is_well


if __name__ == "__main__":
    sys.exit(main())
