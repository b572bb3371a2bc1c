"""A second thread, for a function in which other threads of Python can run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: How many items are under way at most.
MOST = 3


def beside(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order, computed in another thread while further items are made here.

    What the function raises is raised here. The thread ends with the iterator, when it is through with what it has.
    """
    given: SimpleQueue[T | None] = SimpleQueue()
    made: SimpleQueue[R | BaseException] = SimpleQueue()

    def compute() -> None:
        while (item := given.get()) is not None:
            try:
                made.put(function(item))
            except BaseException as error:  # noqa: BLE001  # it is raised where the results are awaited
                made.put(error)

    thread = threading.Thread(target=compute, name="alarm-mw-beside", daemon=True)
    thread.start()
    try:
        yield from _results(given, made, items)
    finally:
        given.put(None)
        thread.join()


def _results(given: SimpleQueue[T | None], made: SimpleQueue[R | BaseException], items: Iterable[T]) -> Iterator[R]:
    waiting = 0
    for item in items:
        given.put(item)
        waiting += 1
        if waiting == MOST:
            yield _result(made)
            waiting -= 1
    for _ in range(waiting):
        yield _result(made)


def _result(made: SimpleQueue[R | BaseException]) -> R:
    result = made.get()
    if isinstance(result, BaseException):
        raise result
    return result
