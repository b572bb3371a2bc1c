"""``log:PREFIX``: writes the alarm to the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, ClassVar, Self

import msgspec

from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.texts import uploaded


class LogOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `log`."""

    for_humans: ClassVar[bool] = False
    is_of_machine: ClassVar[bool] = True

    prefix: Annotated[str, msgspec.Meta(description="text between `ALARM:` and the message; none if empty")] = ""


class LogAction:
    """Writes ``Tue Nov 24 06:29:21 2026 - ALARM: PREFIX MESSAGE`` to the log, as uWSGI does, safe for terminals."""

    Options: ClassVar[type[PluginOptions]] = LogOptions
    concurrency: ClassVar[int] = 1

    def __init__(self, options: LogOptions, context: ActionContext) -> None:
        self._prefix = options.prefix
        self._context = context

    @classmethod
    def from_uwsgi(cls, args: str) -> LogOptions:
        """Return the options of ``log:PREFIX``."""
        return LogOptions(prefix=args)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def preview(self, firing: Firing) -> str:
        """Return the entry."""
        return entry(firing, self._prefix, uploaded(firing, self._context)).decode().removesuffix("\n")

    async def deliver(self, firing: Firing) -> None:
        """Write the line; waits in a thread while the log's reader is slow."""
        line = entry(firing, self._prefix, uploaded(firing, self._context))
        if not self._context.write_log_at_once(line):
            await _in_thread(self._context.write_log, line)


def entry(firing: Firing, prefix: str = "", message: bytes | None = None) -> bytes:
    r"""Return what stands in the log for `firing`, or for `message`, with local time and a newline at the end.

    Hidden characters are made visible (``\x1b``). The lines of a longer message, such as a traceback, stay lines; all
    but the first begin with a tab, so that a message cannot pass for an entry of its own.
    """
    mark = f"ALARM: {printable(prefix)}".rstrip()
    text = "\n\t".join(printable_lines(firing.message if message is None else message))
    return f"{time.ctime(firing.time)} - {mark} {text}\n".encode()


async def _in_thread(function: Callable[[bytes], object], data: bytes) -> None:
    """Call a function that may block in a thread, and return when it has returned: not before, even when cancelled.

    So who limits the time of the caller knows that something goes on. Raises what the function does.
    """
    import asyncio  # noqa: PLC0415  # the start of a server does not wait for it

    call = asyncio.create_task(asyncio.to_thread(function, data))
    try:
        await asyncio.shield(call)
    finally:
        await asyncio.wait({call})
