"""The worker thread, with a real engine and outbox."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest
from msgspec import structs
from waiting import LIMIT, wait_until

from alarm_mw import signals
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.engine import MAX_COST, Engine
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.flood_control.silences import Silence
from alarm_mw.engine.ledger import imbalances
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.worker.batch import Batch, Item, Lines
from alarm_mw.master.worker.worker import LONGEST, MemoryWriter, Worker, read_memory
from alarm_mw.model.types import Reason, Record, Report, Rule, Syntax
from alarm_mw.patterns.prefilter import Hit, Prefilter


def test_the_memory_is_written_with_what_the_outbox_takes(tmp_path: Path) -> None:
    """Who opens the outbox after a kill finds what the last master remembered."""
    outbox = Outbox(tmp_path / "outbox.db")
    memory = read_memory(outbox)
    memory.same_message.fired("a", b"x", 1.0)
    memory.is_changed = True
    outbox.take([], lambda _firing, _is_new: None, MemoryWriter(memory, is_durable=True).due())
    # Read while it is open: nothing was closed in an orderly way.
    second = Outbox(tmp_path / "outbox.db")
    assert read_memory(second).same_message.last == {"a": (b"x", 1.0)}
    second.close()
    outbox.close()


def test_a_memory_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A memory of another version keeps no master from starting."""
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.take([], lambda _firing, _is_new: None, b"of another version")
    assert read_memory(outbox).same_message.last == {}
    assert "is forgotten" in caplog.text
    outbox.close()


def test_an_unchanged_memory_is_not_written_again() -> None:
    """A quiet server's memory costs nothing, nor does one that nobody could read later."""
    memory = Memory()
    writer = MemoryWriter(memory, is_durable=True, clock=lambda: 0.0)
    assert writer.due() is None
    memory.is_changed = True
    assert MemoryWriter(memory, is_durable=False).due() is None
    assert writer.due() is not None
    assert writer.due() is None


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    """A disk that was full for a moment loses nothing of the memory."""
    memory = Memory()
    memory.is_changed = True
    writer = MemoryWriter(memory, is_durable=True, clock=lambda: 0.0)
    assert writer.due() is not None
    writer.failed()
    assert writer.due() is not None


def test_a_large_memory_is_written_less_often() -> None:
    """However much there is to remember, writing it takes a small share of the worker's time, but is never put off."""
    moments = iter([0.0, 0.5, 0.9, 1.6, 1.7])
    memory = Memory()
    writer = MemoryWriter(memory, is_durable=True, clock=lambda: next(moments))
    memory.is_changed = True
    assert writer.due() is not None  # from 0.0 to 0.5
    memory.is_changed = True
    assert writer.due() is None  # at 0.9
    assert LONGEST == 1.0
    assert writer.due() is not None  # at 1.6, more than that later


_numbers = itertools.count()


def item(message: bytes, alarm: str | None = None, key: str = "") -> Item:
    return Item(Record(message, "stdout", 1.0, key or f"k{next(_numbers)}"), alarm)


