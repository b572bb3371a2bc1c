"""The monitor of crashes: which deaths it fires for, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Monitor, MonitorContext
from alarm_mw.model.types import Death
from alarm_mw.monitors.segfault.crashdump import parse_dump
from alarm_mw.monitors.segfault.monitor import SegfaultMonitor, SegfaultOptions, describe, matters

DUMP = (
    "Fatal Python error: Segmentation fault",
    "Thread 0x00000002 (most recent call first):",
    '  File "b.py", line 7 in wait',
    "Current thread 0x00000001 [main] (most recent call first):",
    '  File "a.py", line 3 in inner',
    '  File "a.py", line ??? in outer',
    "Thread 0x00000003 (most recent call first):",
    "  <no Python frame>",
)
WORKER = Death("k", 7, "gunicorn app:app", -11, dump=DUMP)


def test_the_message_says_who_and_how_and_shows_all_threads() -> None:
    """The header names process and signal; between uWSGI's marks come the frames, the guilty thread first."""
    assert describe(WORKER, SegfaultOptions()) == (
        "process 7 (gunicorn app:app) died of SIGSEGV (Segmentation fault)\n"
        "*** backtrace of 7 ***\n"
        "Fatal Python error: Segmentation fault\n"
        "Current thread 0x00000001 [main] (most recent call first):\n"
        '  File "a.py", line 3 in inner\n'
        '  File "a.py", line ??? in outer\n'
        "Thread 0x00000002 (most recent call first):\n"
        '  File "b.py", line 7 in wait\n'
        "Thread 0x00000003 (most recent call first):\n"
        "  <no Python frame>\n"
        "*** end of backtrace ***\n"
    )


def test_the_message_can_be_read_as_the_dump() -> None:
    """Whoever takes the frames out of the message finds what stood in the dump."""
    assert parse_dump(describe(WORKER, SegfaultOptions())) == parse_dump("\n".join(DUMP))


def test_limits_cut_threads_and_frames() -> None:
    """What is left out is counted."""
    text = describe(WORKER, SegfaultOptions(threads=1, frames=1))
    assert "  … 1 more frames\n" in text
    assert "… 2 more threads\n" in text
    assert "outer" not in text
    assert "wait" not in text


@pytest.mark.parametrize(
    ("death", "text"),
    [
        (Death("k", 7, "", -11), "process 7 died of SIGSEGV (Segmentation fault)\n"),
        (Death("k", 0, "", -6), "a process of the server died of SIGABRT (Aborted)\n"),
        (Death("k", 7, "nginx", -9), "process 7 (nginx) died of SIGKILL (Killed)\n"),
        (Death("k", 7, "x", -99), "process 7 (x) died of signal 99\n"),
        (Death("k", 7, "x", 3, is_server=True), "the server, process 7 (x) ended with exit status 3\n"),
        (
            Death("k", 7, "x", -9, out_of_memory=True),
            "process 7 (x) died of SIGKILL: the kernel killed it because memory ran out\n",
        ),
    ],
)
def test_without_a_dump_the_header_says_it_all(death: Death, text: str) -> None:
    """In one line."""
    assert describe(death, SegfaultOptions()) == text


def test_a_dump_of_an_unknown_process_says_so() -> None:
    """Its frames are shown all the same."""
    assert "*** backtrace of an unknown process ***\n" in describe(
        Death("k", dump=DUMP, returncode=-11), SegfaultOptions()
    )


@pytest.mark.parametrize(
    ("death", "options", "expected"),
    [
        *((Death("k", 7, "", -number), {}, True) for number in (4, 6, 7, 8, 11)),
        *((Death("k", 7, "", -number), {}, False) for number in (1, 2, 9, 13, 15, 99)),
        (Death("k", 7, "", -9), {"signals": ("SIGKILL",)}, True),
        (Death("k", 7, "", -11), {"signals": ("SIGKILL",)}, False),
        (Death("k", 7, "", -9, out_of_memory=True), {}, True),
        (Death("k", 7, "", -9, out_of_memory=True), {"out_of_memory": False}, False),
        (Death("k", 7, "", 1, is_server=True), {}, True),
        (Death("k", 7, "", 1, is_server=True), {"exits": "none"}, False),
        (Death("k", 7, "", 1), {}, False),
        (Death("k", 7, "", 1), {"exits": "all"}, True),
    ],
)
def test_which_deaths_matter(death: Death, options: dict[str, object], expected: bool) -> None:
    """The five signals of a crash, kills for want of memory and the server's own exit status, unless told otherwise."""
    assert matters(death, msgspec.convert(options, SegfaultOptions)) is expected


def test_uwsgi_gives_no_options() -> None:
    """``alarm-segfault = NAME`` is all that uWSGI knows; key=value pairs are taken as well."""
    assert SegfaultMonitor.from_uwsgi("") == SegfaultOptions()
    assert SegfaultMonitor.from_uwsgi("signals=SIGSEGV,SIGKILL;exits=all;frames=5") == SegfaultOptions(
        signals=("SIGSEGV", "SIGKILL"), exits="all", frames=5
    )


@pytest.mark.parametrize("args", ["x", "signals=SIGFOO", "exits=some", "frames=0", "colour=red"])
def test_wrong_options_are_told(args: str) -> None:
    """Before anything starts."""
    with pytest.raises(OptionError):
        SegfaultMonitor.from_uwsgi(args)


class Desk:
    """Tells deaths, as a master does."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Death], None]] = []
        self.fired: list[tuple[bytes, str]] = []

    @contextmanager
    def subscribed(self, tell: Callable[[Death], None]) -> Iterator[None]:
        self.listeners.append(tell)
        yield
        self.listeners.remove(tell)

    def fire_once(self, message: bytes, key: str) -> None:
        self.fired.append((message, key))


def test_the_monitor_fires_under_the_key_of_the_death() -> None:
    """So that a death that is told again fires once; it listens until it is cancelled."""
    desk = Desk()

    async def scenario() -> None:
        context = MonitorContext(
            "segfault", fire=lambda _: None, server_pid=lambda: 3, fire_once=desk.fire_once, deaths=desk.subscribed
        )
        monitor: Monitor = SegfaultMonitor(SegfaultOptions(), context)
        task = asyncio.create_task(monitor.run())
        await asyncio.sleep(0)
        for tell in desk.listeners:
            tell(WORKER)
            tell(Death("other", 8, "", -15))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert [key for _, key in desk.fired] == ["k"]
    assert desk.fired[0][0].startswith(b"process 7 (gunicorn app:app) died of SIGSEGV")
