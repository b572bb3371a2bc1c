"""What a plugin implements: one main method each. The plugins that ship use nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import msgspec

from alarm_mw.types import Firing

#: Put into ``Annotated[str, SECRET]``: the value is masked wherever options are shown.
SECRET = msgspec.Meta(extra={"secret": True})

MASK = "********"


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a plugin: a frozen struct whose fields are the keys of the configuration.

    A field's type and default are its check; ``Annotated[T, msgspec.Meta(description="…")]`` is its help;
    `SECRET` masks it. Values that depend on each other are checked in ``__post_init__``, which raises
    `ValueError` with a sentence for the user.
    """

    def __repr__(self) -> str:
        shown = (
            f"{name}={MASK if name in secrets(type(self)) else getattr(self, name)!r}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def secrets(options: type[PluginOptions]) -> frozenset[str]:
    """Return the names of the fields whose values must never be shown."""
    info = msgspec.inspect.type_info(options)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(
        field.name
        for field in info.fields
        if isinstance(field.type, msgspec.inspect.Metadata) and (field.type.extra or {}).get("secret")
    )


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What an action may know of the program around it."""

    #: The alarm's name.
    alarm: str
    #: Writes bytes to the log (the master's standard error), never back into the rules. Thread-safe.
    write_log: Callable[[bytes], None]
    #: The process id of the server under ``alarm-mw run``, else None.
    server_pid: int | None = None


@runtime_checkable
class Action(Protocol):
    """Delivers firings of one alarm; made once per alarm.

    ``async with action:`` brackets its life: a connection made there lives as long as the alarm. An
    ``__aenter__`` that needs the network must not wait for it: it starts connecting and returns.
    """

    Options: ClassVar[type[PluginOptions]]
    #: How many firings of one alarm may be under way at once; 1 keeps their order.
    concurrency: ClassVar[int]

    def __init__(self, options: PluginOptions, context: ActionContext) -> None: ...

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        """Return the options that stand after ``plugin:`` in uWSGI's syntax; raise `OptionError`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def deliver(self, firing: Firing) -> Awaitable[None] | None:
        """Return when the firing is delivered; raise `ActionError` when it is not.

        A coroutine function runs on the event loop; a plain function runs in a thread of its own and may block.
        """
        ...
