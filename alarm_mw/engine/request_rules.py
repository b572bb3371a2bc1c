"""Which rules a request concerns, by the conditions of the configuration on method, path, status, duration and so on.

The application's processes decide this for every request, and make a record only if the conditions of some rule hold.
There are two steps: `prefilter` takes a fraction of a microsecond and allocates nothing; it may say yes too often,
never no too often. `Decision.held` then returns the conditions that hold. A path that is too long for its regexp to be
searched here counts as a match; the engine, which has more time, makes the final decision on paths. The ready rules of
`alarm_mw.requests` are such conditions, with a line of their own.
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

#: How many client addresses are cached with their networks.
CLIENTS = 1024

#: Base classes of every exception: no regexp is meant for their names.
_ROOTS = frozenset({object, BaseException, Exception})

#: Maximum depth of nested exception groups that is searched.
_DEPTH = 10

#: Returns the value of a request header by its name in small letters; None where there is none.
Header = Callable[[str], str | None]


class RequestFacts(Protocol):
    """The facts of a request, from a middleware or an access log."""

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
        """The status of the response; None if none was started."""
        ...

    @property
    def duration(self) -> float | None:
        """Seconds so far; None if unknown."""
        ...

    @property
    def request_size(self) -> int | None:
        """Size of the body in bytes; None if unknown."""
        ...

    @property
    def response_size(self) -> int | None:
        """Size of the response body in bytes; None if unknown."""
        ...

    @property
    def exception(self) -> BaseException | None:
        """The exception that the application raised to the server."""
        ...

    @property
    def client(self) -> str:
        """The client's address without the port; empty if unknown."""
        ...

    @property
    def disconnected(self) -> bool:
        """Whether the client disconnected before the end of the response."""
        ...

    @property
    def unfinished_after(self) -> float | None:
        """The limit in seconds, of some condition, at which it had not ended; None: it has ended."""
        ...


def no_header(_name: str) -> None:  # a Header
    """Return None: nothing is known of the headers."""


class CompiledConditions:
    """The compiled conditions of a rule. Usable from any thread."""

    def __init__(self, conditions: RequestConditions) -> None:
        """Compile the conditions; raise `PatternError` for a wrong regexp, or one without a bounded search time."""
        self.conditions = conditions
        self.key = key_of(conditions)
        self.path = None if conditions.path is None else QuickPattern(conditions.path)
        self._exception = QuickPattern(conditions.exception) if conditions.exception else None
        self._headers = tuple((name, QuickPattern(pattern)) for name, pattern in conditions.headers)
        self._is_wanted_client = lru_cache(CLIENTS)(_networks(conditions.clients)) if conditions.clients else None

    def hold(self, request: RequestFacts, header: Header) -> bool:
        """Return whether all conditions hold, or may hold if the path is too long to be searched here."""
        return (
            self._fits_end(request)
            and self._fits_answer(request)
            and (self.path is None or self.path.may_match(request.path))
            and (self._is_wanted_client is None or self._is_wanted_client(request.client))
            and all(self._fits_header(pattern, header(name)) for name, pattern in self._headers)
        )

    def _fits_end(self, request: RequestFacts) -> bool:
        """Return whether the request is in the required state: ended, disconnected, or still running."""
        asked = self.conditions
        if asked.unfinished_after != request.unfinished_after or (asked.disconnected and not request.disconnected):
            return False
        return asked.exception is None or self._fits_exception(request)

    def _fits_exception(self, request: RequestFacts) -> bool:
        error = request.exception
        # Neither a canceled request nor a worker that must exit.
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
        # Frameworks turn a disconnect into a 500 that nobody received.
        if request.status is None or (request.disconnected and not self.conditions.disconnected):
            return False
        return any(first <= request.status <= last for first, last in self.conditions.statuses)

    def _fits_header(self, pattern: QuickPattern, value: str | None) -> bool:
        return value is not None and pattern.matches_start(value)


