"""``hub:``: leaves the message to the hub of the fleet, whose alarm of the same name delivers it."""

from __future__ import annotations

from typing import ClassVar, Self

from msgspec import structs

from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.types import Firing, Place


class HubOptions(PluginOptions, frozen=True, kw_only=True):
    """The action `hub` has no options."""

    has_texts: ClassVar[bool] = False


class HubAction:
    """A message counts as delivered when it is in the hub's outbox."""

    Options: ClassVar[type[PluginOptions]] = HubOptions
    concurrency: ClassVar[int] = 16

    def __init__(self, options: HubOptions, context: ActionContext) -> None:  # noqa: ARG002  # an Action's
        self._context = context

    @classmethod
    def from_uwsgi(cls, args: str) -> HubOptions:
        """Return the options of ``hub:``."""
        if args:
            raise OptionError("expected 'hub:' without anything behind it")
        return HubOptions()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def deliver(self, firing: Firing) -> None:
        """Return when the hub has it; raise `ActionError` where there is none."""
        place = self._context.place
        # The hub has a page of its own, and signs its own links.
        origin = firing.origin or place
        origin = Place(origin.host, origin.name, {**place.labels, **origin.labels})
        await self._context.hand_over(structs.replace(firing, origin=origin))
