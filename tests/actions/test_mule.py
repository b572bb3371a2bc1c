"""``mule:N``; what becomes of the message is tested with real mules, in ``tests/servers/test_mules.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from alarm_mw.actions.mule import MuleAction, MuleOptions
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing


class FakeProcesses:
    """Mules that are done with each message at once."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes]] = []

    async def raise_signal(self, number: int) -> bool:
        raise AssertionError

    async def send_to_mule(self, mule: int, firing: Firing) -> None:
        self.messages.append((mule, firing.message))


@pytest.mark.parametrize(("args", "mule"), [("", 0), ("0", 0), ("2", 2)])
def test_the_number_says_which_mule(args: str, mule: int) -> None:
    """`mule:2` is the second mule; `mule:` and `mule:0` are any."""
    assert MuleAction.from_uwsgi(args) == MuleOptions(mule=mule)


@pytest.mark.parametrize("args", ["one", "-1", "1.5", " ", "9" * 5000])
def test_what_is_no_number_is_refused(args: str) -> None:
    """A mistake is an error at the start."""
    with pytest.raises(OptionError, match="expected a mule's number"):
        MuleAction.from_uwsgi(args)


def test_the_mule_gets_the_very_bytes(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """The message is handed over as it was printed, newline and all."""
    processes = FakeProcesses()
    action = MuleAction(MuleOptions(mule=3), structs.replace(context, processes=processes))
    asyncio.run(action.deliver(make_firing(b"\xff\x00 x\n")))
    assert processes.messages == [(3, b"\xff\x00 x\n")]


def test_without_a_master_process_there_are_no_mules(
    context: ActionContext, make_firing: Callable[..., Firing]
) -> None:
    """Fired all the same, as by `alarm-mw test`, the alarm says what it needs."""
    with pytest.raises(ActionError, match="--mule FILE") as caught:
        asyncio.run(MuleAction(MuleOptions(), context).deliver(make_firing()))
    assert not caught.value.retry
