"""Which rules a request concerns, by the conditions of the configuration on method, path, status, duration and so on.

The application's processes decide it, for every request, and make a record only where some rule's conditions hold.
Two steps: `Decision.concerns` is a screen, told in a fraction of a microsecond without allocating anything; it may
say yes too often, never no too often. `Decision.held` then names the conditions that hold. Of a path that is longer
than its regexp may look at here, it says yes; the engine, which may take its time, has the last word on paths.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol

from alarm_mw.model.types import RequestConditions
from alarm_mw.patterns.request_pattern import QuickPattern, any_of

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


#: RFC 9110, section 15.5.
FIRST_ERROR = 400

#: Whether a request may concern some rule: method, path, status, seconds, bytes of its body and of the response's (0
#: where that is not known), the exception that the application raised, and whether the client has left.
Concerns = Callable[[str, str, int | None, float, int, int, BaseException | None, bool], object]


class Decision:
    """All conditions on requests of a configuration. May be used from any thread; nothing in it blocks."""

    def __init__(self, conditions: Iterable[RequestConditions] = ()) -> None:
        """Compile those that a middleware decides; raise `PatternError` where one cannot be had."""
        #: Each once.
        self.conditions = tuple(dict.fromkeys(each for each in conditions if not each.access_log))
        self._compiled = tuple(map(CompiledConditions, self.conditions))
        #: A screen for requests that have ended.
        self.concerns = _screen([each for each in self._compiled if each.conditions.unfinished_after is None])
        #: The limits at which a request that has not ended has to be put to `held`, in seconds, ascending.
        self.unfinished_after = tuple(
            sorted({each.unfinished_after for each in self.conditions if each.unfinished_after})
        )

    def __bool__(self) -> bool:
        """Return whether there are any conditions."""
        return bool(self._compiled)

    def held(self, request: RequestFacts, header: Header) -> tuple[str, ...]:
        """Return the keys of the conditions that hold for `request`, as far as can be told here."""
        return tuple([each.key for each in self._compiled if each.hold(request, header)])

    def slower_than(self, held: Sequence[str]) -> float | None:
        """Return the highest `slower_than` of the conditions with these keys, for the alarm's line to name."""
        limits = [each.conditions.slower_than or 0.0 for each in self._compiled if each.key in held]
        return max(limits, default=0.0) or None


def _screen(compiled: Sequence[CompiledConditions]) -> Concerns:
    """Return the first step of the decision, which asks what is rare first.

    Each of the conditions is looked for by what fewest requests have of all that they ask: an exception, a client that
    left, a status of 400 or above, a duration, a size; else by method and path.
    """
    left = list(compiled)
    wants_errors = bool(_take(left, lambda asked: asked.exception is not None or asked.disconnected))
    statuses = _numbers(_take(left, lambda asked: _are_errors(asked.statuses)))
    slow = _take_least(left, lambda asked: asked.slower_than)
    received = _take_least(left, lambda asked: asked.request_larger_than)
    sent = _take_least(left, lambda asked: asked.response_larger_than)
    find = _by_method(left)
    find_other = find.pop("")
    longest = min((each.path.limit for each in left if each.path is not None), default=sys.maxsize)

    def concerns(  # noqa: PLR0917  # what a request is, without an object made for it
        method: str,
        path: str,
        status: int | None,
        duration: float,
        request_size: int,
        response_size: int,
        exception: BaseException | None,
        disconnected: bool,  # noqa: FBT001  # as above
    ) -> object:
        if duration > slow or status in statuses or request_size > received or response_size > sent:
            return True
        if (exception is not None or disconnected) and wants_errors:
            return True
        search = find.get(method, find_other)
        return search is not None and (len(path) > longest or search(path))

    return concerns if compiled else _concerns_nothing


def _take(left: list[CompiledConditions], is_one: Callable[[RequestConditions], bool]) -> list[RequestConditions]:
    """Take those for which `is_one` is true out of `left`."""
    taken = [each for each in left if is_one(each.conditions)]
    left[:] = [each for each in left if each not in taken]
    return [each.conditions for each in taken]


def _take_least(left: list[CompiledConditions], limit: Callable[[RequestConditions], float | None]) -> float:
    """Take those that have this limit out of `left`, and return the least of them; infinity where there is none."""
    limits = map(limit, _take(left, lambda asked: limit(asked) is not None))
    return min((each for each in limits if each is not None), default=math.inf)


def _are_errors(statuses: Sequence[tuple[int, int]]) -> bool:
    return bool(statuses) and all(first >= FIRST_ERROR for first, _ in statuses)


def _numbers(conditions: Iterable[RequestConditions]) -> frozenset[int | None]:
    ranges = [each for asked in conditions for each in asked.statuses]
    return frozenset(status for first, last in ranges for status in range(first, last + 1))


def _by_method(compiled: Sequence[CompiledConditions]) -> dict[str, Callable[[str], object] | None]:
    """Return what finds the paths of each method that is named, and of all others under an empty name."""
    methods = {"", *(method for each in compiled for method in each.conditions.methods)}
    return {
        method: _path_search([each for each in compiled if method in (each.conditions.methods or methods)])
        for method in methods
    }


def _path_search(compiled: Sequence[CompiledConditions]) -> Callable[[str], object] | None:
    """Return a search that is true for each path that one of them wants; None where they want nothing."""
    paths = [each.path for each in compiled if each.path is not None]
    if len(paths) < len(compiled):
        return _always
    return any_of(paths) if paths else None


def _always(_path: str) -> object:
    return True


def _concerns_nothing(*_facts: object) -> object:
    return False


#: No conditions: no request concerns any rule.
NOTHING = Decision()
