"""Conditions on requests: what each asks, and that the screen before them loses no request."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.request_rules import Decision, class_names, key_of, prefilter
from alarm_mw.model.errors import PatternError
from alarm_mw.model.types import RequestConditions as Asked
from alarm_mw.patterns.request_pattern import LEAST, QuickPattern


@dataclass(frozen=True)
class Facts:
    """An ended request, and nothing remarkable about it."""

    method: str = "GET"
    path: str = "/"
    status: int | None = 200
    duration: float | None = 0.01
    request_size: int | None = 0
    response_size: int | None = 100
    exception: BaseException | None = None
    client: str = "192.0.2.1"
    disconnected: bool = False
    unfinished_after: float | None = None


class PaymentError(Exception):
    pass


class CardError(PaymentError):
    pass


def holds(asked: Asked, request: Facts, headers: dict[str, str] | None = None) -> bool:
    return bool(Decision([asked]).held(request, (headers or {}).get))


def no_header(name: str) -> None:
    return None


def concerns(decision: Decision, request: Facts) -> bool:
    return bool(
        prefilter(decision.compiled)(
            request.method,
            request.path,
            request.status,
            request.duration or 0.0,
            request.request_size or 0,
            request.response_size or 0,
        )
    )


IN = Facts(path="/upload/new", method="POST", status=503, duration=2.5, request_size=2000, response_size=3000)


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        (Asked(methods=("PUT", "POST")), {"method": "GET"}),
        (Asked(path="^/up.*w$"), {"path": "/other/upload/new"}),
        (Asked(statuses=((500, 502), (503, 503))), {"status": 504}),
        (Asked(statuses=((500, 599),)), {"status": None}),
        (Asked(slower_than=2.0), {"duration": 2.0}),
        (Asked(slower_than=2.0), {"duration": None}),
        (Asked(request_larger_than=1999), {"request_size": 1999}),
        (Asked(response_larger_than=1999), {"response_size": None}),
        (Asked(clients=("192.0.2.0/24",)), {"client": "198.51.100.1"}),
        (Asked(clients=("192.0.2.1",)), {"client": ""}),
        (Asked(slower_than=1.0), {"unfinished_after": 2.0}),
    ],
)
def test_each_condition_asks_for_one_fact(asked: Asked, other: dict[str, Any]) -> None:
    """A condition holds for the requests that it describes, and for no other."""
    assert holds(asked, IN)
    assert not holds(asked, replace(IN, **other))


def test_all_conditions_must_hold() -> None:
    """A request that fails one of several conditions does not fulfil them."""
    asked = Asked(methods=("POST",), path="^/upload", slower_than=2.0)
    assert holds(asked, IN)
    assert not holds(asked, replace(IN, duration=1.0))


def test_a_header_is_searched_by_its_name() -> None:
    """A condition on a header holds where the request has that header, and its value matches."""
    asked = Asked(headers=(("user-agent", "curl/[0-9]"), ("x-debug", "")))
    assert holds(asked, IN, {"user-agent": "curl/8", "x-debug": "1"})
    assert not holds(asked, IN, {"user-agent": "curl", "x-debug": "1"})
    assert not holds(asked, IN, {"user-agent": "curl/8"})


@pytest.mark.parametrize("client", ["::ffff:192.0.2.1", "192.0.2.1", "2001:db8::7"])
def test_a_client_is_known_in_either_family(client: str) -> None:
    """An IPv4 client is the same one on a socket of both families."""
    assert holds(Asked(clients=("192.0.2.0/30", "2001:db8::/32")), replace(IN, client=client))


def test_an_exception_is_known_by_its_class_and_its_bases() -> None:
    """A regexp for exceptions sees qualified names, those of the bases and of a group's members too."""
    error = CardError("no funds")
    assert holds(Asked(exception=""), replace(IN, exception=error))
    assert holds(Asked(exception=r"\.PaymentError$"), replace(IN, exception=error))
    assert not holds(Asked(exception="^Exception$"), replace(IN, exception=error))
    assert holds(Asked(exception="^KeyError$"), replace(IN, exception=KeyError("x")))
    assert not holds(Asked(exception="KeyError"), replace(IN, exception=error))
    group = ExceptionGroup("both", [ExceptionGroup("inner", [error]), ValueError()])
    assert holds(Asked(exception="PaymentError"), replace(IN, exception=group))
    assert not holds(Asked(exception=""), IN)


