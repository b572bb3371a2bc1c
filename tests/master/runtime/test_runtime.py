"""The runtime, whole: engine, outbox and lanes, with recording actions in the place of real ones."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from waiting import until, wait_until

from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.delivery.outbox import memory_failover
from alarm_mw.delivery.outbox.store import CHECKPOINT_EVERY
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.control.status import sight
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.runtime.threads import LoopThread
from alarm_mw.master.worker import worker
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing, Reason, Record, Rule, Syntax
from alarm_mw.testing import Recorder, RecordingAction
from alarm_mw.testing.recorder import NoOptions


def test_a_broken_outbox_raises_an_alarm(tmp_path: Path) -> None:
    """Whoever is named learns that the outbox was broken, and where it is now; no rule sees that text."""
    (tmp_path / "outbox.db").write_bytes(b"no database" * 100)
    recorder = Recorder()
    alarms = tuple(Alarm(name, "recording", NoOptions()) for name in "ab")
    settings = Settings(alarms, (Rule("alarm_mw", ("b",)),), own_alarms=("a",))
    runtime = Runtime(settings, outbox=tmp_path / "outbox.db", write_log=lambda _: None, find_action=recorder.find)
    runtime.start()
    (firing,) = recorder.wait_for(1)
    assert firing.alarm == "a"
    assert firing.text.startswith(f"alarm_mw: the outbox {tmp_path}/outbox.db cannot be read: file is not a database")
    (aside,) = tmp_path.glob("*.broken-*Z")
    assert str(aside) in firing.text
    with runtime.outbox.still():
        assert imbalances(*runtime.books()) == []
    assert runtime.stop(10.0)
    assert len(recorder.messages) == 1


def test_a_loss_raises_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the outbox can be written again, whoever is named learns how many firings were lost meanwhile."""
    monkeypatch.setattr(worker, "WRITE_PAUSE", 0.0)
    recorder = Recorder()
    settings = Settings(
        (Alarm("a", "recording", NoOptions()),), (Rule("ERR", ("a",)),), own_alarms=("a",), alarm_freq=0.0
    )
    runtime = Runtime(settings, outbox=tmp_path / "outbox.db", write_log=lambda _: None, find_action=recorder.find)
    runtime.start()

    def print_line(number: int) -> None:
        done = threading.Event()
        record = Record(b"ERR %d\n" % number, "stdout", 1.0, str(number))
        runtime.worker.submit(Batch([Item(record)], done=done.set))
        assert done.wait(10.0)

    with closing(sqlite3.connect(tmp_path / "outbox.db")) as database:
        database.execute("ALTER TABLE firings RENAME TO hidden")
        print_line(1)
        print_line(2)
        database.execute("ALTER TABLE hidden RENAME TO firings")
    print_line(3)
    messages = [firing.message for firing in recorder.wait_for(2)]
    assert messages == [b"ERR 3\n", b"alarm_mw: 2 firings were lost, since the outbox could not be written\n"]
    with runtime.outbox.still():
        assert imbalances(*runtime.books()) == []
    assert runtime.stop(10.0)


_numbers = itertools.count()


def settings(delivery: DeliveryPolicy | None = None, limits: Limits = Limits()) -> Settings:  # noqa: B008  # frozen
    delivery = delivery or DeliveryPolicy(backoff_first=0.001)
    rules = (Rule("ERR", ("a",), Syntax.PCRE), Rule("WARN", ("b",), Syntax.PCRE))
    return Settings(tuple(Alarm(name, "recording", NoOptions(), delivery, limits=limits) for name in "ab"), rules)


def record(message: bytes) -> Item:
    return Item(Record(message, "stdout", 1.0, f"k{next(_numbers)}"))


def start(
    recorder: Recorder,
    path: Path | None = None,
    delivery: DeliveryPolicy | None = None,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> Runtime:
    runtime = Runtime(
        settings(delivery, limits),
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
    runtime.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(100)] + [record(b"fine\n")]))
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
    runtime.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(500)]))
    assert runtime.stop(30.0)
    assert len(recorder.messages) == 500