def key_of(conditions: RequestConditions) -> str:
    """Return a short key for conditions, the same in every process."""
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
    """Return a function that tests whether an address is in one of these networks."""
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

#: Whether a request that ended in order may concern some rule: method, path, status, seconds, bytes of its body and of
#: the response's (0 where that is not known).
Concerns = Callable[[str, str, int | None, float, int, int], object]


class Decision:
    """All conditions on requests of a configuration. Usable from any thread; does not block."""

    def __init__(self, conditions: Iterable[RequestConditions] = ()) -> None:
        """Compile the conditions that a middleware decides; raise `PatternError` for an unusable regexp."""
        #: Each once.
        self.conditions = tuple(dict.fromkeys(each for each in conditions if not each.access_log))
        self.compiled = tuple(map(CompiledConditions, self.conditions))

    def __bool__(self) -> bool:
        """Return whether there are any conditions."""
        return bool(self.compiled)

    def held(self, request: RequestFacts, header: Header) -> tuple[str, ...]:
        """Return the keys of the conditions that hold for `request`, as far as this can be decided here."""
        return tuple([each.key for each in self.compiled if each.hold(request, header)])

    def slower_than(self, held: Sequence[str]) -> float | None:
        """Return the highest `slower_than` of the conditions with these keys, for the alarm's line to name."""
        limits = [each.conditions.slower_than or 0.0 for each in self.compiled if each.key in held]
        return max(limits, default=0.0) or None


def prefilter(compiled: Iterable[CompiledConditions]) -> Concerns:
    """Return the first step of the decision for requests that ended in order, which tests rare facts first.

    A request that raised an exception, or whose client left, always needs the second step. Each condition is indexed by
    the rarest fact that it requires: a status of 400 or above, a duration, or a size; otherwise by method and path.
    """
    left = [each for each in compiled if _may_end_in_order(each.conditions)]
    if not left:
        return _concerns_nothing
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
    ) -> object:
        if duration > slow or status in statuses or request_size > received or response_size > sent:
            return True
        search = find.get(method, find_other)
        return search is not None and (len(path) > longest or search(path))

    return concerns


def _may_end_in_order(asked: RequestConditions) -> bool:
    return asked.unfinished_after is None and asked.exception is None and not asked.disconnected


def _take(left: list[CompiledConditions], is_one: Callable[[RequestConditions], bool]) -> list[RequestConditions]:
    """Remove and return the conditions in `left` for which `is_one` is true."""
    taken = [each for each in left if is_one(each.conditions)]
    left[:] = [each for each in left if each not in taken]
    return [each.conditions for each in taken]


def _take_least(left: list[CompiledConditions], limit: Callable[[RequestConditions], float | None]) -> float:
    """Remove the conditions in `left` that have this limit, and return the lowest limit; infinity if there is none."""
    limits = map(limit, _take(left, lambda asked: limit(asked) is not None))
    return min((each for each in limits if each is not None), default=math.inf)


def _are_errors(statuses: Sequence[tuple[int, int]]) -> bool:
    return bool(statuses) and all(first >= FIRST_ERROR for first, _ in statuses)


def _numbers(conditions: Iterable[RequestConditions]) -> frozenset[int | None]:
    ranges = [each for asked in conditions for each in asked.statuses]
    return frozenset(status for first, last in ranges for status in range(first, last + 1))


def _by_method(compiled: Sequence[CompiledConditions]) -> dict[str, Callable[[str], object] | None]:
    """Return a path search for each named method, and one for all other methods under an empty name."""
    methods = {"", *(method for each in compiled for method in each.conditions.methods)}
    return {
        method: _path_search([each for each in compiled if method in (each.conditions.methods or methods)])
        for method in methods
    }


def _path_search(compiled: Sequence[CompiledConditions]) -> Callable[[str], object] | None:
    """Return a search that is true for every path that some condition accepts; None if they accept any path."""
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