@pytest.mark.parametrize("facts", [{"status": 500}, {"duration": 3.0}, {"method": "DELETE", "path": "/admin"}])
def test_the_prefilter_asks_for_what_is_rare_first(facts: dict[str, Any]) -> None:
    """Rules on what has gone wrong concern the requests in which it has, and not one that ended in order."""
    asked = [Asked(exception=""), Asked(disconnected=True), Asked(statuses=((500, 599),)), Asked(slower_than=2.0)]
    decision = Decision([*asked, Asked(path="^/admin", methods=("DELETE",))])
    assert not concerns(decision, Facts())
    assert concerns(decision, replace(Facts(), **facts))


def test_a_bottomless_group_is_not_searched_to_its_end() -> None:
    """Groups in groups are looked into to a limit."""
    group: Exception = CardError()
    for _ in range(20):
        group = ExceptionGroup("more", [group])
    assert not any("CardError" in name for name in class_names(group))


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit()])
def test_what_is_no_failure_is_no_exception(error: BaseException) -> None:
    """A request that was cancelled, and a worker that is told to exit, are no unhandled exceptions."""
    assert not holds(Asked(exception=""), replace(IN, exception=error))


def test_what_a_client_that_left_causes_is_not_the_applications_fault() -> None:
    """The exception and the status of a request whose client has left count only where that is asked for."""
    left = replace(IN, exception=OSError("client disconnected"), disconnected=True)
    assert not holds(Asked(exception=""), left)
    assert not holds(Asked(statuses=((500, 599),)), left)
    assert holds(Asked(disconnected=True), left)
    assert holds(Asked(disconnected=True, exception="OSError", statuses=((500, 599),)), left)
    assert holds(Asked(slower_than=2.0), left)
    assert not holds(Asked(disconnected=True), IN)


def test_a_request_that_does_not_end_is_told_once_for_each_limit() -> None:
    """At each limit only the rules with that very limit hold."""
    ten, minute = Asked(unfinished_after=10.0), Asked(unfinished_after=60.0, path="^/upload")
    decision = Decision([minute, ten, Asked(slower_than=1.0)])
    assert decision.held(replace(IN, unfinished_after=10.0), no_header) == (key_of(ten),)
    assert decision.held(replace(IN, unfinished_after=60.0), no_header) == (key_of(minute),)
    assert not concerns(Decision([ten]), replace(IN, duration=100.0))


def test_a_path_that_is_too_long_is_left_to_the_engine() -> None:
    """Of a path beyond what may be searched in the application, the answer is that it may match."""
    asked = Asked(path="a.*b")
    limit = QuickPattern("a.*b").limit
    fits, beyond = Facts(path="/" + "a" * (limit - 1)), Facts(path="/" + "a" * limit)
    assert not holds(asked, fits)
    assert holds(asked, beyond)
    assert not concerns(Decision([asked]), fits)
    assert concerns(Decision([asked]), beyond)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*b", "a.*b.*c.*d"])
def test_a_regexp_that_could_hold_the_application_is_refused(pattern: str) -> None:
    """What runs in the application is known beforehand to end in time."""
    with pytest.raises(PatternError, match="hold up the application"):
        QuickPattern(pattern)


@pytest.mark.parametrize("pattern", ["(", "(?<=a+)b", "a{99999999999}", "(" * 5000 + ")" * 5000])
def test_a_wrong_regexp_is_refused(pattern: str) -> None:
    """A regexp that Python refuses is refused here, with Python's reason."""
    with pytest.raises(PatternError):
        QuickPattern(pattern)


