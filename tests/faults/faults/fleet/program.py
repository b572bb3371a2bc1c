"""The application of each machine: prints what it is told over a socket, and says how long its writes took at most.

It is told objects of JSON, one a line, and answers each with one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Any


class Load:
    """Prints lines at a rate, each with the time of its write on the monotonic clock."""

    def __init__(self, line: str, rate: int) -> None:
        self._line = line
        self._pause = 1 / rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._printed = 0
        self._longest = 0.0
        self._thread.start()

    def _run(self) -> None:
        begin = time.monotonic()
        while not self._over.is_set():
            before = time.monotonic()
            os.write(1, f"{self._line} {self._printed} {before:.6f}\n".encode())
            self._printed += 1
            now = time.monotonic()
            self._longest = max(self._longest, now - before)
            time.sleep(max(0.0, begin + self._printed * self._pause - now))

    def longest(self) -> dict[str, Any]:
        """Return the seconds of the longest write since the last question, and all lines."""
        longest, self._longest = self._longest, 0.0
        return {"longest": longest, "printed": self._printed}

    def stop(self) -> dict[str, Any]:
        self._over.set()
        self._thread.join()
        return self.longest()


def main(path: str) -> None:
    """Do what is said until nobody says anything."""
    load: Load | None = None
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(path)
        for order in control.makefile():
            name, value = json.loads(order)
            answer: dict[str, Any] = {}
            if name == "print":
                os.write(1, "".join(f"{line}\n" for line in value).encode())
            elif name == "load":
                load = Load(*value)
            elif load is not None:
                answer = load.stop() if name == "stop" else load.longest()
            control.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
