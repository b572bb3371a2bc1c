"""``signal:N`` and ``signal:NAME``."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import ClassVar

import pytest
from msgspec import structs

from alarm_mw import signals
from alarm_mw.actions.signal import SignalAction, SignalOptions
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing


class FakeProcesses:
    """Workers that take every signal, or none."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.raised: list[int] = []

    async def raise_signal(self, number: int) -> bool:
        self.raised.append(number)
        return self.takes

    async def send_to_mule(self, mule: int, firing: Firing) -> None:
        raise AssertionError


class ImpatientAction(SignalAction):
    patience: ClassVar[float] = 0.0


def deliver(action: SignalAction, firing: Firing) -> None:
    asyncio.run(action.deliver(firing))


@pytest.mark.parametrize("args", ["256", "-1", "", "SIGFOO", "1x", "HUP"])
def test_what_is_no_signal_is_refused(args: str) -> None:
    """A wrong number or name is an error at the start, which says what was expected."""
    with pytest.raises(OptionError, match=r"expected a number from 0 to 255"):
        SignalAction.from_uwsgi(args)


@pytest.mark.parametrize(("args", "expected"), [("0", 0), ("17", 17), ("255", 255), ("SIGHUP", "SIGHUP")])
def test_numbers_and_names_are_taken(args: str, expected: int | str) -> None:
    """Signals of uWSGI have the numbers 0 to 255, the operating system's are named."""
    assert SignalAction.from_uwsgi(args) == SignalOptions(signal=expected)


def test_the_signal_is_raised_in_the_processes_and_here(
    context: ActionContext, make_firing: Callable[..., Firing]
) -> None:
    """Workers and mules get the number, and receivers in the master the firing."""
    processes = FakeProcesses(takes=True)
    heard: list[tuple[str, int, Firing]] = []

    def note(sender: str, *, number: int, firing: Firing) -> None:
        heard.append((sender, number, firing))

    firing = make_firing()
    with signals.uwsgi(17).connected_to(note):
        deliver(SignalAction(SignalOptions(signal=17), structs.replace(context, processes=processes)), firing)
    assert processes.raised == [17]
    assert heard == [("test", 17, firing)]


def test_a_receiver_in_the_master_is_enough(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """A signal that no worker has asked for is delivered when a program in the master listens."""
    heard: list[int] = []

    def note(_: str, *, number: int, firing: Firing) -> None:
        heard.append(number)

    with signals.uwsgi(18).connected_to(note):
        deliver(SignalAction(SignalOptions(signal=18), context), make_firing())
    assert heard == [18]


def test_a_signal_that_nobody_has_asked_for_yet_is_kept(
    context: ActionContext, make_firing: Callable[..., Firing]
) -> None:
    """While workers may be starting, the signal is to be tried again."""
    action = SignalAction(SignalOptions(signal=19), structs.replace(context, processes=FakeProcesses(takes=False)))
    with pytest.raises(ActionError, match="no process has asked for signal 19") as caught:
        deliver(action, make_firing())
    assert caught.value.retry


def test_a_signal_that_nobody_wants_is_refused(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """After that time, or without a master at all, it becomes a dead letter rather than clogging its lane."""
    for processes in (FakeProcesses(takes=False), None):
        action = ImpatientAction(SignalOptions(signal=19), structs.replace(context, processes=processes))
        with pytest.raises(ActionError) as caught:
            deliver(action, make_firing())
        assert not caught.value.retry


def test_the_server_gets_signals_by_name(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """`signal:SIGUSR1` sends it to the server's process as it is at that moment."""
    server = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    action = SignalAction(SignalOptions(signal="SIGUSR1"), structs.replace(context, server_pid=lambda: server.pid))
    deliver(action, make_firing())
    assert server.wait(10) == -signal.SIGUSR1


def test_without_a_server_a_named_signal_is_refused(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """Where there is no server, or no more, the alarm is a dead letter that says so."""
    ended = subprocess.Popen(["true"])
    ended.wait(10)
    for pid, text in ((None, "there is no server"), (ended.pid, "cannot be sent")):
        action = SignalAction(
            SignalOptions(signal="SIGHUP"),
            structs.replace(context, server_pid=functools.partial(int, pid) if pid else lambda: None),
        )
        with pytest.raises(ActionError, match=text) as caught:
            deliver(action, make_firing())
        assert not caught.value.retry
    assert os.getpid() != ended.pid
