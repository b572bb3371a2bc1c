"""Tests of how tracebacks are found among the lines of a stream."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.tracebacks import (
    BEGINNINGS,
    MOST_LEARNED,
    MOST_NOTES,
    MOST_OPEN,
    Block,
    Kind,
    Line,
    Tracebacks,
    kind_of,
)

CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"


def lines_of(texts: Iterable[str], start: int = 0) -> list[Line]:
    lines = []
    for text in texts:
        for data in text.encode().splitlines(keepends=True):
            lines.append(Line.printed(start, data))
            start += len(data)
    return lines


def found(texts: Iterable[str], wanted: str = "WANTED", max_lines: int = 1000) -> tuple[list[str], list[str]]:
    """Return the tracebacks among printed texts, and the other lines."""
    tracebacks = Tracebacks(max_lines, 0.2)
    lines = lines_of(texts)
    others = [
        line.text.decode() for line in lines if not tracebacks.take(line, 0.0, is_wanted=wanted.encode() in line.text)
    ]
    return [block.text.decode() for block in tracebacks.rest()], others


def traceback(name: str, message: str, functions: Sequence[str] = ("run", "charge")) -> str:
    """Return what Python prints for an exception in these functions, each of which calls the next."""
    calls = [*(f"{function}(order)" for function in functions[1:]), f"raise {name}(order)"]
    frames = "".join(
        f'  File "/app/shop.py", line {len(function) * 7}, in {function}\n    {call}\n'
        for function, call in zip(functions, calls, strict=True)
    )
    return f"Traceback (most recent call last):\n{frames}{name}: {message}\n"


def chained(one: str, other: str, words: str = CAUSE) -> str:
    return f"{one}\n{words}\n\n{other}"


SHOP = chained(traceback("KeyError", "'order 42'"), traceback("PaymentError", "order 42", ("handle", "run")))
LINE = "2026-11-29 INFO GET /cart 200\n"

PROGRAM = """
import sys, traceback
def noted():
    error = ValueError("two\\n  lines")
    error.add_note("a note")
    raise error
def chain():
    try:
        noted()
    except ValueError as error:
        try:
            raise KeyError("k") from error
        except KeyError:
            raise RuntimeError("in the end")
def group():
    raise ExceptionGroup("many", [ValueError(1), ExceptionGroup("inner", [TypeError("t"), OSError("o")])])
def deep():
    deep()
def syntax():
    compile("def (", "shop.py", "exec")
try:
    globals()[sys.argv[1]]()
except BaseException:
    traceback.print_exc()
"""


@pytest.mark.parametrize("what", ["noted", "chain", "group", "deep", "syntax"])
def test_what_python_prints_is_whole(what: str) -> None:
    """Whatever a traceback consists of, it is found as it was printed, and nothing else is."""
    run = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True)
    assert found([LINE, run.stderr, LINE]) == ([run.stderr], [LINE, LINE])


def test_syntax_error_of_the_program_itself_is_whole() -> None:
    """Python prints no header for a program that it cannot compile; it is found all the same."""
    run = subprocess.run([sys.executable, "-c", "def ("], capture_output=True, text=True, check=False)
    assert found([run.stderr, LINE]) == ([run.stderr], [LINE])


@pytest.mark.parametrize("words", [CAUSE, CONTEXT])
def test_chain_is_one(words: str) -> None:
    """The exceptions of a chain are one traceback, whichever way they are chained."""
    printed = chained(traceback("KeyError", "1"), traceback("ValueError", "2"), words)
    assert found([LINE, printed, LINE]) == ([printed], [LINE, LINE])


def test_thread_name_belongs_to_it() -> None:
    """What Python prints above the header is a part of the traceback."""
    printed = "Exception in thread Thread-1 (work):\n" + traceback("KeyError", "1")
    assert found([LINE, printed, LINE]) == ([printed], [LINE, LINE])


def test_colors_are_removed() -> None:
    """A rule finds in a colored traceback, as Python 3.13 prints it, what it finds in a plain one."""
    plain = traceback("KeyError", "1").removesuffix("KeyError: 1\n")
    colored = (
        plain.replace("/app/shop.py", "\x1b[35m/app/shop.py\x1b[0m") + "\x1b[1;35mKeyError\x1b[0m: \x1b[35m1\x1b[0m\n"
    )
    assert found([colored, LINE]) == ([traceback("KeyError", "1")], [LINE])


def test_header_behind_an_unfinished_line() -> None:
    """A traceback is found where another thread had written a line without its newline."""
    printed = traceback("KeyError", "1")
    assert found(["request 7 took 3 ms" + printed, "\n"])[0] == [printed]


def test_notes_are_part_of_it() -> None:
    """Lines directly below the exception are its notes or its message's lines."""
    printed = traceback("KeyError", "1") + "the note of somebody\nNote: two\n"
    assert found([printed, LINE]) == ([printed], [LINE])


def test_line_of_a_rule_is_no_note() -> None:
    """A line that some rule may match is an alarm of its own, though it stands below an exception."""
    printed = traceback("KeyError", "1")
    assert found([printed, "WANTED: pager\n"]) == ([printed], ["WANTED: pager\n"])


