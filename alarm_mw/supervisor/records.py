"""The socket where workers hand in their records: bound once, held open while masters come and go."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import NamedTuple

from alarm_mw.system.permissions import socket_mode
from alarm_mw.system.sockets import bind, is_abandoned

# Paths as text: pathlib would cost the supervisor a megabyte.
# ruff: noqa: PTH108, PTH116

BACKLOG = 1024


class RecordsSocket(NamedTuple):
    """A listening SOCK_SEQPACKET socket and the file that it made."""

    path: str
    listening: socket.socket
    #: Device and inode of the file.
    file: tuple[int, int]

    @classmethod
    def bind(cls, path: str) -> RecordsSocket:
        """Listen at `path`, in the place of a socket that nobody listens to any more.

        Raises OSError, EADDRINUSE where somebody does.
        """
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bind(listening, path, socket_mode())
        listening.listen(BACKLOG)
        return cls(path, listening, _identity(path))

    def close(self) -> None:
        """Stop listening and remove the file, unless somebody else listens there."""
        self.listening.close()
        with suppress(OSError):
            if _identity(self.path) == self.file or is_abandoned(self.path):
                os.unlink(self.path)


def _remove_stale(path: str) -> None:
    with suppress(FileNotFoundError):
        if not (stat.S_ISSOCK(os.stat(path).st_mode) and is_abandoned(path)):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
        os.unlink(path)


def _identity(path: str) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino
