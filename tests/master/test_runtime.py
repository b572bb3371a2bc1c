"""The runtime, whole: engine, outbox and lanes, with recording actions in the place of real ones."""

from __future__ import annotations

import itertools
from pathlib import Path

from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.delivery.policy import Delivery
from alarm_mw.engine.ledger import imbalances
from alarm_mw.errors import ActionError
from alarm_mw.master.batch import Batch, Item
from alarm_mw.master.runtime import Runtime
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions
from alarm_mw.types import Record, Rule, Syntax

_numbers = itertools.count()


def settings(delivery: Delivery = Delivery(backoff_first=0.001)) -> Settings:  # noqa: B008  # frozen
    rules = (Rule("ERR", ("a",), Syntax.PCRE), Rule("WARN", ("b",), Syntax.PCRE))
    return Settings(tuple(Alarm(name, "recording", NoOptions(), delivery) for name in "ab"), rules)


def record(message: bytes) -> Item:
    return Item(Record(message, "stdout", 1.0, f"k{next(_numbers)}"))


def start(recorder: Recorder, path: Path | None = None, delivery: Delivery | None = None) -> Runtime:
    runtime = Runtime(
        settings(delivery) if delivery else settings(),
        outbox=path or ":memory:",
        write_log=lambda _: None,
        find_action=recorder.find,
    )
    runtime.start()
    return runtime


def test_a_line_becomes_a_delivery() -> None:
    """What matches is delivered, in order; what does not is counted; the books balance."""
    recorder = Recorder()
    runtime = start(recorder)
    runtime.submit(Batch([record(b"ERR %d\n" % n) for n in range(100)] + [record(b"fine\n")]))
    assert [firing.message for firing in recorder.wait_for(100)] == [b"ERR %d\n" % n for n in range(100)]
    with runtime.outbox.still():
        books, waiting = runtime.books()
    assert imbalances(books, waiting) == []
    assert books["sources"]["stdout"]["screened_out"] == 1
    assert runtime.stop(10.0)


def test_stopping_delivers_what_was_submitted() -> None:
    """The last firings are delivered before the end."""
    recorder = Recorder()
    runtime = start(recorder)
    runtime.submit(Batch([record(b"ERR %d\n" % n) for n in range(500)]))
    assert runtime.stop(30.0)
    assert len(recorder.messages) == 500


def test_in_process_retries_are_made_until_the_time_is_over() -> None:
    """Nothing being durable, the end waits for the next attempts."""
    recorder = Recorder()
    recorder.fail_with(*(ActionError("busy", retry=True) for _ in range(3)))
    runtime = start(recorder)
    runtime.submit(Batch([record(b"ERR\n")]))
    assert runtime.stop(10.0)
    assert recorder.messages == [b"ERR\n"]


def test_what_is_not_delivered_is_delivered_by_the_next(tmp_path: Path) -> None:
    """A durable outbox hands what was between two attempts to the next master."""
    recorder = Recorder()
    recorder.fail_with(ActionError("busy", retry=True))
    runtime = start(recorder, tmp_path / "outbox.db", Delivery(backoff_first=1000.0, backoff_max=1000.0))
    runtime.submit(Batch([record(b"ERR\n")]))
    assert not runtime.stop(30.0)
    assert recorder.messages == []
    heir = start(recorder, tmp_path / "outbox.db")
    assert recorder.wait_for(1)[0].message == b"ERR\n"
    assert heir.stop(10.0)