def test_many_lines_are_no_notes() -> None:
    """More lines than an exception has notes are other output."""
    printed = traceback("KeyError", "1")
    others = [f"{n} is a number\n" for n in range(MOST_NOTES + 1)]
    blocks, _ = found([printed, *others])
    assert blocks == [printed]


def test_lines_like_others_are_no_notes() -> None:
    """Lines that begin as lines do which came between tracebacks before are no notes, in hindsight too."""
    printed = traceback("KeyError", "1")
    head, _, tail = printed.partition("\n")
    blocks, others = found([head + "\n", "request 1\n", tail, "request 2\n"])
    assert (blocks, others) == ([printed], ["request 1\n", "request 2\n"])
    blocks, _ = found([printed, "request 1\n", LINE, "request 2\n"])
    assert blocks == [printed]


def test_indented_lines_of_a_message_are_part_of_it() -> None:
    """A message's lines that are indented belong to the exception."""
    printed = traceback("KeyError", "1") + "\tmore\n    and more\n"
    assert found([printed, LINE]) == ([printed], [LINE])


def test_level_is_no_exception() -> None:
    """A log line that begins with its level does not end a traceback."""
    head, _, last = traceback("KeyError", "1").rpartition("KeyError")
    assert found([head, "ERROR: something\n", "done\n", f"KeyError{last}"]) == (
        [traceback("KeyError", "1")],
        ["ERROR: something\n", "done\n"],
    )


def test_too_long_a_traceback_is_cut() -> None:
    """What is longer than `max_lines` comes in its first lines; the rest is other output."""
    blocks, _ = found([SHOP], max_lines=5)
    assert blocks[0] == "".join(SHOP.splitlines(keepends=True)[:5])


def test_too_many_tracebacks_end_the_oldest() -> None:
    """With more open tracebacks than are kept, the oldest is complete as it is."""
    tracebacks = Tracebacks(1000, 0.2)
    for line in lines_of([f"{BEGINNINGS[0].decode()}\n"] * (MOST_OPEN + 1)):
        assert tracebacks.take(line, 0.0)
    assert tracebacks.held == MOST_OPEN + 1
    assert tracebacks.next_due() == 0.0
    assert [block.start for block in tracebacks.due(0.0)] == [0]
    assert tracebacks.held == MOST_OPEN


def test_what_is_learned_is_bounded() -> None:
    """After more different frames, exceptions and other lines than are remembered, tracebacks are found as before."""
    tracebacks = Tracebacks(1000, 0.2)
    others = [f"w{n} is a word\n" for n in range(MOST_LEARNED + 1)]
    printed = [traceback("KeyError", str(n), ("run", f"f{n % 700}", f"g{n % 700}")) for n in range(MOST_LEARNED)]
    for texts in ([printed[0].splitlines(keepends=True)[0], *others], *([text] for text in printed), [SHOP]):
        for line in lines_of(texts):
            tracebacks.take(line, 0.0)
        found_last = tracebacks.rest()
    assert [block.text.decode() for block in found_last] == [SHOP]


def test_blank_line_between_notes_is_taken_back_with_them() -> None:
    """If lines below an exception turn out to be other output, the blank lines among them are too."""
    printed = traceback("KeyError", "1")
    assert found([printed, "request 1\n", "\n", "answer 2\n", LINE, "request 3\n"])[0] == [printed]


def test_wait_is_bounded() -> None:
    """A traceback is complete when no line has come for `max_wait` seconds."""
    tracebacks = Tracebacks(1000, 0.2)
    assert tracebacks.next_due() is None
    for line in lines_of([SHOP]):
        tracebacks.take(line, 1.0)
    assert tracebacks.due(1.1) == []
    assert tracebacks.next_due() == pytest.approx(1.2)
    assert [block.text.decode() for block in tracebacks.due(1.25)] == [SHOP]


def test_block_goes_on_in_another_process() -> None:
    """A block that is made of its lines again takes what the first one would have taken."""
    lines = lines_of([SHOP])
    for at in range(1, len(lines)):
        tracebacks = Tracebacks(1000, 0.2)
        tracebacks.resume(Block(lines[:at]))
        assert all(tracebacks.take(line, 0.0) for line in lines[at:])
        assert [block.text.decode() for block in tracebacks.rest()] == [SHOP]


# Several at once


def pieces(text: str) -> list[str]:
    """Return what Python writes at once: a frame with its source."""
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        if found and (line.startswith("    ") or not line.strip() or found[-1] == "\n"):
            found[-1] += line
        else:
            found.append(line)
    return found


FOREIGN = [f"request {n} took 3 ms\n" for n in range(20)]


@given(st.data())
def test_foreign_lines_are_never_inside(data: st.DataObject) -> None:
    """Other lines anywhere between those of one traceback neither come into it nor are they lost."""
    texts = SHOP.splitlines(keepends=True)
    mixed = list(texts)
    for line in data.draw(st.lists(st.sampled_from(FOREIGN), unique=True)):
        mixed.insert(data.draw(st.integers(1, len(mixed) - 1)), line)
    mixed.insert(1, "request of somebody\n")  # how other lines begin: else one might be a note
    blocks, others = found([LINE, *mixed, LINE])
    assert blocks == [SHOP]
    assert sorted(line for line in others if line.strip()) == sorted([LINE, LINE, *(set(mixed) - set(texts))])