def test_in_process_retries_are_made_until_the_time_is_over() -> None:
    """Nothing being durable, the end waits for the next attempts."""
    recorder = Recorder()
    recorder.fail_with(*(ActionError("busy", retry=True) for _ in range(3)))
    runtime = start(recorder)
    runtime.worker.submit(Batch([record(b"ERR\n")]))
    assert runtime.stop(10.0)
    assert recorder.messages == [b"ERR\n"]


def test_what_is_not_delivered_is_delivered_by_the_next(tmp_path: Path) -> None:
    """A durable outbox hands what was between two attempts to the next master."""
    recorder = Recorder()
    recorder.fail_with(ActionError("busy", retry=True))
    runtime = start(recorder, tmp_path / "outbox.db", DeliveryPolicy(backoff_first=1000.0, backoff_max=1000.0))
    runtime.worker.submit(Batch([record(b"ERR\n")]))
    assert not runtime.stop(30.0)
    assert recorder.messages == []
    heir = start(recorder, tmp_path / "outbox.db")
    assert recorder.wait_for(1)[0].message == b"ERR\n"
    assert heir.stop(10.0)


def test_what_the_next_delivers_counts_towards_its_rate(tmp_path: Path) -> None:
    """After a restart the alarm sends what had waited, and nothing beyond its rate beside it."""
    recorder, limits = Recorder(), Limits(rate="3/1h", for_humans=False)
    path, slow = tmp_path / "outbox.db", DeliveryPolicy(backoff_first=1000.0, backoff_max=1000.0)
    recorder.fail_with(ActionError("busy", retry=True))
    runtime = start(recorder, path, slow)  # as if it were more than an hour ago, it counts no rate
    runtime.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(3)]))
    assert not runtime.stop(30.0)
    heir = start(recorder, path, limits=limits)
    heir.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(3, 5)]))
    assert heir.stop(10.0)
    assert recorder.messages == [b"ERR 0\n", b"ERR 1\n", b"ERR 2\n"]
    assert heir.outbox.ledger.books()["alarms"]["a"]["held_back"] == {Reason.RATE: 2}


def run_with(action: type[RecordingAction], message: bytes = b"ERR\n") -> Runtime:
    runtime = Runtime(settings(), write_log=lambda _: None, find_action=lambda _: action)
    runtime.start()
    runtime.worker.submit(Batch([record(message)]))
    return runtime


def stop_within(runtime: Runtime, timeout: float, limit: float = 10.0) -> bool:
    """Stop it in a thread, which must end soon; return what `stop` said."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(runtime.stop(timeout)), daemon=True)
    thread.start()
    thread.join(limit)
    assert not thread.is_alive()
    return answers[0]


def test_an_action_that_does_not_end_cannot_hold_the_end_up(caplog: pytest.LogCaptureFixture) -> None:
    """The end comes in time though an action's `__aexit__` does not return."""
    delivered = threading.Event()

    class Endless(RecordingAction):
        async def __aexit__(self, *exc: object) -> None:
            await asyncio.Event().wait()

        async def deliver(self, firing: Firing) -> None:
            delivered.set()

    runtime = run_with(Endless)
    assert delivered.wait(10.0)
    assert stop_within(runtime, 0.1)
    assert "alarm a: its action did not end" in caplog.text


def test_an_action_that_blocks_the_loop_cannot_hold_the_end_up(caplog: pytest.LogCaptureFixture) -> None:
    """The end comes in time though a coroutine blocks its event loop, and the log says so."""
    blocked, release = threading.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    class Blocking(RecordingAction):
        async def deliver(self, firing: Firing) -> None:
            loops.append(asyncio.get_running_loop())
            blocked.set()
            release.wait(60.0)  # a plugin's mistake

    runtime = run_with(Blocking)
    assert blocked.wait(10.0)
    assert not stop_within(runtime, 0.1)
    assert "alarm a: its action did not end" in caplog.text
    assert "alarm a: 1 firing was not delivered" in caplog.text
    books = runtime.outbox.ledger.books()
    assert books["alarms"]["a"]["dropped"] == {Reason.SHUTDOWN: 1}
    assert imbalances(books, {}) == []
    release.set()
    loops[0].call_soon_threadsafe(loops[0].stop)  # a program's end would take it away
    for thread in threading.enumerate():
        if thread.name == "alarm-mw-plugin-a":
            thread.join(30.0)


