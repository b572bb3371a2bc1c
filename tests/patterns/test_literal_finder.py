"""Finding literals in bytes: in one pass, or one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from alarm_mw.patterns import literal_finder as module
from alarm_mw.patterns.literal_finder import LITERAL_BITS, HyperscanFinder, LiteralFinder, PlainFinder, literal_finder
from alarm_mw.patterns.literals import Literal

PIECES = st.sampled_from([b"a", b"b", b"A", b"ab", b"\1", b"\xff", b"x" * 30, b"\xc3\xa9", b"-"])
LITERALS = st.lists(
    st.builds(
        lambda text, ignores_case: Literal(text.lower() if ignores_case else text, ignores_case),
        st.lists(PIECES, min_size=1, max_size=4).map(b"".join),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
    unique=True,
)
DATA = st.lists(PIECES | st.sampled_from([b"\n", b"\0"]), max_size=60).map(b"".join)


def by_line(finder: LiteralFinder, data: bytes) -> set[tuple[int, int]]:
    """Return in which lines which literals were found."""
    finds = finder.find(data)
    assert finds is not None
    number = (1 << LITERAL_BITS) - 1
    return {(data.count(b"\n", 0, (find >> LITERAL_BITS) - 1), find & number) for find in finds}


@settings(max_examples=examples(300))
@given(LITERALS, DATA)
def test_both_finders_find_every_literal_in_every_line(literals: list[Literal], data: bytes) -> None:
    """Each line gives just the literals that stand in it, with whatever is installed."""
    expected = {
        (row, number)
        for row, line in enumerate(data.split(b"\n"))
        for number, each in enumerate(literals)
        if each.text in (line.lower() if each.ignores_case else line)
    }
    for finder in (HyperscanFinder(literals), PlainFinder(literals)):
        assert by_line(finder, data) == expected
        assert finder.finds_any(data) == bool(expected)
        assert set(finder.found_in(data)) == {number for _, number in expected}


COMPILED = """
import hyperscan, random, resource
from pathlib import Path
from alarm_mw.patterns.literal_finder import HyperscanFinder
from alarm_mw.patterns.literals import Literal

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

letters = random.Random(3)
words = ["".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=8)).encode() + b" " * (at % 2) for at in range(1000)]
before = resident()
finder = HyperscanFinder([Literal(word, False) for word in words])
print(resident() - before)
"""


def test_compiling_leaves_no_freed_memory_behind() -> None:
    """A thousand literals take less than 8 MB once they are compiled, though compiling takes 30 MB."""
    grown = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert int(grown) < 8 * 2**20


def test_thousands_of_literals_are_found() -> None:
    """Whatever matcher Hyperscan builds for their number, each is found at every place of a vector."""
    literals = [Literal(f"{number:05d}".encode()) for number in range(3000)]
    finder = HyperscanFinder(literals)
    for number in range(0, 3000, 7):
        assert (0, number) in by_line(finder, b"-" * (number % 70) + literals[number].text + b"-" * (number % 11))


def test_without_hyperscan_nothing_is_missing() -> None:
    """Where its package is not installed, or is not for this processor, literals are looked for all the same."""
    program = """
import sys
sys.modules["hyperscan"] = None
from alarm_mw.patterns.literal_finder import literal_finder
from alarm_mw.patterns.literals import Literal
print(type(literal_finder([Literal(b"ab")])).__name__)
"""
    assert subprocess.check_output([sys.executable, "-c", program]) == b"PlainFinder\n"


def test_a_hyperscan_that_refuses_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without the instructions that it needs."""

    class Database:
        def compile(self, **_literals: object) -> None:
            raise ValueError("not for this processor")

    refusing: Any = SimpleNamespace(
        Database=lambda **_: Database(), HS_MODE_BLOCK=1, HS_FLAG_CASELESS=1, error=ValueError, Scratch=None
    )
    monkeypatch.setitem(sys.modules, "hyperscan", refusing)
    assert isinstance(literal_finder([Literal(b"ab")]), PlainFinder)


def test_more_finds_than_are_worth_their_calls_are_not_told() -> None:
    """Then each line is looked at by itself."""
    finder = HyperscanFinder([Literal(b"aa")])
    assert finder.find(b"a" * 5000 + b"\n") is None
    assert finder.find((b"aa" + b"\n") * 5000) is not None


# Threads, forks, signals


def test_threads_scan_at_the_same_time() -> None:
    """Any number of threads may use one finder."""
    finder = literal_finder([Literal(b"ERROR")])
    data = b"fine\nERROR\n" * 500
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(finder.find(data) or ()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [500] * 8


# From Python 3.12 on it warns of such a fork: rightly, and so this is tried.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_can_scan_whatever_the_parent_was_doing() -> None:
    """A fork in the middle of another thread's scan leaves nothing in use in the child."""
    finder = literal_finder([Literal(b"ERROR")])
    data = b"fine\n" * 200_000
    stop = threading.Event()

    def scan() -> None:
        while not stop.is_set():
            finder.find(data)

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if not child:
                fine = finder.find(b"ERROR\n") == [5 << LITERAL_BITS] and not finder.finds_any(b"fine")
                os._exit(0 if fine else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_a_scan_within_a_scan_says_that_it_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that scans while its own thread does is not told that nothing is there."""
    finder = HyperscanFinder([Literal(b"ERROR")])
    answers: list[object] = []

    def handle(*_arguments: object) -> None:
        answers.extend([finder.find(b"ERROR\n"), finder.finds_any(b"fine")])

    # Python runs the handler within the first call of `note`.
    monkeypatch.setattr(module, "_stop", lambda *_: signal.raise_signal(signal.SIGUSR1))
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        finder.finds_any(b"ERROR\n")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == [None, True]