@given(st.data(), st.integers(2, 5))
def test_same_tracebacks_of_several_writers_are_told_apart(data: st.DataObject, writers: int) -> None:
    """Threads that fail in the same place: each exception has its traceback, however their frames are mixed."""
    queues = [pieces(traceback("KeyError", f"'order {n}'")) for n in range(writers)]
    expected = sorted("".join(queue) for queue in queues)
    mixed = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        mixed.append(queue.pop(0))
    blocks, others = found(mixed)
    assert (sorted(blocks), others) == (expected, [])


@given(st.data())
def test_no_line_is_lost_or_doubled(data: st.DataObject) -> None:
    """However tracebacks are mixed, each line is in exactly one place, and blocks begin in the stream's order."""
    texts = [SHOP, traceback("OSError", "7", ("run", "send")), traceback("OSError", "8", ("other", "send"))]
    queues = [text.splitlines(keepends=True) for text in texts]
    mixed = []
    while any(queues):
        mixed.append(data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
    tracebacks = Tracebacks(1000, 0.2)
    lines = lines_of(mixed)
    others = [line for line in lines if not tracebacks.take(line, 0.0)]
    blocks = tracebacks.rest()
    assert sorted([*others, *(line for block in blocks for line in block.lines)]) == lines
    assert [block.start for block in blocks] == sorted(block.start for block in blocks)
    assert sum(block.held for block in blocks) >= len(blocks)


def test_calls_tell_frames_apart() -> None:
    """A frame belongs to the traceback whose last source text calls its function."""
    one, other = traceback("KeyError", "1", ("run", "charge")), traceback("OSError", "2", ("load", "fetch"))
    (a, *more), (b, *others) = pieces(one), pieces(other)
    mixed = [a, more[0], b, others[0], more[1], others[1], others[2], more[2]]
    assert sorted(found(mixed)[0]) == sorted([one, other])


def test_what_was_printed_before_tells_apart() -> None:
    """Frames that nothing else tells apart go where the same frames have gone before."""
    one = traceback("KeyError", "1", ("run", "charge")).replace("charge(order)", "self.step()")
    other = traceback("OSError", "2", ("load", "fetch")).replace("fetch(order)", "self.step()")
    a, b = pieces(one), pieces(other)
    mixed = [a[0], a[1], b[0], b[1], b[2], a[2], b[3], a[3]]
    tracebacks = Tracebacks(1000, 0.2)
    for text in (one, other):
        for line in lines_of([text]):
            tracebacks.take(line, 0.0)
        tracebacks.rest()
    for line in lines_of(mixed):
        tracebacks.take(line, 0.0)
    assert sorted(block.text.decode() for block in tracebacks.rest()) == sorted([one, other])


def test_words_of_messages_tell_chains_apart() -> None:
    """The exceptions of two chains that failed in the same places find each other by what their messages name."""
    printed = [
        chained(traceback("KeyError", f"'order {n}'"), traceback("PaymentError", f"order {n}", ("handle", "run")))
        for n in (1, 2)
    ]
    a, b = ([*pieces(one)] for one in printed)
    end = next(n for n, text in enumerate(a) if CAUSE in text)
    # The second exception of the first chain is overtaken by that of the second one.
    mixed = [*a[:end], *b[:end], *b[end:-1], *a[end:-2], b[-1], *a[-2:]]
    assert sorted(found(mixed)[0]) == sorted(printed)


def test_what_cannot_be_told_apart_is_one() -> None:
    """Tracebacks whose lines may belong to either become one block, in the stream's order: nothing is made up."""
    one = traceback("KeyError", "1", ("run", "charge")).replace("charge(order)", "self.step()")
    other = traceback("KeyError", "2", ("load", "charge")).replace("charge(order)", "self.step()")
    a, b = pieces(one), pieces(other)
    mixed = [a[0], a[1], b[0], b[1], b[2], a[2], *pieces(chained(b[3], traceback("OSError", "3"))), a[3]]
    blocks, _ = found(mixed)
    assert blocks == ["".join(mixed)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("socket.timeout: timed out", Kind.FINAL),
        ("KeyboardInterrupt", Kind.FINAL),
        ("timeout: too slow", Kind.OTHER),
        ("E: no package", Kind.OTHER),
        ("payment failed", Kind.OTHER),
        ("  [Previous line repeated 9 more times]", Kind.REPEATED),
        ("  more", Kind.INDENTED),
        ("    ~~~~^^^", Kind.MARKS),
        ("  | ValueError: 1", Kind.GROUP),
        ("", Kind.BLANK),
    ],
)
def test_kinds(text: str, kind: Kind) -> None:
    """A line is known for what it is by itself."""
    assert kind_of(text.encode() + b"\n") is kind