def test_a_blocked_event_loop_cannot_hold_the_end_up(caplog: pytest.LogCaptureFixture) -> None:
    """The end comes in time though something blocks the loop of all lanes, and the log says so."""
    runtime, release = start(Recorder()), threading.Event()
    runtime.loop.call_soon_threadsafe(release.wait, 60.0)
    assert not stop_within(runtime, 0.1)
    assert "blocks the event loop" in caplog.text
    release.set()


def test_a_task_that_refuses_to_end_cannot_hold_the_end_up() -> None:
    """The end comes in time though something on the loop goes on after it was cancelled."""
    runtime = start(Recorder())

    async def stay() -> None:
        release = asyncio.Event()
        try:
            await release.wait()
        except asyncio.CancelledError:
            await release.wait()

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(stay())
        await asyncio.sleep(0)
        return task

    task = runtime.call(begin())
    assert stop_within(runtime, 0.1)
    assert not task.done()
    runtime.loop.set_exception_handler(lambda *_: None)  # asyncio would complain later that the task is pending


def test_an_exit_does_not_end_the_alarms(caplog: pytest.LogCaptureFixture) -> None:
    """Code on the event loop that calls `sys.exit` does not end it."""
    recorder = Recorder()
    runtime = start(recorder)

    def leave() -> None:
        raise SystemExit

    runtime.loop.call_soon_threadsafe(leave)
    runtime.worker.submit(Batch([record(b"ERR\n")]))
    recorder.wait_for(1)
    assert runtime.stop(10.0)
    assert "tried to end the event loop" in caplog.text


def pollers() -> set[int]:
    """Return the descriptors of epoll(7) in this process: each event loop has one."""
    links = Path("/proc/self/fd").iterdir()
    return {int(link.name) for link in links if os.path.realpath(link).endswith("[eventpoll]")}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_that_has_failed_cannot_hold_the_end_up(caplog: pytest.LogCaptureFixture) -> None:
    """Without its event loop the runtime goes on counting, and ends in time."""
    others = pollers()
    runtime = Runtime(Settings(), write_log=lambda _: None)
    runtime.start()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "alarm-mw-loop")
    (poller,) = pollers() - others

    def spoil() -> None:
        other = os.open(os.devnull, os.O_RDONLY)
        os.dup2(other, poller)  # what an application may close
        os.close(other)

    runtime.loop.call_soon_threadsafe(spoil)
    thread.join(10.0)
    runtime.worker.submit(Batch([record(b"ERR\n")]))
    with pytest.raises(TimeoutError):
        runtime.call(asyncio.sleep(0.0))
    assert not stop_within(runtime, 0.1)
    assert "the event loop of the alarms has failed" in caplog.text
    assert runtime.outbox.ledger.books()["sources"]["stdout"]["lines"] == 1


def test_an_outbox_in_use_cannot_hold_the_end_up(caplog: pytest.LogCaptureFixture) -> None:
    """The end comes in time though a thread does not let go of the outbox."""
    runtime = start(Recorder())
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with runtime.outbox.still():
            held.set()
            release.wait(60.0)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10.0)
    stop_within(runtime, 0.1)
    release.set()
    thread.join(10.0)
    assert "the last counts are not written down" in caplog.text
    runtime.outbox.close()


def test_a_call_has_a_time_limit() -> None:
    """Whoever asks the loop for something that does not end is told in time."""
    runtime = start(Recorder())
    with pytest.raises(TimeoutError):
        runtime.call(asyncio.sleep(1000.0), 0.01)
    assert runtime.stop(10.0)


def test_what_was_never_started_ends() -> None:
    """A runtime that was made and not started can be stopped."""
    runtime = Runtime(settings(), write_log=lambda _: None, find_action=Recorder().find)
    stop_within(runtime, 0.1)


