"""Writes a real journal: by systemd's own program, which takes entries in the export format."""

from __future__ import annotations

import itertools
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAM = "/lib/systemd/systemd-journal-remote"


class JournalWriter:
    """A journal in a directory; what is written can be read by ``journalctl --directory``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [PROGRAM, f"--output={self.folder}/test.journal", "--split-mode=none", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def write(  # noqa: PLR0917  # what entries have
        self,
        message: bytes,
        priority: int = 6,
        unit: str = "nginx.service",
        identifier: str = "nginx",
        pid: int = 42,
        boot: int = 1,
    ) -> None:
        """Add an entry."""
        n = next(self._numbers)
        fields = {
            "__REALTIME_TIMESTAMP": str(time.time_ns() // 1000),
            "__MONOTONIC_TIMESTAMP": str(n),
            "_BOOT_ID": f"{boot:032x}",
            "_MACHINE_ID": f"{2:032x}",
            "PRIORITY": str(priority),
            "_SYSTEMD_UNIT": unit,
            "SYSLOG_IDENTIFIER": identifier,
            "_PID": str(pid),
        }
        text = "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
        binary = b"MESSAGE\n" + struct.pack("<Q", len(message)) + message + b"\n\n"
        assert self._process.stdin is not None
        self._process.stdin.write(text + binary)
        self._process.stdin.flush()

    def holds(self, text: str) -> bool:
        """Return whether what was written is in the journal already."""
        shown = ["journalctl", f"--directory={self.folder}", "--output=cat", "--quiet"]
        return text in subprocess.run(shown, capture_output=True, text=True, check=False).stdout
