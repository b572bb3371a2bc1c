"""What a rule asks of a request, made ready: method, path, status, duration, exception, headers, client and so on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Protocol

from alarm_mw.model.types import RequestConditions
from alarm_mw.patterns.quick import QuickPattern

#: Addresses of clients whose networks are remembered.
CLIENTS = 1024

#: Classes of which every exception is one: no regexp is meant for their names.
_ROOTS = frozenset({object, BaseException, Exception})

#: How deep exceptions are looked for in groups of groups.
_DEPTH = 10

#: Returns the value of a request header by its name in small letters; None where there is none.
Header = Callable[[str], str | None]


class RequestFacts(Protocol):
    """What is known of a request, from a middleware or an access log."""

    @property
    def method(self) -> str:
        """As the client sent it."""
        ...

    @property
    def path(self) -> str:
        """The whole path, without the query string."""
        ...

    @property
    def status(self) -> int | None:
        """The response's; None where none was started."""
        ...

    @property
    def duration(self) -> float | None:
        """Seconds, so far; None where it is not known."""
        ...

    @property
    def request_size(self) -> int | None:
        """Bytes of its body; None where that is not known."""
        ...

    @property
    def response_size(self) -> int | None:
        """Bytes of the response's body; None where that is not known."""
        ...

    @property
    def exception(self) -> BaseException | None:
        """What the application raised to the server."""
        ...

    @property
    def client(self) -> str:
        """The client's address, without the port; empty where it is not known."""
        ...

    @property
    def disconnected(self) -> bool:
        """The client has left before the response's end."""
        ...

    @property
    def unfinished_after(self) -> float | None:
        """The limit in seconds at which it had not ended, one of `Decision.unfinished_after`; None: it has ended."""
        ...


def no_header(_name: str) -> None:  # a Header
    """Return None: nothing is known of the headers."""


class CompiledConditions:
    """A rule's conditions, ready for use from any thread."""

    def __init__(self, conditions: RequestConditions) -> None:
        """Compile; raise `PatternError` where a regexp is wrong, or cannot be had in bounded time."""
        self.conditions = conditions
        self.key = key_of(conditions)
        self.path = None if conditions.path is None else QuickPattern(conditions.path)
        self._exception = QuickPattern(conditions.exception) if conditions.exception else None
        self._headers = tuple((name, QuickPattern(pattern)) for name, pattern in conditions.headers)
        self._is_wanted_client = lru_cache(CLIENTS)(_networks(conditions.clients)) if conditions.clients else None

    def hold(self, request: RequestFacts, header: Header) -> bool:
        """Return whether all of them hold; of a path that is too long to be judged here, whether they may."""
        return (
            self._fits_end(request)
            and self._fits_answer(request)
            and (self.path is None or self.path.may_match(request.path))
            and (self._is_wanted_client is None or self._is_wanted_client(request.client))
            and all(self._fits_header(pattern, header(name)) for name, pattern in self._headers)
        )

    def _fits_end(self, request: RequestFacts) -> bool:
        """Return whether the request is in the state that is asked for: ended in order or not, or under way."""
        asked = self.conditions
        if asked.unfinished_after != request.unfinished_after or (asked.disconnected and not request.disconnected):
            return False
        return asked.exception is None or self._fits_exception(request)

    def _fits_exception(self, request: RequestFacts) -> bool:
        error = request.exception
        # Neither a request that was cancelled nor a worker that is told to exit.
        if not isinstance(error, Exception) or (request.disconnected and not self.conditions.disconnected):
            return False
        return self._exception is None or any(map(self._exception.matches_start, class_names(error)))

    def _fits_answer(self, request: RequestFacts) -> bool:
        asked = self.conditions
        return (
            (not asked.methods or request.method in asked.methods)
            and (not asked.statuses or self._fits_status(request))
            and _exceeds(request.duration, asked.slower_than)
            and _exceeds(request.request_size, asked.request_larger_than)
            and _exceeds(request.response_size, asked.response_larger_than)
        )

    def _fits_status(self, request: RequestFacts) -> bool:
        # Frameworks make a 500 of a client that has left. Nobody got it.
        if request.status is None or (request.disconnected and not self.conditions.disconnected):
            return False
        return any(first <= request.status <= last for first, last in self.conditions.statuses)

    def _fits_header(self, pattern: QuickPattern, value: str | None) -> bool:
        return value is not None and pattern.matches_start(value)


def key_of(conditions: RequestConditions) -> str:
    """Return a short name of conditions, the same in every process."""
    return hashlib.blake2b(repr(conditions).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def class_names(error: BaseException, depth: int = _DEPTH) -> Iterator[str]:
    """Yield the qualified names of an exception's class and of its bases; of a group, those of its members as well."""
    for kind in type(error).__mro__:
        if kind not in _ROOTS:
            yield kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, BaseExceptionGroup) and depth:
        for inner in error.exceptions:
            yield from class_names(inner, depth - 1)


def _exceeds(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value > limit)


def _networks(networks: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether an address is in one of these networks."""
    import ipaddress  # noqa: PLC0415  # loads what few configurations need

    wanted = [ipaddress.ip_network(network) for network in networks]

    def is_wanted(client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        # A socket for both families shows IPv4 clients as ::ffff:192.0.2.1.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in wanted)

    return is_wanted
