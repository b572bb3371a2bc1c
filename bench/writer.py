"""An application that does nothing but write lines to standard output, as many as it is asked for.

It runs below whatever is measured, a shell's pipe, ``alarm-mw run`` or a mule of uWSGI's, and so is told what to do by
its environment; see `pipeline.Writing`.
"""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path


def main() -> None:
    """Do as the environment says."""
    environ = os.environ
    data = Path(environ["BENCH_LINES"]).read_bytes()
    size = int(environ["BENCH_WRITE"])
    portions = [data[at : at + size] for at in range(0, len(data), size)] if size else data.splitlines(keepends=True)
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(environ["BENCH_CONTROL"])
        control.sendall(b"%d\n" % os.getpid())
        for times in (1, int(environ["BENCH_TIMES"])):  # the first is for everything to be warm
            control.recv(1)
            share(portions, times, int(environ["BENCH_WORKERS"]))
        control.recv(1)


def share(portions: list[bytes], times: int, workers: int) -> None:
    """Write all of it so many times, by so many processes at once."""
    children = []
    for number in range(1, workers):
        if not (pid := os.fork()):
            write(portions * (times * number // workers - times * (number - 1) // workers))
            os._exit(0)
        children.append(pid)
    write(portions * (times - times * (workers - 1) // workers))
    for pid in children:
        os.waitpid(pid, 0)


def write(portions: list[bytes], target: int = 1) -> None:
    """Write all of it, as a program that must not lose anything does."""
    put = os.write
    for portion in portions:
        try:
            left = portion[put(target, portion) :]
        except BlockingIOError:  # uWSGI's log socket does not wait
            left = portion
        while left:
            select.select([], [target], [])
            try:
                left = left[put(target, left) :]
            except BlockingIOError:
                continue


main()