def test_access_logs_and_no_conditions_concern_no_middleware() -> None:
    """A rule on access logs does not make a middleware's records, and neither does an empty configuration."""
    for decision in (Decision(), Decision([Asked(access_log=True, methods=("POST",))])):
        assert not decision
        assert not concerns(decision, IN)
        assert decision.held(IN, no_header) == ()
    assert Decision([Asked(methods=("POST",))])


def test_the_same_conditions_are_decided_once() -> None:
    """Two rules with the same conditions are one key."""
    assert len(Decision([Asked(methods=("POST",)), Asked(methods=("POST",))]).held(IN, no_header)) == 1


def test_the_line_can_name_the_limit() -> None:
    """The highest limit of those that a request has passed can be told."""
    decision = Decision([Asked(slower_than=1.0), Asked(slower_than=2.0), Asked(slower_than=9.0)])
    assert decision.slower_than(decision.held(IN, no_header)) == 2.0
    assert decision.slower_than(()) is None


paths = st.sampled_from(["/", "", "/upload", "/upload/x", "/api/v1", "/API", "/a\nb", "/" + "a" * 400])
regexps = st.sampled_from(["^/up", "/api", "(?i)/api", r"(/)api\1?", "a.*b", "^$", "(?P<x>u)pload", "", r"/a\sb"])
conditions = st.builds(
    Asked,
    methods=st.sampled_from([(), ("GET",), ("POST", "PUT")]),
    path=st.none() | regexps,
    statuses=st.sampled_from([(), ((500, 599),), ((404, 404), (200, 299)), ((400, 499),)]),
    slower_than=st.none() | st.sampled_from([0.5, 2.0]),
    request_larger_than=st.none() | st.sampled_from([0, 100]),
    response_larger_than=st.none() | st.sampled_from([0, 100]),
    exception=st.sampled_from([None, "", "Payment", "Key"]),
    headers=st.sampled_from([(), (("x", "1"),)]),
    clients=st.sampled_from([(), ("192.0.2.1",)]),
    disconnected=st.booleans(),
)
requests = st.builds(
    Facts,
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=paths,
    status=st.sampled_from([None, 200, 404, 500]),
    duration=st.sampled_from([0.1, 1.0, 3.0]),
    request_size=st.sampled_from([0, 50, 200]),
    response_size=st.sampled_from([0, 50, 200]),
    exception=st.sampled_from([None, CardError(), KeyError(), SystemExit()]),
    client=st.sampled_from(["", "192.0.2.1"]),
    disconnected=st.booleans(),
)


def test_a_regexp_with_numbers_of_groups_is_searched_alone() -> None:
    """Regexps that cannot stand in one alternation with others are looked for all the same."""
    decision = Decision([Asked(path=r"/(a|b)\1"), Asked(path="(?i)/C$")])
    assert [concerns(decision, Facts(path=path)) for path in ("/aa", "/c", "/ab", "/cc")] == [True, True, False, False]


@given(st.lists(conditions, max_size=6), requests)
def test_the_prefilter_loses_no_request(asked: list[Asked], request: Facts) -> None:
    """Where the conditions of some rule hold for a request that ended in order, the prefilter has said yes."""
    decision = Decision(asked)
    held = decision.held(request, {"x": "1"}.get)
    assert set(held) == {key_of(each) for each in asked if holds(each, request, {"x": "1"})}
    if held and request.exception is None and not request.disconnected:
        assert concerns(decision, request)


@pytest.mark.parametrize("pattern", ["x.*y", ".*upload.*", r"^/a/.*\.(js|css).*$"])
def test_usual_regexps_are_taken(pattern: str) -> None:
    """What people write may look at a usual path whole."""
    assert QuickPattern(pattern).limit >= LEAST


@given(st.sampled_from([".*a", "a.*", ".*a.*", "a|b.*", r"a\.*", "a[.*]b.*", ".*", "(?s)a.*"]), st.text("ab.\n"))
def test_what_is_left_out_makes_no_difference(pattern: str, text: str) -> None:
    """A regexp that was shortened finds the same texts."""
    assert QuickPattern(pattern).matches_start(text) == bool(re.search(pattern, text))
