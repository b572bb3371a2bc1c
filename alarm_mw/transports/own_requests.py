"""Recognizes the requests that alarms make, by a signed header or by their access lines, so that none raises an alarm.

A server prints a line for each request, with its method and its target. Each request that we made of a server on this
machine excuses one such line of each source, for a while.
"""

from __future__ import annotations

import hmac
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

import msgspec

from alarm_mw.model.origin import in_alarm_code
from alarm_mw.model.types import Record
from alarm_mw.system.boot import boot_id, since_boot

HEADER = "Alarm-Mw"

#: The same as ASGI has it.
ASGI_HEADER = HEADER.lower().encode()

#: The same in a WSGI environ.
ENVIRON_NAME = "HTTP_ALARM_MW"

#: Seconds from the sending of a request to its arrival at the middleware.
VALID = 10.0


class _Accepted(msgspec.Struct, frozen=True):
    """A signature that was accepted."""

    #: When it was made, in seconds since the machine was started.
    made: float


#: What this process has accepted, by its signatures.
_accepted: dict[str, _Accepted] = {}


def mark(firing_id: str, method: str, host: str, path: bytes) -> str:
    """Return the header's value for a request; `host` as in its header Host, `path` without escapes and query."""
    made = f"{since_boot():.9f}"
    return f"{firing_id} {made} {_sign(firing_id, made, method.upper(), host.lower(), path)}"


def is_ours(value: str, method: str, host: str, path: bytes) -> bool:
    """Return whether the header's value was made on this machine a moment ago, for this request, and is seen first.

    A middleware inside of another one sees the same request again: there it counts that the first one has accepted it.
    """
    if in_alarm_code.get():
        return True
    firing_id, made, signature = [*value.rsplit(" ", 2), "", ""][:3]
    if not hmac.compare_digest(
        signature.encode("utf-8", "replace"), _sign(firing_id, made, method.upper(), host.lower(), path).encode()
    ):
        return False
    age = since_boot() - float(made)
    return 0.0 <= age <= VALID and _is_first(signature, float(made))


def _is_first(signature: str, made: float) -> bool:
    for old in [each for each, then in [*_accepted.items()] if made - then.made > 2 * VALID]:
        _accepted.pop(old, None)
    # In one step: of two threads only that one was first whose own object it is.
    own = _Accepted(made)
    return _accepted.setdefault(signature, own) is own


def _sign(*parts: str | bytes) -> str:
    # A copy takes a twentieth of the time of `hmac.digest`.
    mac = _keyed().copy()
    mac.update(b"\0".join(_as_bytes(parts)))
    return mac.hexdigest()[:32]


def _as_bytes(parts: Iterable[str | bytes]) -> Iterable[bytes]:
    return (part if isinstance(part, bytes) else part.encode("utf-8", "replace") for part in parts)


@cache
def _keyed() -> hmac.HMAC:
    # Nothing of the user: the workers of a server that root has started run as somebody else.
    boot = boot_id().encode()
    # Without it, this process's requests are known to its own middleware.
    return hmac.new(boot + b"alarm_mw" if boot else os.urandom(32), digestmod="sha256")


#: Seconds that a server may take until it prints the line.
WINDOW = 60.0

#: How many requests are remembered.
CAPACITY = 1024


@dataclass(frozen=True, slots=True)
class _Made:
    text: bytes
    time: float
    #: The sources that have seen its line.
    seen: set[str] = field(default_factory=set)


class OwnRequests:
    """Notes requests on the event loop, and excuses lines in the worker thread; a deque needs no lock for that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made: deque[_Made] = deque(maxlen=CAPACITY)
        #: What they have in their lines, each once: a record is looked through for these before for all of them.
        self._texts: tuple[bytes, ...] = ()

    def add(self, method: str, resource: str) -> None:
        """Note that a request is made; `resource` is its path with its query."""
        text = f"{method} {resource or '/'} ".encode()
        self._made.append(_Made(text, self._clock()))
        if text not in self._texts:
            self._texts = tuple({made.text for made in self._made})

    def expected(self) -> tuple[bytes, ...]:
        """Return what an access line has, one of which may still be excused, each once."""
        since = self._clock() - WINDOW
        return tuple({made.text for made in tuple(self._made) if made.time >= since})

    def takes(self, record: Record) -> bool:
        """Return whether the record is the access line of a request that was made."""
        if not any(text in record.message for text in self._texts):
            return False
        since = self._clock() - WINDOW
        for made in tuple(self._made):
            if made.time >= since and made.text in record.message and record.source not in made.seen:
                made.seen.add(record.source)
                return True
        return False


#: Those of this process.
own_requests = OwnRequests()
