"""The machine that was measured on, and how busy others kept it: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Others' share of all processors beyond which the machine is called busy.
BUSY = 0.05


def describe(packages: Iterable[str], programs: Iterable[str]) -> dict[str, Any]:
    """Return what the machine is; of the packages and programs those that are installed, with their versions."""
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": {**_packages(packages), **_programs(programs)},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _packages(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _programs(names: Iterable[str]) -> Mapping[str, str]:
    return {name: _first_line(name) for name in names if shutil.which(name)}


def _first_line(name: str) -> str:
    """Return the first line of ``NAME --version``."""
    done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout or done.stderr).partition("\n")[0]


class Others:
    """Measures what share of all processors others had, from now on.

    Of our own time counts what this process took, and its children that have ended.
    """

    def __init__(self) -> None:
        self._all, self._own = _busy(), _own()

    def share(self) -> float:
        """Return the share, 0 to 1."""
        busy, idle = (now - before for now, before in zip(_busy(), self._all, strict=True))
        return max(0.0, busy - (_own() - self._own)) / ((busy + idle) or 1)


def _busy() -> tuple[float, float]:
    """Return the seconds that the processors were busy and idle since the machine started."""
    ticks = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    return sum(os.times()[:4])
