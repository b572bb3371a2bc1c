"""``hub:``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from alarm_mw.actions.hub import HubAction
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Place


def test_a_message_is_left_to_the_hub(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """The action returns when the hub has the message, whatever it is, with the place where it comes from."""
    left: list[Firing] = []

    async def hand_over(firing: Firing) -> None:
        left.append(firing)

    async def deliver(firing: Firing) -> None:
        async with HubAction(HubAction.from_uwsgi(""), structs.replace(context, hand_over=hand_over)) as action:
            await action.deliver(firing)

    firing = make_firing()
    asyncio.run(deliver(firing))
    place = context.place
    assert left == [structs.replace(firing, origin=Place(place.host, place.name, place.labels))]


def test_without_a_fleet_there_is_no_hub(context: ActionContext, make_firing: Callable[..., Firing]) -> None:
    """The error says what is missing; the message waits for it."""
    with pytest.raises(ActionError, match=r"configure \[fleet\]") as raised:
        asyncio.run(HubAction(HubAction.from_uwsgi(""), context).deliver(make_firing()))
    assert raised.value.retry


def test_the_short_form_has_no_options() -> None:
    """What stands behind ``hub:`` is a mistake."""
    with pytest.raises(OptionError, match="expected 'hub:'"):
        HubAction.from_uwsgi("x")
