"""System calls that fail: the N-th on chosen files, once or from then on, in processes with a preloaded library."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

#: How many calls go well first, whether all that follow fail as well, errno, calls seen, calls failed.
LAYOUT = struct.Struct("5q")

#: What stands for no failure.
OFF = -1


class Syscalls:
    """Steers processes that were started with `environ`, from any process."""

    def __init__(self, control: Path, library: Path, part: str) -> None:
        if not control.exists():
            control.write_bytes(LAYOUT.pack(OFF, 0, 0, 0, 0))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), LAYOUT.size)
        self.environ = {
            "LD_PRELOAD": str(library),
            "SYSCALLS_CONTROL": str(control),
            "SYSCALLS_PATH": part,
        }

    @classmethod
    def built(cls, folder: Path, part: str) -> Syscalls:
        """Compile the library into a folder; `part` is what the names of the files have in common."""
        library = folder / "libsyscalls.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        return cls(folder / "syscalls.control", library, part)

    def fail(self, after: int, number: int, *, is_lasting: bool) -> None:
        """Let a call fail with an errno, after so many that go well."""
        self._map[:] = LAYOUT.pack(after, is_lasting, number, 0, 0)

    def stop(self) -> int:
        """Let none fail any more; return how many did."""
        failed = LAYOUT.unpack(self._map)[4]
        self._map[:] = LAYOUT.pack(OFF, 0, 0, 0, 0)
        return int(failed)
