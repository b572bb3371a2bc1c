"""Rules on requests in the engine: by a middleware's records, and by the lines of access logs."""

from __future__ import annotations

import time

import pytest

from alarm_mw.engine.engine import MAX_COST, Engine
from alarm_mw.engine.request_rules import key_of
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Reason, Record, RequestConditions, Rule
from alarm_mw.patterns.bounded_pattern import RULE_TIMEOUT
from alarm_mw.patterns.literal_finder import MakeFinder, PlainFinder, literal_finder
from alarm_mw.patterns.prefilter import Prefilter
from alarm_mw.patterns.request_pattern import QuickPattern

UPLOADS = RequestConditions(methods=("POST",), path="^/upload")
ERRORS = RequestConditions(statuses=((500, 599),), access_log=True)
ACCESS = b'127.0.0.1 - - [24/Nov/2026:18:25:28 +0000] "GET /%s HTTP/1.1" %d 6 "-" "curl"\n'


def engine(*rules: Rule, finder: MakeFinder = literal_finder) -> Engine:
    compiled = [compile_rule(rule) for rule in rules]
    return Engine(compiled, Prefilter(compiled, finder), ("a", "b"), alarm_freq=0.0, alarm_msg_size=8192)


def record(message: bytes, source: str = "wsgi", path: str = "/upload", held: tuple[str, ...] = ()) -> Record:
    return Record(message, source, 1000.0, "k", fields={"path": path}, held=held)


def fired(engine: Engine, record: Record) -> list[tuple[str, str]]:
    return [(firing.alarm, firing.rule) for firing in engine.evaluate(record, 0.0).firings]


@pytest.mark.parametrize("finder", [literal_finder, PlainFinder])
def test_a_middlewares_record_reaches_the_rules_it_names(finder: MakeFinder) -> None:
    """A rule on requests fires for the record that the middleware made for it, and for nothing else."""
    on_uploads = engine(Rule("", ("a",), request=UPLOADS), Rule("ERROR", ("b",)), finder=finder)
    line = b"Request: POST /upload was answered with 200\n"
    assert fired(on_uploads, record(line, held=(key_of(UPLOADS), "of another rule"))) == [
        ("a", "request: methods=('POST',) path=^/upload")
    ]
    for other in (record(line), record(b"", held=()), record(line, "stdout")):
        assert fired(on_uploads, other) == []
    assert fired(on_uploads, record(b"ERROR\n", "stdout")) == [("b", "ERROR")]


def test_such_rules_cost_other_lines_nothing() -> None:
    """Rules on requests are nothing that the prefilter looks for, whether they have a regexp or not."""
    prefilter = Prefilter([compile_rule(Rule(pattern, ("a",), request=UPLOADS)) for pattern in ("", "POST")])
    assert prefilter.judges_every_line == ()
    assert not prefilter.records.may_concern(None, "")
    assert not prefilter.records.may_match("POST /upload")
    assert prefilter.scan(b"POST /upload\n" * 3) == []


def test_a_regexp_beside_the_conditions_is_searched_in_the_line() -> None:
    """Where a rule has both, both have to match, and an exclusion can be one for some requests."""
    both = engine(Rule("answered with 5", ("a",), request=UPLOADS))
    assert fired(both, record(b"answered with 500\n", held=(key_of(UPLOADS),)))
    assert not fired(both, record(b"answered with 200\n", held=(key_of(UPLOADS),)))
    excluding = engine(Rule("", (), excludes=True, request=UPLOADS), Rule("answered", ("b",)))
    assert excluding.evaluate(record(b"answered\n", held=(key_of(UPLOADS),)), 0.0).skipped is Reason.EXCLUDED
    assert fired(excluding, record(b"answered\n"))


def test_a_long_path_is_judged_by_the_engine() -> None:
    """Where the application could only say "maybe", the engine searches the path itself."""
    conditions = RequestConditions(path="a.*b")
    on_path = engine(Rule("", ("a",), request=conditions))
    long = "a" * (QuickPattern("a.*b").limit + 1)
    assert fired(on_path, record(b"x\n", path=long + "b", held=(key_of(conditions),)))
    assert not fired(on_path, record(b"x\n", path=long, held=(key_of(conditions),)))


