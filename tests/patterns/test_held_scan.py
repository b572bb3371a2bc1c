"""A scan by Hyperscan during which no other thread of Python runs."""

from __future__ import annotations

import os
import sys
import threading
from types import SimpleNamespace

import hyperscan
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.patterns import hyperscan_finder
from alarm_mw.patterns.expression import Expression
from alarm_mw.patterns.held_scan import HeldScan
from alarm_mw.patterns.hyperscan_finder import HyperscanFinder, _Database

EXTENSION = hyperscan_finder._extension(hyperscan)

PATTERNS = {0: b"a+b", 1: b"^[cd]$", 2: b"\xff"}
DATABASE = _Database.compile(PATTERNS)


def held() -> HeldScan:
    return HeldScan(EXTENSION, DATABASE.dumps())


HELD = held()


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"\n", b"\0", b"\xff", b"-" * 40]), max_size=12).map(b"".join))
def test_it_finds_something_where_the_package_does(data: bytes) -> None:
    """Both ways to scan have the same answer: what is to end at the first find comes to its end without one."""
    assert HELD.finds_any(data) != DATABASE.scan(data, lambda *_find: True)


def test_threads_share_one_scratch() -> None:
    """Any number of threads may scan at any time."""
    answers: list[bool] = []

    def work() -> None:
        answers.extend(HELD.finds_any(b"fine " * 500 + end) for _ in range(500) for end in (b"ab", b"a"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(True) == answers.count(False) == 2000


def test_a_forked_child_goes_on_with_its_parents_scratch() -> None:
    """No fork can come between the begin and the end of a scan, and so nothing is in use in the child."""
    child = os.fork()
    if not child:
        os._exit(0 if HELD.finds_any(b"aab") and not HELD.finds_any(b"fine") else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_what_is_no_database_is_refused() -> None:
    """Bytes that were not saved by this Hyperscan raise an error."""
    with pytest.raises(ValueError, match="Hyperscan has answered -"):
        HeldScan(EXTENSION, b"no database")


def test_where_threads_run_all_the_time_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without the lock of the interpreter would let two threads use one scratch."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(ValueError, match="share a scratch"):
        held()


@pytest.mark.parametrize("extension", ["/nowhere/extension.so", "libm.so.6"])
def test_a_finder_does_without_it(extension: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package's extension is built in another way, records are told by the package's own scan."""
    monkeypatch.setattr(hyperscan_finder, "_extension", lambda _module: extension)
    tell = HyperscanFinder.compile([Expression("a+b")]).teller()
    assert [tell(b"aab"), tell(b"fine")] == [True, False]


def test_the_extension_is_where_its_functions_come_from() -> None:
    """The path is that of the module that defines what the package exports."""
    module = SimpleNamespace(dumpb=SimpleNamespace(__module__=__name__))
    assert hyperscan_finder._extension(module) == __file__
