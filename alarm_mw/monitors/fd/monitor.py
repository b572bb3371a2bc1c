"""``alarm-fd = NAME FD[:BYTES] MESSAGE``: waits for a descriptor to be readable."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

import msgspec

from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.monitors.fd.sources import watch
from alarm_mw.system.descriptors import FIRST_FREE

_NUMBER = re.compile(r"(\d{1,9})(?::(\d{1,9}))?")
_PATH = re.compile(r"(.*/.*?)(?::(\d{1,9}))?")


class FdOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `fd`."""

    message: Annotated[str, msgspec.Meta(min_length=1, description="the message of the alarm")]
    fd: Annotated[
        int | None, msgspec.Meta(description="the number of a descriptor that is open when the program starts")
    ] = None
    path: Annotated[
        str | None, msgspec.Meta(description="instead of `fd`: a FIFO, a unix socket, a device or a file")
    ] = None
    bytes: Annotated[
        int | None, msgspec.Meta(description="bytes to read for each alarm; 1 by default, 8 for an eventfd")
    ] = None

    def __post_init__(self) -> None:
        """Check that exactly one of `fd` and `path` is given."""
        if (self.fd is None) == (self.path is None):
            raise ValueError("expected either 'fd' or 'path'")
        if self.fd is not None and self.fd < FIRST_FREE:
            raise ValueError(f"fd: {self.fd} is a standard descriptor, which is the server's; expected 3 or higher")
        if self.path is not None and (not self.path or "\0" in self.path):
            raise ValueError("path: expected the name of a file")
        if self.bytes is not None and not 1 <= self.bytes <= 1024 * 1024:
            raise ValueError("bytes: expected a number from 1 to 1048576")

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The inherited descriptors that are needed."""
        return () if self.fd is None else (self.fd,)


class FdMonitor:
    """Fires each time data can be read, and reads it. Several monitors may watch one descriptor.

    At the end of the data, or if reading fails, a message is logged. A descriptor is then no longer watched; a path is
    opened again after a pause. A FIFO does not end when its last writer leaves. A regular file is readable when it has
    grown.
    """

    Options: ClassVar[type[PluginOptions]] = FdOptions

    def __init__(self, options: FdOptions, context: MonitorContext) -> None:
        self._options = options
        self._context = context
        self._message = options.message.encode("utf-8", "surrogateescape")

    @classmethod
    def from_uwsgi(cls, args: str) -> FdOptions:
        """Return the options of ``FD[:BYTES] MESSAGE``; FD may also be a path with a slash in it."""
        place, _, message = args.strip().partition(" ")
        if not message:
            raise OptionError("expected FD[:BYTES] MESSAGE, with a blank before the message")
        try:
            if number := _NUMBER.fullmatch(place):
                return FdOptions(fd=int(number[1]), bytes=_optional(number[2]), message=message)
            if path := _PATH.fullmatch(place):
                return FdOptions(path=path[1], bytes=_optional(path[2]), message=message)
        except ValueError as error:
            raise OptionError(str(error)) from None
        raise OptionError(f"expected FD[:BYTES], a number or a path with a slash, got {place!r}")

    async def run(self) -> None:
        """Watch until the end of the source."""
        place = self._options.path if self._options.fd is None else self._options.fd
        assert place is not None
        try:
            error = await watch(place, self._options.bytes, self._fire)
        except OSError as reason:
            error = reason
        self._log(f"{place}: {_sentence(error)}")
        if self._options.path is not None:
            raise error or EOFError(f"{place} is at its end")
        self._log(f"i will stop monitoring fd {place}")

    def _fire(self) -> None:
        self._context.fire(self._message)

    def _log(self, text: str) -> None:
        self._context.write_log(f"[uwsgi-alarm-fd] {text}\n".encode("utf-8", "surrogateescape"))


def _optional(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _sentence(error: OSError | None) -> str:
    if error is None:
        return "end of file"
    return error.strerror or str(error)
