"""Serves the page of a shop whose last week is made up, with a link that logs in: ``make demo ARGS=--page``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import week

HERE = Path(__file__).parent

#: Seconds to wait for the master.
PATIENCE = 20.0

ALARM_MW = str(Path(sys.executable).with_name("alarm-mw"))


@contextmanager
def serving(listen: str) -> Iterator[Path]:
    """Run the shop under ``alarm-mw run`` with its page at this address; give the state directory."""
    with tempfile.TemporaryDirectory(prefix="alarm-mw-page-") as folder:
        # Where servers have their state by default, of a user who has this one alone: `alarm-mw web --all` finds it.
        state = Path(folder) / "alarm-mw" / "shop"
        week.write(state)
        command = [ALARM_MW, "run", "--config", "alarm-mw.toml", "--state-dir", str(state)]
        with subprocess.Popen(
            [*command, "--", sys.executable, "shop.py"],
            cwd=HERE,
            env={**os.environ, "PAGE_LISTEN": listen},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as shop:
            try:
                yield state
            finally:
                shop.terminate()


def login_url(state: Path) -> str:
    """Return a URL that logs in, once; wait for the master."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            [ALARM_MW, "web", "--state-dir", str(state)], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if not done.returncode:
            return done.stdout.strip()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the page is not served: {done.stderr}")
        time.sleep(0.2)


def main() -> int:
    """Serve until ^C."""
    with serving(os.environ.get("PAGE_LISTEN", "127.0.0.1:8420")) as state:
        print("A shop's page, with a week that is made up. Open this, within a minute; it works once:\n")
        print(f"  {login_url(state)}\n")
        print(f"Another link: {ALARM_MW} web --state-dir {state}\nIt goes on until ^C.", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("\nStopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
