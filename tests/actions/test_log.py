"""``log:PREFIX``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

import pytest
from msgspec import structs

from alarm_mw.actions.log import LogAction, LogOptions, entry
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing


class Log(Protocol):
    @property
    def text(self) -> bytes: ...


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


MOMENT = 1_795_501_761.0  # Tue Nov 24 06:29:21 2026


def test_an_alarm_is_logged_as_uwsgi_logs_it(
    context: ActionContext, log: Log, make_firing: Callable[..., Firing]
) -> None:
    """The line in the log is the one that people's scripts match."""
    asyncio.run(LogAction(LogAction.from_uwsgi(""), context).deliver(make_firing(b"ERR x\n", time=MOMENT)))
    assert log.text == b"Tue Nov 24 06:29:21 2026 - ALARM: ERR x\n"


def test_the_prefix_stands_before_the_message(
    context: ActionContext, log: Log, make_firing: Callable[..., Firing]
) -> None:
    """`log:PREFIX` puts PREFIX between `ALARM:` and the message."""
    asyncio.run(LogAction(LogAction.from_uwsgi("PREFIX"), context).deliver(make_firing(b"ERR x", time=MOMENT)))
    assert log.text == b"Tue Nov 24 06:29:21 2026 - ALARM: PREFIX ERR x\n"


def test_what_needs_no_waiting_needs_no_thread(
    context: ActionContext, log: Log, make_firing: Callable[..., Firing]
) -> None:
    """A log with room is written to at once."""
    lines: list[bytes] = []

    def write_at_once(line: bytes) -> bool:
        lines.append(line)
        return True

    context = structs.replace(context, write_log_at_once=write_at_once)
    asyncio.run(LogAction(LogAction.from_uwsgi(""), context).deliver(make_firing(b"ERR x\n", time=MOMENT)))
    assert lines == [b"Tue Nov 24 06:29:21 2026 - ALARM: ERR x\n"]
    assert not log.text


def test_a_slow_log_is_waited_for_even_when_the_time_is_over(
    context: ActionContext, make_firing: Callable[..., Firing]
) -> None:
    """An attempt that was cut off is over when its thread is, so that threads without an end are counted."""
    has_begun, may_end = threading.Event(), threading.Event()

    def write_log(_: bytes) -> None:
        has_begun.set()
        may_end.wait(10)

    async def scene() -> None:
        action = LogAction(LogAction.from_uwsgi(""), structs.replace(context, write_log=write_log))
        attempt = asyncio.create_task(action.deliver(make_firing()))
        await asyncio.to_thread(has_begun.wait, 10)
        attempt.cancel()
        await asyncio.wait({attempt}, timeout=0.01)
        assert not attempt.done()
        may_end.set()
        await asyncio.wait({attempt}, timeout=10)
        assert attempt.cancelled()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"red \x1b[31m\n", b"red \\x1b[31m"),
        (b"tab\there", b"tab\there"),
        (b"\x9b31m not UTF-8", b"\\x9b31m not UTF-8"),
        (b"C1 \xc2\x9b31m", b"C1 \\u009b31m"),
        (b"caf\xc3\xa9", b"caf\xc3\xa9"),
        ("left \u202e right".encode(), b"left \\u202e right"),
        (b"over\rwritten\x00\x7f", b"over\\x0dwritten\\x00\\x7f"),
        (b"", b""),
    ],
)
def test_a_message_cannot_drive_the_terminal(message: bytes, shown: bytes, make_firing: Callable[..., Firing]) -> None:
    """What a terminal would obey is shown instead."""
    assert entry(make_firing(message, time=MOMENT)) == b"Tue Nov 24 06:29:21 2026 - ALARM: " + shown + b"\n"


def test_a_message_cannot_pass_for_an_entry_of_its_own(make_firing: Callable[..., Firing]) -> None:
    """A traceback stays readable, and every line of it but the first is set in."""
    firing = make_firing(b"Traceback\r\n  File x\nTue Nov 24 06:29:21 2026 - ALARM: forged\n", time=MOMENT)
    assert entry(firing, "APP").decode().splitlines() == [
        "Tue Nov 24 06:29:21 2026 - ALARM: APP Traceback",
        "\t  File x",
        "\tTue Nov 24 06:29:21 2026 - ALARM: forged",
    ]


def test_no_prefix_is_the_default() -> None:
    """`log:` needs no argument."""
    assert LogAction.from_uwsgi("") == LogOptions()
