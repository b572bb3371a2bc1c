"""The screen: the lines that some rule may match, told for all rules in one pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns import hyperscan_finder
from alarm_mw.patterns.finder import Finder, Name, Re2Finder
from alarm_mw.patterns.hyperscan_finder import HyperscanFinder
from alarm_mw.patterns.screen import Hit, Screen, _best

BACKENDS: list[Name] = ["hyperscan", "re2", "regex"]


def rules(*patterns: str, syntax: Syntax = Syntax.PCRE, multiline: bool = False) -> list[CompiledRule]:
    return [compile_rule(Rule(pattern, ("alarm",), syntax, multiline=multiline)) for pattern in patterns]


def matches(screen: Screen, compiled: Sequence[CompiledRule], data: bytes) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return each line that rules match, as the engine finds them."""
    found = []
    for hit in screen.scan(data):
        line = data[hit.start : hit.end]
        matched = tuple(n for n in hit.rules if n in hit.certain or compiled[n].search(line))
        if matched:
            found.append((hit.start, hit.end, matched))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_hits_are_lines_with_their_newline(backend: Name) -> None:
    """A hit says where its line stands in the chunk, and which rules may match there, in the order of the rules."""
    compiled = rules("ERROR", "disk (?:full|gone)", r"^\d+ ", "nothing")
    data = b"all is well\n17 ERROR: disk full ERROR\n\nERROR\nlast disk gone"
    screen = Screen.compile(compiled, backend=backend)
    assert screen.backend == backend
    assert matches(screen, compiled, data) == [(12, 38, (0, 1, 2)), (39, 45, (0,)), (45, 59, (1,))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("end", ["", "ü\n"])
def test_a_line_is_one_hit_however_often_its_rules_match(backend: Name, end: str) -> None:
    """A rule that matches twice in a line, and others that do as well, make one hit with each of them once."""
    compiled = rules("A", "B")
    screen = Screen.compile(compiled, backend=backend)
    data = ("A A\nB\nnone\nB A B\nA\nü A\nB B\nAA" + end).encode()
    lines = [(0, 4, (0,)), (4, 6, (1,)), (11, 17, (0, 1)), (17, 19, (0,)), (19, 24, (0,)), (24, 28, (1,))]
    assert matches(screen, compiled, data) == [*lines, (28, len(data), (0,))]
    assert all(len(hit.rules) == len(set(hit.rules)) for hit in screen.scan(data))


def test_nothing_comes_of_lines_that_no_rule_matches() -> None:
    """A chunk without a hit gives an empty list, and so does an empty chunk."""
    screen = Screen.compile(rules("ERROR", "WARN"))
    assert screen.scan(b"fine\n" * 100) == []
    assert screen.scan(b"") == []


def test_a_certain_hit_needs_no_verdict() -> None:
    """Where the screen is exact, a hit says so: for PCRE always, for Python's rules on lines of ASCII."""
    compiled = [*rules(r"x.y", r"x(?!z)"), *rules(r"x.y", syntax=Syntax.PYTHON)]
    screen = Screen.compile(compiled, backend="hyperscan")
    assert screen.scan(b"x-y\n") == [Hit(0, b"x-y\n", (0, 1, 2), (0, 2))]
    assert screen.scan("xéy\n".encode()) == [Hit(0, "xéy\n".encode(), (1, 2))]
    assert screen.scan(b"x\xffy\n") == [Hit(0, b"x\xffy\n", (0, 1, 2), (0,))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_match_ends_with_its_line(backend: Name) -> None:
    """What may take a newline takes the line's own, as its last character, and goes no further."""
    compiled = rules(r"end\s+b", r"a[^x]$", r"(?s)a.*b", r"^$", r"\n$", r"(?m)^b")
    screen = Screen.compile(compiled, backend=backend)
    data = b"the end\nb\n\na\nb\n"
    found = matches(screen, compiled, data)
    assert found == [(0, 8, (4,)), (8, 10, (4, 5)), (10, 11, (3, 4)), (11, 13, (1, 4)), (13, 15, (4, 5))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_rules_without_anything_to_look_for_are_asked_about_every_line(backend: Name) -> None:
    """A rule that can match an empty text gets each line, beside the rules that have a hit there."""
    screen = Screen.compile(rules("b", "x*"), backend=backend)
    assert screen.judges_every_line == (1,)
    assert [(hit.start, hit.rules) for hit in screen.scan(b"a\nb\n\n")] == [(0, (1,)), (2, (0, 1)), (4, (1,))]
    assert screen.may_match(b"a")
    assert screen.candidates(b"a") == (1,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flood_is_screened_line_by_line(backend: Name) -> None:
    """A chunk with more matches than are worth their calls gives the same hits."""
    compiled = rules("[a-z]", "q", "z")
    screen = Screen.compile(compiled, backend=backend)
    data = (b"abcdefghijklmnopqr" * 4 + b"\n12\n") * 500
    assert matches(screen, compiled, data) == [(at, at + 73, (0, 1)) for at in range(0, len(data), 76)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_record_of_several_lines_matches_by_one_of_them_or_as_a_whole(backend: Name) -> None:
    """A rule may match a record by any of its lines; a multiline rule also across them."""
    screen = Screen.compile([*rules("^b$"), *rules("a.c", "(?s)a.*c", multiline=True)], backend=backend)
    message = b"a\nb\nc"
    assert {0, 2} <= set(screen.candidates(message))
    assert screen.may_match(message)


def test_an_empty_record_may_match_anything() -> None:
    """A record without a character goes to the rules: ``^$`` matches it."""
    screen = Screen.compile(rules("^$", "a"))
    assert screen.may_match(b"\n")
    assert screen.candidates(b"") == (0, 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("patterns", [["one"], ["one", "two"], ["one", "two", "three", "four"], ["one", r"\d"]])
@pytest.mark.parametrize("record", [b"\n", b"none\n", b"on\ne\n", b"one\n", b"a\none of two\n", b"0\n", b"tw0\n"])
def test_a_record_may_match_if_one_of_its_lines_has_a_hit(backend: Name, patterns: list[str], record: bytes) -> None:
    """With rules for which there is a text to look for, and with others, records and lines are told alike."""
    screen = Screen.compile(rules(*patterns), backend=backend)
    for each in (screen, Screen.loads(screen.dumps())):
        assert each.may_match(record) == each.may_match(record) == bool(each.scan(record))


@pytest.mark.parametrize(
    ("patterns", "needs"),
    [
        ([], set()),
        (["^.*TERRIBLE ALARM"], {"TERRIBLE ALARM"}),
        (["one", "two.*x", "three+"], {"one", "two", "three"}),
        ([f"x{n:02d}" for n in range(17)], set()),
        (["(?i)one", "TWO", "NUMBER ONE"], {"one", "two"}),
        (["one", r"\d"], set()),
        (["one", "x*"], set()),
    ],
)
def test_a_screen_knows_what_few_rules_need(patterns: list[str], needs: set[str]) -> None:
    """Each record of ASCII in which one of few rules may match holds the text of one of them."""
    screen = Screen.compile(rules(*patterns))
    for each in (screen, Screen.loads(screen.dumps())):
        assert set(each.needs.texts) == needs


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rules_make_an_empty_screen(backend: Name) -> None:
    """Without rules nothing may match."""
    screen = Screen.loads(Screen.compile([], backend=backend).dumps())
    assert screen.scan(b"a\n") == []
    assert not screen.may_match(b"a")
    assert screen.candidates(b"a") == ()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_backend_refuses_is_judged_on_every_line(backend: Name) -> None:
    """A pattern that no automaton is made for costs its own speed, not its matches nor the other rules' speed."""
    hard = r"(?:x|a$)b?[^c]", "(?:[a-p]{100}[^a]{100}){9}", r"(?:a$|b)\n", "d(?:ef{30}){40}g"
    compiled = rules("fine", *hard, "good")
    screen = Screen.compile(compiled, backend=backend)
    data = b"fine\nb\n" + b"abcdefghij" * 300 + b"\nd" + (b"e" + b"f" * 30) * 40 + b"g\ngood\n"
    found = [rule for *_, rule in matches(screen, compiled, data)]
    assert (found[:2], found[-2:]) == ([(0,), (3,)], [(4,), (5,)])


# Handed to another process


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_screen_goes_to_another_process_as_bytes(backend: Name) -> None:
    """`loads` gives the screen that `dumps` took: the same hits, on the same backend."""
    screen = Screen.compile(rules("a(?!b)", r"\d$", "x*"), backend=backend)
    again = Screen.loads(screen.dumps())
    data = b"a1\nab\n\n7\n"
    assert again.backend == backend
    assert again.scan(data) == screen.scan(data)
    assert again.judges_every_line == screen.judges_every_line


def test_a_database_of_another_hyperscan_is_compiled_anew() -> None:
    """A database that does not fit here is made again from the patterns that came with it."""
    saved = msgspec.msgpack.decode(Screen.compile(rules("ab"), backend="hyperscan").dumps())
    saved[-1] = b"no database"
    screen = Screen.loads(msgspec.msgpack.encode(saved))
    assert screen.backend == "hyperscan"
    assert screen.scan(b"ab\n") == [Hit(0, b"ab\n", (0,), (0,))]


@pytest.mark.parametrize("saved", [b"", b"no screen", msgspec.msgpack.encode([99, "re2", [], [], [], b""])])
def test_bytes_that_are_no_screen_are_refused(saved: bytes) -> None:
    """Garbage, and a screen of another version, raise `ValueError`."""
    with pytest.raises(ValueError, match="screen"):
        Screen.loads(saved)


def test_without_the_optional_packages_the_screen_still_works() -> None:
    """Where neither Hyperscan nor RE2 is installed, a screen is made, loaded and used all the same."""
    program = """
import sys
sys.modules["hyperscan"] = sys.modules["re2"] = None
from alarm_mw.engine.rules import compile_rule
from alarm_mw.patterns.screen import Screen
from alarm_mw.model.types import Rule
saved = Screen.loads(sys.stdin.buffer.read())
made = Screen.compile([compile_rule(Rule("ab", ("alarm",)))])
assert made.backend == saved.backend == "regex"
print([hit.rules for hit in made.scan(b"ab\\n") + saved.scan(b"ab\\n")])
"""
    for backend in BACKENDS:
        screen = Screen.compile(rules("ab"), backend=backend)
        done = subprocess.run([sys.executable, "-c", program], input=screen.dumps(), capture_output=True, check=True)
        assert done.stdout == b"[(0,), (0,)]\n"


def test_the_best_backend_that_is_installed_is_taken() -> None:
    """Without being told, a screen runs on the first backend whose package is there, and needs none of them."""

    def missing(_expressions: object) -> Finder:
        raise ImportError

    assert _best([], (missing, Re2Finder)).name == "re2"
    assert _best([], (missing, missing)).name == "regex"


def test_asking_for_a_missing_backend_says_so() -> None:
    """A backend that was asked for by name and is not installed raises `ImportError`."""
    program = """
import sys
sys.modules["re2"] = None
from alarm_mw.patterns.screen import Screen
try:
    Screen.compile([], backend="re2")
except ImportError:
    print("missing")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"missing\n"


# Threads, forks, signals


def hyperscan_screen(*patterns: str) -> tuple[Screen, HyperscanFinder]:
    expressions = [rule.expression for rule in rules(*patterns)]
    finder = HyperscanFinder.compile(expressions)
    return Screen(expressions, finder, [(None, None)]), finder


def while_scanning(database: hyperscan_finder._Database | None, act: Callable[[], object]) -> None:
    """Act in the middle of a scan that this thread makes."""

    def note(*_find: object) -> bool:
        act()
        return False

    assert database
    assert database.scan(b"ERROR\n", note)


def test_threads_scan_at_the_same_time() -> None:
    """Any number of threads may use one screen."""
    screen = Screen.compile(rules("ERROR"))
    data = b"fine\nERROR\n" * 2000
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(screen.scan(data)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2000] * 8


# From Python 3.12 on it warns of such a fork: rightly, and so this is tried.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_can_screen_whatever_the_parent_was_doing() -> None:
    """A fork in the middle of another thread's scan leaves nothing in use in the child."""
    screen = Screen.compile(rules("ERROR"))
    data = b"fine\n" * 200_000
    stop = threading.Event()

    def scan() -> None:
        while not stop.is_set():
            screen.scan(data)

    thread = threading.Thread(target=scan)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if not child:
                fine = screen.scan(b"ERROR\n") == [Hit(0, b"ERROR\n", (0,), (0,))] and not screen.may_match(b"fine")
                os._exit(0 if fine else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_a_fork_in_the_middle_of_a_scan_leaves_the_child_able_to_scan() -> None:
    """A child forked by a thread that is scanning screens as well as its parent."""
    screen, finder = hyperscan_screen("ERROR")
    statuses: list[int] = []

    def fork() -> None:
        child = os.fork()
        if not child:
            os._exit(0 if not screen.may_match(b"fine") else 1)
        statuses.append(os.waitpid(child, 0)[1])

    while_scanning(finder._database, fork)
    assert statuses == [0]


def test_after_a_fork_no_scratch_is_in_use() -> None:
    """What runs in a forked child gives each thread a scratch of its own, whatever the parent's were used for."""
    _, finder = hyperscan_screen("ERROR")
    answers: list[object] = []

    def look() -> None:
        answers.append(finder.find(b"fine"))
        hyperscan_finder._after_fork()
        answers.append(finder.find(b"fine"))

    while_scanning(finder._database, look)
    assert answers == [None, []]


def test_a_scan_within_a_scan_finds_what_there_is() -> None:
    """A signal handler that logs while its own thread scans is not told that nothing matches."""
    screen, finder = hyperscan_screen("ERROR")
    answers: list[object] = []

    def handle(*_arguments: object) -> None:
        answers.extend([finder.find(b"ERROR\n"), screen.scan(b"ERROR\n"), screen.may_match(b"ERROR\n")])

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        while_scanning(finder._database, lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == [None, [Hit(0, b"ERROR\n", (0,), (0,))], True]


def test_a_line_within_a_line_goes_to_every_rule() -> None:
    """Where lines are screened one by one, a scan within another leaves each rule to its own verdict."""
    screen, finder = hyperscan_screen("ERROR", "x*")
    assert screen.candidates(b"ERROR" * 100) == (0, 1)
    answers: list[object] = []

    def act() -> None:
        answers.extend([screen.scan(b"fine\n"), screen.candidates(b"fine")])

    while_scanning(finder._database, lambda: while_scanning(finder._once, act))
    assert answers == [[Hit(0, b"fine\n", (0, 1))], (0, 1)]


@pytest.mark.parametrize(
    "line", [b"ab\n", b"a" + b"b" * 100 + b"\n", b"ab" * 5000 + b"\n"], ids=["short", "long", "longest"]
)
@pytest.mark.parametrize("lines", [1, 100, 2000])
def test_lines_with_any_number_of_finds_are_hits(line: bytes, lines: int) -> None:
    """However often its rules are found in a line, and however many such lines there are, each of them is one hit."""
    screen = Screen.compile(rules("a.*b", "b", "nothing"))
    data = b"fine\n" + line * lines
    assert screen.scan(data) == [Hit(5 + n * len(line), line, (0, 1), (0, 1)) for n in range(lines)]
    assert screen.candidates(line) == (0, 1)


class Deaf:
    """A Hyperscan, module and database in one, that finds nothing."""

    HS_MODE_BLOCK, HS_FLAG_MULTILINE = 1, 4

    def Database(self, mode: int) -> Deaf:
        return self

    def compile(self, **patterns: object) -> None:
        pass

    def scan(self, *arguments: object) -> None:
        pass

    def info(self) -> bytes:
        return b"Version: 5.4.12"


def test_a_hyperscan_that_misses_matches_is_found_out() -> None:
    """A build of Hyperscan is tried before it is trusted, and named when it does not find what it should."""
    with pytest.raises(ImportError, match=r"misses matches \(Version: 5\.4\.12\)"):
        hyperscan_finder._try(Deaf())


def test_a_hyperscan_that_misses_matches_is_not_used() -> None:
    """A build of Hyperscan that does not find what it should is as good as none."""
    program = """
import sys, types
class Database:
    def __init__(self, mode): pass
    def compile(self, **patterns): pass
    def scan(self, *arguments): pass
    def info(self): return b"Version: 5.4.12"
sys.modules["hyperscan"] = types.SimpleNamespace(Database=Database, HS_MODE_BLOCK=1, HS_FLAG_MULTILINE=4)
from alarm_mw.patterns.screen import Screen
assert Screen.compile([]).backend != "hyperscan"
try:
    Screen.compile([], backend="hyperscan")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout == "this Hyperscan misses matches (Version: 5.4.12)\n"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], [False, False, False]),
        ([{}], [True, True, True]),
        ([{"level": 40}], [False, True, False]),
        ([{"logger": "app"}, {"level": 40, "logger": "db"}], [True, True, False]),
        ([{"logger": "application"}, {}], [True, True, True]),
    ],
)
def test_a_screen_knows_what_its_rules_ask_for(conditions: list[dict[str, Any]], expected: list[bool]) -> None:
    """By level and logger alone it tells that no rule applies, here and where it is loaded."""
    compiled = [compile_rule(Rule("x", ("a",), **condition)) for condition in conditions]
    screen = Screen.compile(compiled)
    for each in (screen, Screen.loads(screen.dumps())):
        assert [each.may_concern(20, "app.x"), each.may_concern(40, "app"), each.may_concern(None, "appx")] == expected


@pytest.mark.parametrize("checks", [["-X", "dev"], []])
def test_a_screen_is_saved_under_pythons_debugging_allocators(checks: list[str]) -> None:
    """What checks each free in Python finds nothing wrong, and the screen that is loaded finds the same."""
    program = (
        "from alarm_mw.engine.rules import compile_rule\n"
        "from alarm_mw.patterns.screen import Screen\n"
        "from alarm_mw.model.types import Rule\n"
        "screen = Screen.compile([compile_rule(Rule('a.*b', ('x',)))])\n"
        "for each in (screen, Screen.loads(screen.dumps())):\n"
        "    print(each.backend, each.scan(b'no\\na-b\\n'))\n"
    )
    environ = {**os.environ, **({} if checks else {"PYTHONMALLOC": "debug"})}
    command = [sys.executable, *checks, "-c", program]
    done = subprocess.run(command, capture_output=True, check=False, text=True, env=environ, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == second
    assert "Hit(start=3, line=b'a-b\\n'" in first


def test_a_screen_without_its_database_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database cannot be taken out, whoever loads the screen compiles it, and never finds nothing."""
    screen = Screen.compile(rules("ab"), backend="hyperscan")
    monkeypatch.setenv("PYTHONMALLOC", "pymalloc_debug")
    saved = screen.dumps()
    assert len(saved) < 1000
    assert Screen.loads(saved).scan(b"no\nxab\n") == screen.scan(b"no\nxab\n") != []