def test_a_path_that_takes_too_long_is_cut_off_and_counted() -> None:
    """A path made to hold the engine is cut off; the rule is named, and switched off when that goes on."""
    conditions = RequestConditions(path="a.*a.*$b")
    on_path = engine(Rule("", ("a",), request=RequestConditions(path="(?:a.*b|x.*y)")))
    conditions = on_path.rule(0).request or conditions
    slow = record(b"x\n", path="ax" * 150_000, held=(key_of(conditions),))
    for _ in range(round(MAX_COST / RULE_TIMEOUT)):
        began = time.monotonic()
        verdict = on_path.evaluate(slow, 0.0)
        assert time.monotonic() - began < 5.0
        assert (verdict.cut_off, verdict.skipped) == ((0,), Reason.RULE_TIMEOUT)
    assert on_path.is_switched_off(0)
    assert on_path.evaluate(slow, 0.0).cut_off == ()


@pytest.mark.parametrize("finder", [literal_finder, PlainFinder])
def test_a_rule_on_access_logs_reads_their_lines(finder: MakeFinder) -> None:
    """A rule with ``access_log`` fires for the lines of requests that fulfil its conditions, wherever they are seen."""
    on_errors = engine(Rule("", ("a",), request=ERRORS), finder=finder)
    for source in ("stdout", "logging"):
        assert fired(on_errors, record(ACCESS % (b"", 503), source))
        assert not fired(on_errors, record(ACCESS % (b"", 200), source))
    assert not fired(on_errors, record(b"503\n", "stdout"))
    assert fired(on_errors, record(b"two lines\n" + ACCESS % (b"", 503)))


def test_a_line_that_the_screen_is_sure_of_is_still_read() -> None:
    """That the screen finds an access line never says that the request fulfils the conditions."""
    slow = RequestConditions(path="^/only$", access_log=True)
    on_path = engine(Rule("", ("a",), request=slow), Rule("curl", ("b",), request=slow))
    lines = ACCESS % (b"other", 200) + ACCESS % (b"only", 200)
    hits = on_path.prefilter.scan(lines)
    assert [hit.certain for hit in hits] == [(), ()]
    found = [
        on_path.evaluate(record(lines[hit.start : hit.end], "stdout"), 0.0, hit.rules, hit.certain).matched
        for hit in hits
    ]
    assert found == [(), ("a", "b")]


def test_an_access_line_is_no_record_of_the_middleware() -> None:
    """One request does not fire a rule twice: a rule reads the access log or the middleware's records."""
    on_errors = engine(Rule("", ("a",), request=ERRORS), Rule("", ("b",), request=UPLOADS))
    assert fired(on_errors, record(b"x\n", held=(key_of(ERRORS),))) == []
    assert [alarm for alarm, _ in fired(on_errors, record(ACCESS % (b"", 500), "stdout"))] == ["a"]


def test_requests_are_counted_by_their_conditions() -> None:
    """Thresholds of two rules on requests with the same alarm are counted apart."""
    slow = RequestConditions(slower_than=2.0)
    both = engine(
        Rule("", ("a",), request=UPLOADS, count=2, within=60.0), Rule("", ("a",), request=slow, count=2, within=60.0)
    )
    assert not fired(both, record(b"1\n", held=(key_of(UPLOADS),)))
    assert not fired(both, record(b"2\n", held=(key_of(slow),)))
    assert fired(both, record(b"3\n", held=(key_of(slow),)))


def test_a_flood_of_access_lines_is_judged_line_by_line() -> None:
    """What the regexps alone say does not settle a line that a rule on requests may match."""
    on_errors = engine(Rule("", ("a",), request=ERRORS), Rule("curl", ("b",)))
    assert on_errors.confirmed_rules((0, 1), (), ACCESS % (b"", 503)) is None
    assert on_errors.confirmed_rules((1,), (), ACCESS % (b"", 503)) == (1,)
