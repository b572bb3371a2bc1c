"""Threads and calls that work until the very end."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from waiting import LIMIT

from alarm_mw.master.runtime.threads import LateExecutor, start_thread
from alarm_mw.model.origin import in_alarm_code


def test_our_threads_are_named_and_marked() -> None:
    """A thread of ours can be told by its name, ends with the program, and marks its records as alarm code."""
    seen: list[bool] = []
    thread = start_thread("worker", lambda: seen.append(in_alarm_code.get()))
    thread.join(10.0)
    assert seen == [True]
    assert thread.name == "alarm-mw-worker"
    assert thread.daemon
    assert not in_alarm_code.get()


def test_a_thread_without_memory_for_its_first_function_raises() -> None:
    """Where a new thread ends before its first statement, whoever starts it gets an error, and does not hang."""
    program = (
        "import os, resource\n"
        "from alarm_mw.master.runtime import threads\n"
        "threads.START_LIMIT = 0.2\n"
        "threads.start_thread('first', int)\n"  # the C library keeps its stack for the next thread
        "while len(os.listdir('/proc/self/task')) > 1: pass\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))\n"
        "try:\n"
        "    threads.start_thread('second', int)\n"
        "except RuntimeError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT)
    assert "there may be no memory for it" in result.stdout


def test_results_and_errors_come_back() -> None:
    """A call's result, or what it raised, is its future's."""
    executor = LateExecutor()
    assert executor.submit(divmod, 7, 2).result(10.0) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 7, 0).result(10.0)
    executor.shutdown()


def test_a_cancelled_call_is_not_made() -> None:
    """What is cancelled while all threads are busy is never run."""
    executor, busy, release = LateExecutor(), threading.Semaphore(0), threading.Event()
    calls: list[int] = []

    def block() -> None:
        busy.release()
        release.wait(10.0)

    blocked = [executor.submit(block) for _ in range(32)]
    for _ in blocked:
        assert busy.acquire(timeout=10.0)
    waiting = executor.submit(calls.append, 1)
    assert waiting.cancel()
    release.set()
    for future in blocked:
        future.result(10.0)
    executor.shutdown()
    assert calls == []


def test_calls_are_made_even_at_the_end_of_the_interpreter() -> None:
    """In an atexit function, where the standard executor refuses, names are still resolved and actions still run."""
    program = (
        "import atexit\n"
        "from alarm_mw.master.runtime.threads import LateExecutor\n"
        "executor = LateExecutor()\n"
        "atexit.register(lambda: print(executor.submit(divmod, 7, 2).result(10)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert result.stdout == b"(3, 1)\n"
