"""A script: says some numbers, in itself or in processes that multiprocessing starts, and ends as it is told."""

from __future__ import annotations

import multiprocessing
import sys

import voices


def work(paths: list[str]) -> None:
    voices.configure()
    for path in paths:
        voices.answer(path)


if __name__ == "__main__":
    how, *paths = sys.argv[1:]
    if how == "itself":
        work(paths)
    else:
        multiprocessing.set_start_method(how)
        processes = [multiprocessing.Process(target=work, args=(paths[first::2],)) for first in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
