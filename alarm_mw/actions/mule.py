"""``mule:N``: hands the message to a mule."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self

import msgspec

from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.keyvalue import made
from alarm_mw.model.types import Firing

_NUMBER = re.compile("[0-9]{0,9}")


class MuleOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `mule`."""

    for_humans: ClassVar[bool] = False
    is_of_machine: ClassVar[bool] = True
    has_texts: ClassVar[bool] = False

    mule: Annotated[
        int,
        msgspec.Meta(ge=0, description="the mule's number, from 1; 0, or a number that does not exist, means any mule"),
    ] = 0


class MuleAction:
    """Passes the message to a mule, where `alarm_mw.mule_get_msg()` returns its exact bytes.

    The message is delivered when the mule asks for the next one. If the mule is killed before that, its successor gets
    the message.
    """

    Options: ClassVar[type[PluginOptions]] = MuleOptions
    #: Maximum number of messages of one alarm that mules handle at once. Each mule gets them in order.
    concurrency: ClassVar[int] = 64

    def __init__(self, options: MuleOptions, context: ActionContext) -> None:
        self._mule = options.mule
        self._processes = context.processes

    @classmethod
    def from_uwsgi(cls, args: str) -> MuleOptions:
        """Return the options of ``mule:N``."""
        if not _NUMBER.fullmatch(args):
            raise OptionError(f"expected a mule's number, got {args!r}")
        return made(MuleOptions, {"mule": int(args or 0)})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def deliver(self, firing: Firing) -> None:
        """Return when a mule has finished with the message."""
        if self._processes is None:
            raise ActionError("mules run under alarm-mw run --mule FILE only", retry=False)
        await self._processes.send_to_mule(self._mule, firing)
