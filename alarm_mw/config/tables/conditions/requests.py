"""A rule's conditions on requests, from its table ``request``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import structs

from alarm_mw.config.tables.tree import Table, read_struct
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.errors import PatternError
from alarm_mw.model.types import RequestConditions
from alarm_mw.patterns.request_pattern import QuickPattern

#: RFC 9110, section 15: three digits, of which the first is 1 to 5; others are in use.
_STATUS = r"([1-9])xx|([1-9]\d\d)(?:-([1-9]\d\d))?"

#: RFC 9110, section 5.6.2.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

#: Conditions that an access log cannot answer.
_NOT_IN_ACCESS_LOGS = ("request_larger_than", "exception", "headers", "disconnected", "unfinished_after")

#: Conditions that are known only at the end of a request.
_AT_THE_END = ("status", "slower_than", "response_larger_than", "exception", "disconnected")

Bytes = Annotated[int, msgspec.Meta(ge=0)]


class RequestKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a rule's table ``request``."""

    method: Annotated[
        str | tuple[str, ...], msgspec.Meta(description='a method such as `"POST"`, or an array of methods')
    ] = ()
    path: Annotated[
        str | None, msgspec.Meta(description="a regexp of Python's, searched in the path without the query string")
    ] = None
    status: Annotated[
        int | str | tuple[int | str, ...],
        msgspec.Meta(description='the response\'s status: `404`, `"5xx"`, `"400-499"`, or an array of these'),
    ] = ()
    slower_than: Annotated[
        float | str | None, msgspec.Meta(description='it took longer than this: seconds, or a time such as `"1m"`')
    ] = None
    request_larger_than: Annotated[
        Bytes | None, msgspec.Meta(description="`Content-Length` is more than this number of bytes")
    ] = None
    response_larger_than: Annotated[
        Bytes | None, msgspec.Meta(description="the response's body has more than this number of bytes")
    ] = None
    exception: Annotated[
        bool | str | None,
        msgspec.Meta(
            description="`true`: the application raised an exception to the server; or a regexp of Python's, searched "
            "in the qualified names of its class and of that one's bases"
        ),
    ] = None
    headers: Annotated[
        dict[str, str],
        msgspec.Meta(
            description='request headers and regexps of Python\'s that are searched in their values: `{ "user-agent" = '
            '"bot" }`; the values stay in the application'
        ),
    ] = {}
    client: Annotated[
        str | tuple[str, ...],
        msgspec.Meta(description='the client\'s address, a network such as `"10.0.0.0/8"`, or an array of these'),
    ] = ()
    disconnected: Annotated[
        bool, msgspec.Meta(description="`true`: the client has disconnected before the end of the response")
    ] = False
    unfinished_after: Annotated[
        float | str | None,
        msgspec.Meta(description="it has not ended within this number of seconds; fires once, while it is running"),
    ] = None
    access_log: Annotated[
        bool,
        msgspec.Meta(description="`true`: read from [the lines of an access log](#access-logs), not by the middleware"),
    ] = False


def read_request(rule: Table, *, may_be_any: bool = False) -> RequestConditions | None:
    """Return the conditions in a rule's table, None if there are none, or if they are wrong, which is then reported.

    With `may_be_any`, a table without conditions means every request.
    """
    table = rule.table("request", f"{rule.name}: request")
    if table is None:
        return None
    table.refuse_unknown(RequestKeys.__struct_fields__)
    _refuse_contradictions(table, may_be_any=may_be_any)
    # Unknown keys do not keep the others from being checked.
    known = {key: value for key, value in table.values.items() if key in RequestKeys.__struct_fields__}
    keys = read_struct(RequestKeys, structs.replace(table, values=known))
    return None if keys is None else _conditions(table, keys)


def _conditions(table: Table, keys: RequestKeys) -> RequestConditions:
    """Return the conditions of the keys, whose values are of the right types; report what is wrong in them."""
    return RequestConditions(
        methods=tuple(_methods(table, keys)),
        path=_regexp(table, keys.path, "path"),
        statuses=tuple(_statuses(table, keys)),
        slower_than=_seconds(table, "slower_than", keys.slower_than),
        request_larger_than=keys.request_larger_than,
        response_larger_than=keys.response_larger_than,
        exception=_exception(table, keys),
        headers=tuple(_headers(table, keys)),
        clients=tuple(_clients(table, keys)),
        disconnected=keys.disconnected,
        unfinished_after=_seconds(table, "unfinished_after", keys.unfinished_after),
        access_log=keys.access_log,
    )


def _refuse_contradictions(table: Table, *, may_be_any: bool) -> None:
    given = {key: value for key, value in table.values.items() if value is not False and value not in ([], {})}
    if not set(given) - {"access_log"} and not may_be_any:
        table.wrong("no condition: it would fire for every request")
    if given.get("access_log"):
        _refuse(table, _NOT_IN_ACCESS_LOGS, "beside 'access_log': an access log does not contain it")
    if "unfinished_after" in given:
        _refuse(table, _AT_THE_END, "beside 'unfinished_after': it is not known before the request's end")


def _refuse(table: Table, keys: Iterable[str], why: str) -> None:
    for key in keys:
        if table.values.get(key, False) is not False:
            table.wrong(f"{key!r} {why}", key)


def _several(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _methods(table: Table, keys: RequestKeys) -> Iterator[str]:
    for method in map(str, _several(keys.method)):
        if not re.fullmatch(_WORD, method):
            table.wrong(f"method: expected a method such as 'POST', got {method!r}", "method")
        yield method.upper()


def _statuses(table: Table, keys: RequestKeys) -> Iterator[tuple[int, int]]:
    for status in map(str, _several(keys.status)):
        found = re.fullmatch(_STATUS, status)
        if found is None:
            table.wrong(f"status: expected a status such as 404, '5xx' or '400-499', got {status!r}", "status")
            continue
        first = int(found[1] or 0) * 100 or int(found[2])
        last = first + 99 if found[1] else int(found[3] or first)
        if last < first:
            table.wrong(f"status: {status!r} ends before it begins", "status")
        yield first, last


def _seconds(table: Table, key: str, value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        return read_duration(value)
    except ValueError as error:
        table.wrong(f"{key}: {error}", key)
        return None


def _exception(table: Table, keys: RequestKeys) -> str | None:
    if isinstance(keys.exception, str):
        return _regexp(table, keys.exception, "exception")
    if keys.exception is False:
        table.wrong("exception: expected true, or a regexp", "exception")
    return "" if keys.exception else None


def _headers(table: Table, keys: RequestKeys) -> Iterator[tuple[str, str]]:
    for name, pattern in keys.headers.items():
        if not re.fullmatch(_WORD, name):
            table.wrong(f"headers: {name!r} is no name of a header", "headers", name)
        _regexp(table, pattern, "headers", name)
        yield name.lower(), pattern


def _regexp(table: Table, pattern: str | None, *path: str) -> str | None:
    """Return the regexp after checking that it can run in the application's processes."""
    if pattern is not None:
        try:
            QuickPattern(pattern)
        except PatternError as error:
            at = "" if error.position is None else f" at its character {error.position + 1}"
            table.wrong(f"{': '.join(path)}: the regexp {pattern!r} cannot be used{at}: {error.text}", *path)
    return pattern


def _clients(table: Table, keys: RequestKeys) -> Iterator[str]:
    for client in map(str, _several(keys.client)):
        try:
            yield str(ipaddress.ip_network(client))
        except ValueError as error:
            table.wrong(f"client: expected an address or a network: {error}", "client")
