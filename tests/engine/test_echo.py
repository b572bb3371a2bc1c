"""Records that are seen twice: through a handler and in what was printed."""

from __future__ import annotations

import pytest

from alarm_mw.engine.echo import CALLS_CAPACITY, CAPACITY, WINDOW, EchoGuard, borne_out
from alarm_mw.model.types import Record


def record(*echoes: bytes, loose: tuple[bytes, ...] = ()) -> Record:
    return Record(b"boom", source="logging", time=1000.0, key="k", echoes=echoes, loose_echo=loose)


def printed(line: bytes) -> Record:
    return Record(line + b"\n", source="stdout", time=1000.0, key="k")


def test_a_record_logged_twice_excuses_two_prints() -> None:
    """Each of several equal records has a printed line of its own; one print more is no echo."""
    guard = EchoGuard()
    for _ in range(2):
        assert not guard.is_echo("a", record(b"boom"), 0.0)
    assert [guard.is_echo("a", printed(b"boom"), 0.0) for _ in range(3)] == [True, True, False]


def test_what_is_remembered_has_an_end() -> None:
    """A flood of records makes the guard forget the oldest of them, which then fires twice, and none of the others."""
    guard = EchoGuard()
    guard.is_echo("a", record(*(b"%d" % n for n in range(CAPACITY + 1))), 0.0)
    assert not guard.is_echo("a", printed(b"0"), 0.0)
    assert guard.is_echo("a", printed(b"%d" % CAPACITY), 0.0)


def test_events_are_told_apart_by_their_texts() -> None:
    """Each event excuses the line that holds its own text, in whatever order they are printed, before or after."""
    guard = EchoGuard()
    events = [record(loose=(b"order %d failed" % n,)) for n in range(2)]
    lines = [printed(b'{"event": "order %d failed"}' % n) for n in range(3)]
    assert not any(guard.is_echo("a", event, 0.0) for event in events)
    assert [guard.is_echo("a", line, 0.0) for line in reversed(lines)] == [False, True, True]
    assert not any(guard.is_echo("b", line, 0.0) for line in lines)
    assert [guard.is_echo("b", event, 0.0) for event in reversed(events)] == [True, True]


def of_call(call: str, key: str) -> Record:
    return Record(b"boom", source="logging", time=1000.0, key=key, call=call)


def test_of_the_records_of_one_call_the_first_one_fires() -> None:
    """Another record of a call that concerned the alarm is an echo for a while; the same one, seen again, is none."""
    guard = EchoGuard()
    assert not guard.is_echo("a", of_call("c", "k1"), 0.0)
    assert guard.is_echo("a", of_call("c", "k2"), 0.0)
    assert not guard.is_echo("a", of_call("c", "k1"), 0.0)
    assert not guard.is_echo("b", of_call("c", "k2"), 0.0)
    assert not guard.is_echo("a", of_call("c", "k2"), WINDOW)


def test_a_flood_of_calls_makes_the_oldest_forgotten() -> None:
    """What is remembered of calls has an end, beyond which an alarm comes twice."""
    guard = EchoGuard()
    for n in range(CALLS_CAPACITY):
        guard.is_echo("a", of_call(f"{n}", "k1"), 0.0)
    assert guard.is_echo("a", of_call("0", "k2"), 0.0)
    guard.is_echo("a", of_call(f"{CALLS_CAPACITY}", "k1"), 0.0)
    assert not guard.is_echo("a", of_call("0", "k2"), 0.0)
    assert guard.is_echo("a", of_call(f"{CALLS_CAPACITY}", "k2"), 0.0)


def test_what_is_too_old_takes_no_room() -> None:
    """Whatever came long ago is not gone over with each firing: it is forgotten when something new comes."""
    guard = EchoGuard()
    for n in range(10):
        guard.is_echo("a", printed(b"%d" % n), n * WINDOW)
        guard.is_echo("a", of_call(f"{n}", "k"), n * WINDOW)
        guard.is_echo("a", record(b"said %d" % n, loose=(b"event number %d" % n,)), n * WINDOW)
    kept = guard.dump()
    assert (len(kept.printed), len(kept.announced), len(kept.loose)) == (1, 1, 1)
    assert kept.recent == (("a", b"9", 9 * WINDOW),)
    assert kept.calls == (("a", "9", "k", 9 * WINDOW),)


@pytest.mark.parametrize(
    ("message", "line", "is_kept"),
    [
        (b"lost eu-2\n", b"12:00 ERROR lost eu-2", True),
        (b'say "no"\n', b'{"event": "say \\"no\\""}', True),
        (b"12:00 ERROR lost\nTraceback:\n  here\n", b"  here", True),
        (b"\n", b"anything", False),
        (b"", b"anything", False),
        (b"lost\n", b"", False),
        (b"lost\n", b"12:00 ERROR the house burns", False),
    ],
)
def test_an_announcement_must_be_borne_out_by_its_record(message: bytes, line: bytes, is_kept: bool) -> None:
    """A line that says something else, of another process, is not held back by a process that is not trusted."""
    record = borne_out(Record(message, "logging", 1.0, "k", echoes=(line,)))
    assert record.echoes == ((line,) if is_kept else ())


@pytest.mark.parametrize(("parts", "is_kept"), [((b"lost", b"eu-2"), True), ((b"the", b"house"), False)])
def test_a_loose_announcement_must_be_borne_out_by_its_record(parts: tuple[bytes, ...], is_kept: bool) -> None:
    """All its parts are in the record's message."""
    record = borne_out(Record(b"lost db='eu-2'\n", "structlog", 1.0, "k", loose_echo=parts))
    assert record.loose_echo == (parts if is_kept else ())


@pytest.mark.parametrize("is_printed_first", [True, False])
def test_traceback_is_the_echo_of_its_record(is_printed_first: bool) -> None:
    """A printed traceback and the record that announced its lines are one, whichever comes first."""
    lines = (b"payment failed", b"Traceback (most recent call last):", b'  File "a.py", line 3', b"KeyError: 42")
    printed = Record(b"\n".join(lines[1:]) + b"\n", "stderr", 0.0, "1")
    logged = Record(b"payment failed", "logging", 0.0, "2", echoes=lines)
    first, second = (printed, logged) if is_printed_first else (logged, printed)
    guard = EchoGuard()
    assert not guard.is_echo("a", first, 0.0)
    assert guard.is_echo("a", second, 0.1)


def test_record_without_a_line_at_the_margin() -> None:
    """Of indented lines the first one tells which record it is."""
    guard = EchoGuard()
    assert not guard.is_echo("a", Record(b"  one\n  two\n", "stdout", 0.0, "1"), 0.0)
    assert guard.is_echo("a", Record(b"x", "logging", 0.0, "2", echoes=(b"  one", b"  two")), 0.1)