def test_without_a_file_alarms_go_on_in_memory(tmp_path: Path) -> None:
    """Where the outbox cannot be written, alarms are delivered, and the end waits for retries."""
    (tmp_path / "file").touch()
    recorder = Recorder()
    recorder.fail_with(ActionError("busy", retry=True))
    runtime = start(recorder, tmp_path / "file" / "outbox.db")
    runtime.worker.submit(Batch([record(b"ERR\n")]))
    assert runtime.stop(10.0)
    assert recorder.messages == [b"ERR\n"]


def test_a_blocked_event_loop_leaves_the_configuration_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one that cannot be put in force is not half in force: rules and lanes stay those that they were."""
    recorder, goes_on, is_blocked = Recorder(), threading.Event(), threading.Event()
    runtime = start(recorder)

    def block() -> None:
        is_blocked.set()
        goes_on.wait(30.0)

    fresh = runtime.prepare(Settings((Alarm("c", "recording", NoOptions(), DeliveryPolicy()),), (Rule("ERR", ("c",)),)))
    runtime.loop.call_soon_threadsafe(block)
    assert is_blocked.wait(10.0)
    monkeypatch.setattr(LoopThread.call, "__defaults__", (0.05,))
    monkeypatch.setattr(Runtime.call, "__defaults__", (0.05,))
    with pytest.raises(TimeoutError):
        runtime.exchange(fresh)
    monkeypatch.undo()
    goes_on.set()
    runtime.worker.submit(Batch([record(b"ERR\n")]))
    assert [firing.alarm for firing in recorder.wait_for(1)] == ["a"]
    runtime.call(until(lambda: runtime.dispatcher.names() == {"a", "b"}))
    assert runtime.stop(10.0)


def test_a_file_that_can_be_written_again_is_used_though_nothing_happens(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the last that was done was a delivery, memory does not stand in for the file until the next alarm."""
    monkeypatch.setattr(memory_failover, "FAIL_OVER_AFTER", 0.0)
    monkeypatch.setattr(memory_failover, "FAIL_BACK_EVERY", 0.01)
    runtime = start(Recorder(), tmp_path / "outbox.db")
    with full_disk():
        runtime.outbox.flush()
        assert not runtime.outbox.is_durable
    runtime.call(until(lambda: runtime.outbox.is_durable))
    assert runtime.stop(10.0)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_file_has_a_checkpointer(tmp_path: Path) -> None:
    """What many firings have left in the log is moved into the file while all goes on."""
    path, recorder = tmp_path / "outbox.db", Recorder()
    runtime = start(recorder, path)
    before = path.stat().st_size
    runtime.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(CHECKPOINT_EVERY)]))
    recorder.wait_for(CHECKPOINT_EVERY)
    wait_until(lambda: path.stat().st_size > before)
    assert sight(runtime).fault == ""
    assert runtime.stop(10.0)
    assert "alarm-mw-checkpointer" not in threads()


def test_a_file_that_was_taken_away_is_begun_anew(tmp_path: Path) -> None:
    """Where somebody moves the outbox away, alarms go on in a new one, whose log is moved into it as before."""
    path, recorder = tmp_path / "outbox.db", Recorder()
    runtime = start(recorder, path)
    path.rename(tmp_path / "elsewhere.db")
    runtime.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(CHECKPOINT_EVERY)]))
    recorder.wait_for(CHECKPOINT_EVERY)
    wait_until(path.exists)
    before = path.stat().st_size
    runtime.worker.submit(Batch([record(b"ERR %d\n" % n) for n in range(CHECKPOINT_EVERY, 3 * CHECKPOINT_EVERY)]))
    recorder.wait_for(3 * CHECKPOINT_EVERY)
    wait_until(lambda: path.stat().st_size > before)
    assert sight(runtime).fault == ""
    assert runtime.stop(10.0)


def test_memory_has_no_checkpointer() -> None:
    """In the application's process there is one thread less."""
    runtime = start(Recorder())
    assert "alarm-mw-checkpointer" not in threads()
    assert runtime.stop(10.0)