class Stage:
    """A worker with rules `ERR → a` and `skip → nothing`."""

    def __init__(self, path: Path | Literal[":memory:"], limits: Limits | None = None) -> None:
        rules = [
            compile_rule(Rule("skip", (), Syntax.PCRE, excludes=True)),
            compile_rule(Rule("ERR", ("a",), Syntax.PCRE)),
        ]
        self.path = Path(path)
        self.outbox = Outbox(path)
        self.woken: list[set[str]] = []
        self.engine = Engine(
            rules, Prefilter(rules), ["a"], alarm_freq=3.0, alarm_msg_size=8192, limits={"a": limits or Limits()}
        )
        self.worker = Worker(
            self.engine, self.outbox, lambda taken: self.woken.append({entry.firing.alarm for entry in taken.entries})
        )
        self.worker.start()

    def work(self, *items: Item, counts: dict[str, dict[str, int]] | None = None) -> None:
        done = threading.Event()
        self.worker.submit(Batch(items, counts or {}, done.set))
        assert done.wait(10.0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(tmp_path / "outbox.db")
    yield opened
    assert opened.worker.stop(10.0)
    opened.outbox.close()


def test_a_batch_is_done_when_its_firings_are_written_down(stage: Stage) -> None:
    """Whoever waits for a batch finds its firings in the outbox."""
    stage.work(item(b"ERR 1\n"), item(b"fine\n"))
    assert stage.outbox.count_waiting() == {"a": 1}
    assert stage.woken == [{"a"}]


def test_counts_are_told_to_be_written_when_they_are(stage: Stage) -> None:
    """Whoever collects counts hears of it when the outbox has them, with the number of the collection."""
    written = threading.Event()
    stage.worker.submit(Batch(counts={"logging": {"lines": 3, "screened_out": 3}}, written=written.set))
    assert written.wait(10.0)
    again = Outbox(stage.path)
    assert again.ledger.collections == 1
    assert again.ledger.books()["sources"]["logging"]["lines"] == 3
    again.close()


def test_a_rule_that_was_switched_off_is_named_at_each_start(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """What an earlier process has switched off stays off, and nobody has to guess why."""
    memory = stage.engine.memory
    memory.costs["ERR a"] = (MAX_COST, 0.0)
    rule = compile_rule(Rule("ERR", ("a",)))
    engine = Engine([rule], Prefilter([rule]), ["a"], alarm_freq=3.0, alarm_msg_size=8192, memory=memory)
    assert stage.worker.exchange(engine, 10.0)
    stage.work(item(b"ERR 1\n"))
    assert stage.outbox.count_waiting() == {}
    assert "the rule is switched off: its regexp 'ERR'" in caplog.text


def test_lines_that_another_screen_has_found_are_judged_by_the_present_rules(stage: Stage) -> None:
    """The numbers of former rules say nothing: each line is put to the rules in force, and what was fired is known."""
    stage.work(item(b"ERR same\n"))
    former = stage.engine
    rules = [compile_rule(Rule("NEW", ("a",))), compile_rule(Rule("ERR", ("a",)))]
    engine = Engine(rules, Prefilter(rules), ["a"], alarm_freq=3.0, alarm_msg_size=8192, memory=former.memory)
    assert stage.worker.exchange(engine, 10.0)
    # Number 0 is the exclusion of the former rules, number 1 their ERR.
    lines = (b"ERR same\n", b"ERR other\n", b"skip NEW\n", b"skip\n")
    hits = tuple(Hit(n, line, (n % 2,), (n % 2,)) for n, line in enumerate(lines))
    for n, rule_set in enumerate((former.prefilter.rule_set, engine.prefilter.rule_set)):

        def record(hit: Hit, n: int = n) -> Record:
            return Record(hit.line, "stdout", 1.0, f"{n}-{hit.start}")

        done = threading.Event()
        kept = hits if n == 0 else (Hit(9, b"ERR third\n", (1,), (1,)),)
        stage.worker.submit(Batch(done=done.set, lines=Lines("stdout", kept, record, rule_set)))
        assert done.wait(10.0)
    assert stage.outbox.count_waiting() == {"a": 4}
    books = stage.outbox.ledger.books()
    assert books["alarms"]["a"]["held_back"] == {Reason.SAME_MESSAGE: 1}
    assert books["sources"]["stdout"]["screened_out"] == 1
    assert imbalances(books, stage.outbox.count_waiting()) == []


def test_an_unknown_alarm_is_named_once(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """`alarm()` with a wrong name is told once, not at every call."""
    stage.work(item(b"hello", "nobody"), item(b"hello", "nobody"))
    assert caplog.text.count("'nobody', which is not configured") == 1


def test_the_books_balance(stage: Stage) -> None:
    """Every line of every kind is in the ledger, and the equations hold."""
    stage.work(
        item(b"ERR 1\n"),
        item(b"ERR 1\n"),
        item(b"skip ERR\n"),
        item(b"[uwsgi-alarm] ERR\n"),
        item(b"fine\n"),
        item(b"hello", "a"),
        item(b"hello", "nobody"),
        counts={"stdout": {"lines": 100, "screened_out": 100}},
    )
    books = stage.outbox.ledger.books()
    assert imbalances(books, stage.outbox.count_waiting()) == []
    assert books["sources"]["stdout"] == {
        "lines": 107,
        "screened_out": 101,
        "matched": 3,
        "skipped": {Reason.EXCLUDED: 1, Reason.ALARM_MARK: 1, Reason.UNKNOWN_ALARM: 1},
        "oversized": 0,
        "lost_bytes": 0,
    }
    assert books["alarms"]["a"]["held_back"] == {Reason.SAME_MESSAGE: 1}


def test_a_record_seen_by_two_masters_fires_once(stage: Stage) -> None:
    """A record that comes again under the same key is a duplicate."""
    stage.work(item(b"ERR 1\n", key="same"))
    stage.work(item(b"ERR 2\n", key="same"))
    assert stage.outbox.count_waiting() == {"a": 1}
    assert stage.outbox.ledger.books()["alarms"]["a"]["held_back"] == {Reason.DUPLICATE: 1}


def test_counts_without_firings_are_written_down_in_time(stage: Stage) -> None:
    """The lines of a quiet server are in the ledger on disk, though nothing fires."""
    stage.work(item(b"fine\n"))
    wait_until(lambda: _lines_on_disk(stage.path) == 1)


def test_counts_are_written_down_while_lines_keep_coming(stage: Stage) -> None:
    """A steady stream of lines without alarms does not keep their counts off the disk."""

    def goes_on() -> bool:
        stage.work(item(b"fine\n"))
        return _lines_on_disk(stage.path) > 0

    wait_until(goes_on)


def _lines_on_disk(path: Path) -> int:
    database = sqlite3.connect(path)
    try:
        rows = database.execute("SELECT n FROM ledger WHERE col = 'lines'").fetchall()
    finally:
        database.close()
    return int(rows[0][0]) if rows else 0


def test_firings_that_cannot_be_written_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """When the outbox fails, the loss is in the ledger, and the worker goes on."""
    stage = Stage(":memory:")
    stage.outbox.change("ALTER TABLE firings RENAME TO hidden")
    stage.work(item(b"ERR 1\n"))
    stage.outbox.change("ALTER TABLE hidden RENAME TO firings")
    assert "cannot be written" in caplog.text
    books = stage.outbox.ledger.books()
    assert books["alarms"]["a"]["dropped"] == {Reason.OUTBOX_FAILED: 1}
    assert imbalances(books, stage.outbox.count_waiting()) == []
    stage.work(item(b"ERR 2\n"))
    assert stage.outbox.count_waiting() == {"a": 1}
    assert stage.worker.stop(10.0)
    stage.outbox.close()


def test_a_file_that_is_damaged_loses_no_firing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The worker tries again at once in the file that takes its place, and the log has one line."""
    stage.work(item(b"ERR 1\n"))
    stage.path.unlink()
    stage.work(item(b"ERR 2\n"))
    assert len(caplog.messages) == 1
    assert stage.outbox.count_waiting() == {"a": 2}
    assert stage.woken == [{"a"}, {"a"}]


def test_a_disk_that_fills_loses_no_firing(stage: Stage, full_disk: Callable[[], AbstractContextManager[None]]) -> None:
    """The worker tries for longer than the outbox needs to go on in memory; then what has fired waits there."""
    stage.work(item(b"ERR 1\n"))
    with full_disk():
        stage.work(item(b"ERR 2\n"))
        assert not stage.outbox.is_durable
        stage.work(item(b"ERR 3\n"))
    assert stage.woken == [{"a"}, {"a"}, {"a"}]
    assert [entry.firing.message for entry in stage.outbox.waiting("a", after=0, limit=9)] == [
        b"ERR 1\n",
        b"ERR 2\n",
        b"ERR 3\n",
    ]
    assert imbalances(stage.outbox.ledger.books(), stage.outbox.count_waiting()) == []


def test_programs_hear_of_firings_and_of_what_was_held_back(stage: Stage) -> None:
    """`fired` and `held_back` are sent with their facts."""
    heard: list[object] = []

    def note_fired(alarm: str, **facts: object) -> None:
        heard.append((alarm, sorted(facts)))

    def note_held(alarm: str, **facts: object) -> None:
        heard.append((alarm, facts["reason"]))

    with signals.fired.connected_to(note_fired), signals.held_back.connected_to(note_held):
        stage.work(item(b"ERR 1\n"), item(b"ERR 1\n"))
    assert heard == [("a", ["firing"]), ("a", Reason.SAME_MESSAGE)]


def test_the_end_loses_nothing(stage: Stage) -> None:
    """Stopping works off what was submitted before."""
    for n in range(1000):
        stage.worker.submit(Batch((item(b"ERR %d\n" % n),)))
    assert stage.worker.stop(10.0)
    assert stage.outbox.count_waiting() == {"a": 1000}


def test_a_digest_comes_without_another_line(tmp_path: Path) -> None:
    """What was held back is told when its time is over, though nothing else happens; the ledger counts it apart."""
    opened = Stage(tmp_path / "outbox.db", Limits(rate="1/1s"))
    opened.work(item(b"ERR 1\n"), item(b"ERR 2\n"))
    wait_until(lambda: opened.outbox.count_waiting() == {"a": 2})
    assert opened.woken == [{"a"}, {"a"}]
    books = opened.outbox.ledger.books()
    assert (books["alarms"]["a"]["matched"], books["alarms"]["a"]["digests"], books["alarms"]["a"]["fired"]) == (
        2,
        1,
        2,
    )
    assert imbalances(books, opened.outbox.count_waiting()) == []
    assert opened.worker.stop(10.0)
    opened.outbox.close()


def test_what_lives_in_memory_is_told_at_the_end() -> None:
    """A program that ends after a flood still says how much there was."""
    opened = Stage(":memory:", Limits(rate="1/1h"))
    opened.work(item(b"ERR 1\n"), item(b"ERR 2\n"))
    assert opened.worker.stop(10.0)
    assert [entry.firing.held_back for entry in opened.outbox.waiting("a", after=0, limit=9)] == [0, 1]
    opened.outbox.close()


def test_a_silenced_alarm_says_so_afterwards(stage: Stage) -> None:
    """While an alarm is silenced nothing of it is delivered; whoever ends the silence is told what there was."""
    silence = Silence("", ('alarm="a"',), 0.0, time.monotonic() + 3600.0)
    ids: list[str] = []
    stage.worker.submit(Batch(silence=lambda engine, now: ids.append(engine.put_silence(silence, now).id)))
    stage.work(item(b"ERR 1\n"), item(b"ERR 2\n"))
    assert stage.outbox.count_waiting() == {}
    stage.worker.submit(Batch(silence=lambda engine, now: engine.expire_silence(ids[0], now)))
    wait_until(lambda: stage.outbox.count_waiting() == {"a": 1})
    assert stage.outbox.ledger.books()["alarms"]["a"]["held_back"] == {Reason.SILENCED: 2}


def test_a_worker_that_is_left_behind_ends_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the outbox is closed before the worker has ended, it has nothing more to write."""
    opened = Stage(tmp_path / "outbox.db")
    opened.work(item(b"ERR 1\n"))
    opened.outbox.close()
    assert opened.worker.stop(1.0)
    assert caplog.text == ""


def test_the_memory_is_written_at_the_end(tmp_path: Path) -> None:
    """What was held back a moment before the end is known to the next start."""
    opened = Stage(tmp_path / "outbox.db", Limits(rate="1/1h"))
    opened.work(item(b"ERR 1\n"), *(item(b"ERR 2\n") for _ in range(5)))
    opened.work(item(b"ERR 3\n"))
    assert opened.worker.stop(10.0)
    assert read_memory(opened.outbox).held_back.alarms["a"].count == 6
    opened.outbox.close()


def test_whoever_waits_can_see_that_the_rules_are_asked(stage: Stage) -> None:
    """A reader of output waits for the disk, and not for slow rules: so the worker says which of the two it is."""
    seen: list[bool] = []

    def record(hit: Hit) -> Record:
        seen.append(stage.worker.is_evaluating)
        return Record(hit.line, "stdout", 1.0, "k")

    done = threading.Event()
    stage.worker.submit(Batch(done=done.set, lines=Lines("stdout", [Hit(0, b"ERR\n", (1,))], record)))
    assert done.wait(10.0)
    assert seen == [True]
    assert not stage.worker.is_evaluating


def printed(line: bytes, key: str, done: threading.Event | None = None) -> Batch:
    """Return what a reader submits for a printed line that may be the echo of a record."""
    lines = Lines("stderr", [Hit(0, line, (1,))], lambda hit: Record(hit.line, "stderr", 1.0, key))
    return Batch(lines=lines, done=None if done is None else done.set, may_be_echo=True)


def logged(line: bytes, key: str, done: threading.Event) -> Batch:
    """Return what the receiver submits for a record that is printed as well."""
    record = Record(line, "logging", 1.0, key, level=40, echoes=(line.rstrip(),))
    return Batch([Item(record)], done=done.set)


def fired(stage: Stage) -> list[tuple[str, bytes]]:
    """Return source and message of the firings that wait."""
    entries = stage.outbox.waiting("a", after=0, limit=100)
    return [(entry.firing.record.source, entry.firing.message) for entry in entries]


@pytest.mark.parametrize("is_print_first", [True, False])
def test_the_record_wins_over_its_echo(stage: Stage, *, is_print_first: bool) -> None:
    """Whichever comes first, the record fires, and the printed line is its echo."""
    done, seen = threading.Event(), threading.Event()
    batches = [printed(b"ERR 1\n", "p", seen), logged(b"ERR 1\n", "r", done)]
    for batch in batches if is_print_first else batches[::-1]:
        stage.worker.submit(batch)
    assert done.wait(LIMIT)
    assert seen.wait(LIMIT)
    assert fired(stage) == [("logging", b"ERR 1\n")]
    assert stage.outbox.ledger.books()["alarms"]["a"]["held_back"] == {"echo": 1}


@pytest.mark.parametrize("column", ["skipped:unjudged", "skipped:queue_full"])
def test_lost_lines_are_written_down_at_once(stage: Stage, column: str) -> None:
    """A master that is killed a moment later leaves their number: nothing else tells of them."""
    stage.work(counts={"stdout": {"lines": 3, column: 3}})
    second = Outbox(stage.path)  # what another process finds
    assert second.ledger.books()["sources"]["stdout"]["lines"] == 3
    second.close()


def test_records_that_were_not_evaluated_are_written_down_at_once(stage: Stage) -> None:
    """What was taken off its socket, and brought no firing, is known to the next master as well."""
    stage.work(Item(Record(b"full\n", "monitor", 1.0, "k"), report=Report("of other rules", {})))
    second = Outbox(stage.path)
    assert second.ledger.books()["sources"]["monitor"]["skipped"] == {"unjudged": 1}
    second.close()


def test_what_left_lines_behind_hears_that_they_were_evaluated(stage: Stage) -> None:
    """It hears that before their alarms are written: a disk that is slow is no sign of a line that ends masters."""
    evaluated, done = threading.Event(), threading.Event()
    with stage.outbox.still():
        stage.worker.submit(Batch(evaluated=evaluated.set, done=done.set))
        assert evaluated.wait(LIMIT)
        assert not done.is_set()
    assert done.wait(LIMIT)


def test_a_print_without_a_record_fires_after_a_moment(stage: Stage) -> None:
    """A printed line of which no record comes fires by itself, although nothing else happens."""
    seen = threading.Event()
    stage.worker.submit(printed(b"ERR 1\n", "p", seen))
    assert seen.wait(LIMIT)
    assert fired(stage) == [("stderr", b"ERR 1\n")]


def test_nothing_but_records_passes_lines_that_wait(stage: Stage) -> None:
    """Lines stay in their order, and who asks the worker for something finds that all before it is done."""
    seen, asked = threading.Event(), threading.Event()
    stage.worker.submit(printed(b"ERR 1\n", "p1", seen))
    stage.worker.submit(Batch(counts={"stderr": {"lines": 1, "screened_out": 1}}))
    stage.worker.submit(Batch(done=asked.set))
    assert asked.wait(LIMIT)
    assert seen.is_set()
    stage.worker.submit(printed(b"ERR 2\n", "p2"))
    stage.worker.submit(structs.replace(printed(b"ERR 3\n", "p3", asked), may_be_echo=False))
    assert stage.worker.stop(LIMIT)
    assert [message for _, message in fired(stage)] == [b"ERR 1\n", b"ERR 2\n", b"ERR 3\n"]


def test_lines_that_wait_are_judged_at_the_end(stage: Stage) -> None:
    """No line is lost because its record could still come when everything ends."""
    stage.worker.submit(printed(b"ERR 1\n", "p"))
    assert stage.worker.stop(LIMIT)
    assert fired(stage) == [("stderr", b"ERR 1\n")]


def test_lines_that_wait_are_judged_by_the_rules_that_found_them(stage: Stage) -> None:
    """Other rules do not judge lines that wait: a former master may have judged them already, under the same ids."""
    rules = [compile_rule(Rule("ERR", ("b",)))]
    other = Engine(rules, Prefilter(rules), ["b"], alarm_freq=0.0, alarm_msg_size=8192, memory=stage.engine.memory)
    seen = threading.Event()
    stage.worker.submit(printed(b"ERR 1\n", "p", seen))
    assert stage.worker.exchange(other, LIMIT)
    assert seen.wait(LIMIT)
    stage.work(item(b"ERR 2\n"))
    assert [message for _, message in fired(stage)] == [b"ERR 1\n"]
    assert [entry.firing.message for entry in stage.outbox.waiting("b", after=0, limit=9)] == [b"ERR 2\n"]
