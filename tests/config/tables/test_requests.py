"""Conditions on requests in TOML: what they mean, and what is said of mistakes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.model.types import RequestConditions

Examine = Callable[..., Examined]

ALARM = "[alarms]\na = 'note:text=x'\n"


def conditions(examined: Examined) -> RequestConditions | None:
    assert not examined.problems
    return examined.settings.rules[0].request


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('method = "post", path = "^/upload"', RequestConditions(methods=("POST",), path="^/upload")),
        ('method = ["PUT", "PATCH"]', RequestConditions(methods=("PUT", "PATCH"))),
        ("status = 404", RequestConditions(statuses=((404, 404),))),
        ('status = ["5xx", 404, "410-419"]', RequestConditions(statuses=((500, 599), (404, 404), (410, 419)))),
        ('status = "429"', RequestConditions(statuses=((429, 429),))),
        ("slower_than = 2", RequestConditions(slower_than=2.0)),
        ('slower_than = "1m"', RequestConditions(slower_than=60.0)),
        (
            "request_larger_than = 0, response_larger_than = 5",
            RequestConditions(request_larger_than=0, response_larger_than=5),
        ),
        ("exception = true", RequestConditions(exception="")),
        ('exception = "TimeoutError$"', RequestConditions(exception="TimeoutError$")),
        ('headers = { User-Agent = "bot" }', RequestConditions(headers=(("user-agent", "bot"),))),
        ('client = "10.0.0.0/8"', RequestConditions(clients=("10.0.0.0/8",))),
        ('client = ["192.0.2.1", "::1"]', RequestConditions(clients=("192.0.2.1/32", "::1/128"))),
        ("disconnected = true", RequestConditions(disconnected=True)),
        ("unfinished_after = 30.5", RequestConditions(unfinished_after=30.5)),
        ('access_log = true, status = "5xx"', RequestConditions(statuses=((500, 599),), access_log=True)),
    ],
)
def test_each_key_is_a_condition(examined: Examine, table: str, expected: RequestConditions) -> None:
    """Each key of the table `request` becomes the condition that it names, and needs no regexp beside it."""
    found = examined(toml=f"{ALARM}[[rules]]\nalarms = 'a'\nrequest = {{ {table} }}\n")
    assert conditions(found) == expected
    assert found.settings.rules[0].pattern == ""
    # As the master gets it.
    assert from_json({**to_json(found.settings), "alarms": []}).rules == found.settings.rules


def test_a_regexp_may_stand_beside_it(examined: Examine) -> None:
    """A rule may ask for a regexp in the alarm's line as well, and a table may have a heading of its own."""
    found = examined(
        toml=f"{ALARM}[[rules]]\npattern = 'x'\nalarms = 'a'\ncount = 3\nwithin = '1m'\n[rules.request]\nstatus = 500\n"
    )
    assert conditions(found) == RequestConditions(statuses=((500, 500),))
    assert (found.settings.rules[0].pattern, found.settings.rules[0].count) == ("x", 3)


BAD = """\
[alarms]
a = "note:text=x"
[[rules]]
alarms = "a"
request = "POST"
[[rules]]
alarms = "a"
request = {}
[[rules]]
alarms = "a"
[rules.request]
metod = "POST"
method = ["P OST", "GET"]
path = "a(b"
status = ["6x", "499-400", 5]
slower_than = 0
client = "10.0.0.1/8"
exception = false
unfinished_after = "soon"
[rules.request.headers]
"no name" = "x"
x-y = "^(a+)+$"
[[rules]]
alarms = "a"
request = { status = true, request_larger_than = -1 }
[[rules]]
alarms = "a"
request = { access_log = true, headers = { a = "b" }, exception = true }
[[rules]]
alarms = "a"
request = { access_log = true }
[[rules]]
alarms = "a"
request = { unfinished_after = 1, status = 500 }
[[rules]]
alarms = "a"
"""

BAD_PROBLEMS = """\
a.toml:5: rule 1: request: expected a table, got a string
a.toml:8: rule 2: request: no condition: it would fire for every request
a.toml:12: rule 3: request: unknown key 'metod' (did you mean 'method'?)
a.toml:13: rule 3: request: method: expected a method such as 'POST', got 'P OST'
a.toml:14: rule 3: request: path: the regexp 'a(b' cannot be used at its character 2: missing ), unterminated subpattern
a.toml:15: rule 3: request: 'status' beside 'unfinished_after': it is not known before the request's end
a.toml:15: rule 3: request: status: expected a status such as 404, '5xx' or '400-499', got '6x'
a.toml:15: rule 3: request: status: '499-400' ends before it begins
a.toml:15: rule 3: request: status: expected a status such as 404, '5xx' or '400-499', got '5'
a.toml:16: rule 3: request: 'slower_than' beside 'unfinished_after': it is not known before the request's end
a.toml:16: rule 3: request: slower_than: expected a time above 0 and of at most 30 days, got 0
a.toml:17: rule 3: request: client: expected an address or a network: 10.0.0.1/8 has host bits set
a.toml:18: rule 3: request: exception: expected true, or a regexp
a.toml:19: rule 3: request: unfinished_after: expected a time such as '90s', '10m', '1h' or '1d', got 'soon'
a.toml:21: rule 3: request: headers: 'no name' is no name of a header
a.toml:22: rule 3: request: headers: x-y: the regexp '^(a+)+$' cannot be used: its repeats could take too long, and hold up the application
a.toml:25: rule 4: request: status: expected int | str | array, got bool
a.toml:25: rule 4: request: request_larger_than: expected int >= 0
a.toml:28: rule 5: request: 'exception' beside 'access_log': an access log does not contain it
a.toml:28: rule 5: request: 'headers' beside 'access_log': an access log does not contain it
a.toml:31: rule 6: request: no condition: it would fire for every request
a.toml:34: rule 7: request: 'status' beside 'unfinished_after': it is not known before the request's end
a.toml:35: rule 8: no regexp, expected 'pattern' or 'exclude', or 'request' or 'where'
"""  # noqa: E501  # as they are printed


def test_all_mistakes_are_told(examined: Examine) -> None:
    """Every mistake is reported at once, with its line, what is wrong, and what was expected."""
    found = [str(problem) for problem in examined(toml=BAD).problems]
    assert found == BAD_PROBLEMS.splitlines()


def test_what_is_switched_off_is_no_condition(examined: Examine) -> None:
    """A table that switches conditions off, or names no methods, is one without conditions."""
    toml = f"{ALARM}[[rules]]\nalarms = 'a'\nrequest = {{ disconnected = false, method = [], headers = {{}} }}\n"
    assert [str(problem) for problem in examined(toml=toml).problems] == [
        "a.toml:5: rule 1: request: no condition: it would fire for every request"
    ]
