"""The evaluator: floods are evaluated together, with the same verdicts as line by line."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.worker import evaluator
from alarm_mw.master.worker.batch import Batch, Item, Lines
from alarm_mw.master.worker.evaluator import Evaluated, Evaluator
from alarm_mw.model.types import Reason, Record, Rule, Verdict
from alarm_mw.patterns.prefilter import Hit, Prefilter
from alarm_mw.transports.own_requests import OwnRequests

RULES = (
    Rule("skip", (), excludes=True),
    Rule("ERR", ("a",)),
    Rule("BAD", ("a", "b")),
    Rule(r"^UGLY (?!but)\w+$", ("b",)),
    Rule(r"^endless (?=(a|aa)+$)a", ("a",)),
)


class Stage:
    """An evaluator that counts the records which are made for it."""

    def __init__(self, alarm_freq: float = 0.0) -> None:
        rules = [compile_rule(rule) for rule in RULES]
        self.prefilter = Prefilter(rules)
        limits = {"a": Limits(rate="1/1h"), "b": Limits(rate="2/1h")}
        self.engine = Engine(
            rules, self.prefilter, ["a", "b"], alarm_freq=alarm_freq, alarm_msg_size=8192, limits=limits
        )
        self.evaluator = Evaluator(self.engine)
        self.made = 0

    def lines(self, *texts: bytes) -> Batch:
        data = b"".join(texts)
        return Batch(lines=Lines("stdout", self.prefilter.scan(data), self._record))

    def _record(self, hit: Hit) -> Record:
        self.made += 1
        return Record(hit.line, "stdout", 1000.0, f"k{hit.start}")

    def see(self, *texts: bytes, each: bool = False) -> list[Evaluated]:
        return list(self.evaluator.evaluate(self.lines(*texts), 0.0, each=each))


def counts(found: list[Evaluated]) -> tuple[Counter[tuple[str, Reason]], Counter[Reason | None], list[str]]:
    """Return what a ledger would make of it."""
    held = Counter[tuple[str, Reason]]()
    skipped = Counter[Reason | None]()
    for _, verdict, n in found:
        skipped[verdict.skipped] += n
        for each in verdict.held:
            held[each.alarm, each.reason] += n
    return held, skipped, [firing.id for _, verdict, _ in found for firing in verdict.firings]


FLOOD = [
    *(b"ERR %d\n" % n for n in range(100)),
    *(b"BAD %d\n" % n for n in range(50)),
    b"[uwsgi-alarm] ERR\n",
    *(b"skip BAD\n" if n % 2 else b"ERR and BAD %d\n" % n for n in range(100)),
    *[b"BAD again\n"] * 20,
    *("UGLY schön\n".encode(), b"UGLY\n", b"UGLY but fine\n") * 10,
    "ERR schön\n".encode() * 3,
    b"endless " + b"a" * 100 + b"!\n",
]


@pytest.mark.parametrize("alarm_freq", [0.0, 3.0])
def test_a_flood_is_judged_as_its_lines_are(alarm_freq: float) -> None:
    """Whether lines are looked at one by one or at once, the same fires, and the same is counted."""
    quick, slow = Stage(alarm_freq), Stage(alarm_freq)
    assert counts(quick.see(*FLOOD)) == counts(slow.see(*FLOOD, each=True))
    assert quick.engine.memory.held_back.alarms == slow.engine.memory.held_back.alarms
    assert quick.made < slow.made / 10


@pytest.fixture
def expected(monkeypatch: pytest.MonkeyPatch) -> OwnRequests:
    """Expect the line of one request that an alarm has made."""
    requests = OwnRequests()
    requests.add("POST", "/hook")
    monkeypatch.setattr(evaluator, "own_requests", requests)
    return requests


@pytest.mark.usefixtures("expected")
def test_the_access_line_of_an_own_request_is_found_in_a_flood() -> None:
    """A line about a request that an alarm has made raises none, however many lines there are around it."""
    stage = Stage()
    held, skipped, fired = counts(stage.see(*[b"ERR\n"] * 50, b'"POST /hook HTTP/1.1" ERR\n', *[b"ERR\n"] * 50))
    assert skipped == {None: 100, Reason.ALARM_ORIGIN: 1}
    assert (held["a", Reason.RATE], len(fired)) == (99, 1)


def test_where_many_own_requests_are_expected_each_line_is_looked_at(expected: OwnRequests) -> None:
    """A flood of alarms that make requests of this machine is evaluated line by line, and correctly."""
    for n in range(10):
        expected.add("GET", f"/{n}")
    stage = Stage()
    stage.see(*[b"ERR\n"] * 50)
    assert stage.made == 50


class Refused:
    """An engine whose machine refuses it something."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def evaluate(self, *_: object) -> Verdict:
        raise self.error


@pytest.mark.parametrize(
    ("error", "is_replaceable", "is_left"),
    [(OSError(24, "Too many open files"), True, True), (OSError(), False, False), (ValueError(), True, False)],
)
def test_what_the_machine_refuses_is_left_to_the_next_master(
    error: Exception, *, is_replaceable: bool, is_left: bool
) -> None:
    """A record that only this process cannot evaluate stays for another one; one that none can is counted."""
    evaluator = Evaluator(cast("Engine", Refused(error)), is_replaceable=is_replaceable)
    batch = Batch([Item(Record(b"x", "logging", 1.0, "k"))])
    if is_left:
        with pytest.raises(OSError, match="Too many open files"):
            list(evaluator.evaluate(batch, 0.0, each=False))
    else:
        assert [found.verdict.skipped for found in evaluator.evaluate(batch, 0.0, each=False)] == [Reason.UNJUDGED]
