"""The same lines give the same alarms and the same output, whichever way they are looked for and passed on."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import pytest
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.streams.lines import Chunk
from alarm_mw.master.streams.reader import StreamReader
from alarm_mw.model.types import Record, Rule
from alarm_mw.patterns.literal_finder import MakeFinder, PlainFinder, literal_finder
from alarm_mw.patterns.prefilter import Prefilter

PATTERNS = ["ALARM", "^..$", "(?i)straße", "^b.*x$", r"\bé\w", r"(\d)\1", "(?<!a)c", "x*", "[^a]$"]
RULES = [compile_rule(Rule(pattern, (f"a{n}",))) for n, pattern in enumerate(PATTERNS)]
FINDERS: list[MakeFinder] = [literal_finder, PlainFinder]

PARTS = [
    b"ALARM",
    b"b",
    b"x",
    "éa".encode(),
    b"11",
    b"12",
    b"ac",
    b"c",
    "é".encode(),
    b"\xff",
    b"\r",
    b"\0",
]
#: So many of the rules: the last two have every line judged.
SOME = (1, 2, 7, 9)

#: A stream's source and its writer's end, its sink, and what reads what came out.
Ends = tuple[int, int, int, Callable[[], bytes]]
Way = Callable[[], AbstractContextManager[Ends]]

LINES = st.lists(st.one_of(st.sampled_from(PARTS), st.lists(st.sampled_from(PARTS)).map(b" ".join)))


@cache
def engine_of(finder: MakeFinder, rules: int) -> Engine:
    """Return an engine of so many of the rules."""
    compiled = RULES[:rules]
    alarms = [f"a{n}" for n in range(rules)]
    return Engine(compiled, Prefilter(compiled, finder), alarms, alarm_freq=0.0, alarm_msg_size=8192)


@contextmanager
def pipe_to_pipe() -> Iterator[Ends]:
    """Where the bytes are moved inside the kernel."""
    (source, write), (read, sink) = os.pipe(), os.pipe()
    yield source, write, sink, lambda: os.read(read, 1 << 20)
    for descriptor in (source, read, sink):
        os.close(descriptor)


@contextmanager
def pipe_to_append() -> Iterator[Ends]:
    """Where they are written from the copy, and taken off the pipe afterwards."""
    source, write = os.pipe()
    with tempfile.TemporaryFile("ab+") as log:
        yield source, write, log.fileno(), lambda: (log.seek(0), log.read())[1]
    os.close(source)


@contextmanager
def socket_to_pipe() -> Iterator[Ends]:
    """Where they are read and written."""
    (source, write), (read, sink) = socket.socketpair(), os.pipe()
    yield source.fileno(), write.detach(), sink, lambda: os.read(read, 1 << 20)
    source.close()
    for descriptor in (read, sink):
        os.close(descriptor)


WAYS: list[Way] = [pipe_to_pipe, pipe_to_append, socket_to_pipe]


def passed(engine: Engine, way: Way, data: bytes) -> tuple[dict[int, tuple[str, ...]], bytes]:
    """Return the alarms of each line that has some, by its place, and what came out."""
    found: dict[int, tuple[str, ...]] = {}

    def judge(chunk: Chunk) -> None:
        for hit in chunk.hits:
            verdict = engine.evaluate(Record(hit.line, "stdout", 0.0, ""), 0.0, hit.rules, hit.certain)
            if verdict.matched:
                found[hit.start] = verdict.matched

    with way() as (source, write, sink, output):
        os.write(write, data)
        os.close(write)
        StreamReader("stdout", source, sink, prefilter=engine.prefilter, hand_over=judge).run()
        return found, output() if data else b""


def expected(data: bytes, rules: int) -> dict[int, tuple[str, ...]]:
    """Return what the regexps themselves say of each line."""
    found, at = {}, 0
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        if matched := tuple(f"a{n}" for n, rule in enumerate(RULES[:rules]) if rule.search(line)):
            found[at] = matched
        at += len(line)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("finder", FINDERS)
@settings(max_examples=examples(25))
@given(texts=LINES, times=st.sampled_from([1, 60]))
def test_every_way_gives_what_the_regexps_say(finder: MakeFinder, way: Way, texts: list[bytes], times: int) -> None:
    """What raises an alarm depends on the lines and the rules only, and the output is the application's."""
    data = (b"".join(text + b"\n" for text in texts) * times)[:60_000]
    for rules in SOME:
        assert passed(engine_of(finder, rules), way, data) == (expected(data, rules), data)


@pytest.mark.parametrize("finder", FINDERS)
@settings(max_examples=examples(100))
@given(message=LINES.map(b"\n".join), rules=st.sampled_from(SOME))
def test_a_prefilter_in_the_application_changes_nothing(finder: MakeFinder, message: bytes, rules: int) -> None:
    """What a prefilter keeps off the queue would have raised nothing; and all finders judge a record alike."""
    engine = engine_of(finder, rules)
    matched = engine.evaluate(Record(message, "logging", 0.0, ""), 0.0).matched
    assert (
        matched
        == engine_of(PlainFinder, rules).evaluate(Record(message, "logging", 0.0, ""), 0.0, range(rules)).matched
    )
    assert engine.prefilter.records.may_match(message.decode("utf-8", "surrogateescape")) or not matched
