"""What a master publishes for the application's processes, and the notice that it has changed.

Two files beside the records socket. One holds the content and is replaced whole. The other, the notice, holds a number
of eight bytes that the application's processes map into their memory: a process that has seen another number looks
again. So a log call learns of new rules by comparing two numbers, without a system call.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from alarm_mw.model.types import RequestConditions
from alarm_mw.patterns.record_prefilter import RecordRules
from alarm_mw.system.permissions import is_trusted
from alarm_mw.transports.places import notice_path, published_path

#: The bytes of a notice: a number in the machine's own order.
NOTICE_SIZE = 8

#: Stands for the notice of a master that has not published anything yet: no number that was seen is equal to it.
NO_NOTICE: Sequence[int] = (-1,)


class Content(msgspec.Struct, array_like=True, frozen=True):
    """What is published."""

    #: What the prefilter needs.
    rules: RecordRules
    #: The conditions on requests of all rules that have such.
    requests: tuple[RequestConditions, ...] = ()


class Published:
    """A process's view of what the master whose records socket is at `socket_path` has published."""

    def __init__(self, socket_path: str) -> None:
        self._content = Path(published_path(socket_path))
        self._notice = notice_path(socket_path)
        self._map: mmap.mmap | None = None
        #: Its first number changes when something else is published; after `open_notice`.
        self.notice: Sequence[int] = NO_NOTICE

    def open_notice(self) -> bool:
        """Map the notice where that was not done before; return whether it is there. Does not block."""
        if self._map is not None:
            return True
        try:
            descriptor = os.open(self._notice, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            self._map = mmap.mmap(descriptor, NOTICE_SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        except (OSError, ValueError):  # it is being made
            return False
        finally:
            os.close(descriptor)
        self.notice = memoryview(self._map).cast("Q")
        return True

    def read(self) -> Content:
        """Return what is published; raise OSError or ValueError where it is missing or damaged. Reads a file.

        What others could have written is not looked at: a stranger's literals could hide what matters.
        """
        with self._content.open("rb") as file:
            if not is_trusted(os.fstat(file.fileno())):
                raise ValueError("others can write what is published")
            data = file.read()
        try:
            return msgspec.msgpack.decode(data, type=Content)
        except msgspec.DecodeError as error:
            raise ValueError(f"this was not published by this version: {error}") from None

    def close(self) -> None:
        """Let go of the notice; threads that still read it may go on."""
        self.notice, self._map = NO_NOTICE, None


def withdraw(socket_path: str) -> None:
    """Remove what is published beside a records socket, if anything is."""
    for path in (published_path(socket_path), notice_path(socket_path)):
        with contextlib.suppress(OSError):
            Path(path).unlink()
