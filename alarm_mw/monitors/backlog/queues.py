"""Which listen queues became full, and which are so no longer. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from alarm_mw.monitors.backlog.sock_diag import Listener, join

_HOST_AND_PORT = re.compile(r"(\[[^]]*\]|[^:/@]*):(\d{1,5})")
_MAX_PORT = 65535
#: Percent.
_ALL = 100


@dataclass(frozen=True, slots=True)
class Queue:
    """A listen queue, and the server's descriptor of its socket, where it is the server's."""

    listener: Listener
    fd: int | None = None

    def __str__(self) -> str:
        """Return what uWSGI calls it."""
        fd = "" if self.fd is None else f" (fd: {self.fd})"
        return f'listen queue of socket "{self.listener.address}"{fd}'

    @property
    def state(self) -> str:
        """How many connections wait, of how many that may."""
        return f"({self.listener.queued}/{self.listener.limit})"


class Fullness:
    """Remembers which queues were full, so that each is told of once, and once again when that is over."""

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._full: dict[int, Queue] = {}

    def look(self, queues: Iterable[Queue]) -> Iterator[str]:
        """Yield a sentence for each queue that became full or ceased to be, or whose socket was closed meanwhile."""
        before, self._full = self._full, {}
        for queue in queues:
            was_full = before.pop(queue.listener.inode, None) is not None
            if self._is_full(queue.listener):
                self._full[queue.listener.inode] = queue
                if not was_full:
                    yield f"{queue} {self._full_words} !!! {queue.state}"
            elif was_full:
                yield f"{queue} {self._full_words} is over {queue.state}"
        for queue in before.values():
            yield f"{queue} {self._full_words} is over: the socket was closed"

    def _is_full(self, listener: Listener) -> bool:
        return listener.queued > 0 and listener.queued * 100 >= listener.limit * self._percent

    @property
    def _full_words(self) -> str:
        return "full" if self._percent == _ALL else f"at {self._percent} %"


def named(name: str) -> str | tuple[str, int]:
    """Return a unix socket's path (or ``@abstract``) as it is, and ``HOST:PORT`` as an address and a number.

    The host is empty for any. Raises `ValueError` with a sentence for the user.
    """
    if name.startswith(("/", "@")):
        return name
    match = _HOST_AND_PORT.fullmatch(name)
    if match is None or int(match[2]) > _MAX_PORT:
        raise ValueError(f"{name!r} is no socket, expected ADDRESS:PORT, :PORT, a path with its / or @NAME")
    host = match[1].strip("[]")
    try:
        return host and str(ipaddress.ip_address(host)), int(match[2])
    except ValueError:
        raise ValueError(f"{name!r} has no address before its port, expected one such as 127.0.0.1 or [::1]") from None


def serves(listener: Listener, wanted: str | tuple[str, int], file: tuple[int, int] | None) -> bool:
    """Return whether a socket is the one that `named` has read; `file` is the device and inode of its path.

    A socket that listens at all addresses serves each of them.
    """
    if isinstance(wanted, str):
        return listener.address == wanted or (file is not None and listener.file == file)
    host, port = wanted
    if not host:
        return listener.address.endswith(f":{port}") and not listener.address.startswith(("/", "@"))
    return listener.address in {join(each, port) for each in (host, "0.0.0.0", "::")}  # noqa: S104  # compared only
