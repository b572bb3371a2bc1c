"""The keys of rules about what they measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined, format_report
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.config.tables.measures import keys_of
from alarm_mw.config.toml.from_uwsgi import write_value
from alarm_mw.model.measures import Cardinality, Measure, New, Quantile, Ratio, Spike
from alarm_mw.model.types import FieldCondition, FieldTest, IncidentOptions, RequestConditions

HEAD = 'alarms.mail = "log:"\n'
RULE = "[[rules]]\nname = 'r'\nalarms = 'mail'\n"
LINE = RULE + "pattern = 'login (?P<user>\\S+)'\n"
WITHIN = "within = '5m'\n"


def read(tmp_path: Path, toml: str) -> Examined:
    file = tmp_path / "alarm-mw.toml"
    file.write_text(HEAD + toml)
    return examine(Sources.of_files([str(file)]), {})


@pytest.mark.parametrize(
    ("keys", "measure"),
    [
        ("spike = 3\nat_least = 10\n" + WITHIN, Spike(3.0, 10, 300.0)),
        ("cardinality = '>20'\nfield = 'user'\n" + WITHIN, Cardinality("user", 20, 20, 300.0)),
        ("cardinality = '> 20'\nresolve_below = 5\nfield = 'user'\n" + WITHIN, Cardinality("user", 20, 5, 300.0)),
        (
            "quantile = 0.95\nfield = 'took'\nabove = '2s'\nat_least = 10\n" + WITHIN,
            Quantile(0.95, "took", 2.0, 2.0, 10, 300.0, is_time=True),
        ),
        (
            "quantile = 0.5\nfield = 'size'\nabove = 1000\nresolve_below = 800\nat_least = 10\nwithin = 60\n",
            Quantile(0.5, "size", 1000.0, 800.0, 10, 60.0),
        ),
    ],
)
def test_each_kind_of_measure(tmp_path: Path, keys: str, measure: Measure) -> None:
    """It makes incidents of the rule, with the other keys of incidents, or without."""
    examined = read(tmp_path, LINE + keys + "key = ['user']\nkeep_firing_for = '1m'\n")
    assert examined.problems == ()
    (rule,) = examined.settings.rules
    assert rule.measure == measure
    assert rule.incident == IncidentOptions(("user",), keep_firing_for=60.0)
    assert (rule.count, rule.within) == (1, 0.0)
    assert from_json(to_json(examined.settings)) == examined.settings
    (rule,) = read(tmp_path, LINE + keys).settings.rules
    assert rule.incident == IncidentOptions()


REQUESTS = RULE + "ratio = '>5%'\nat_least = 100\n" + WITHIN


@pytest.mark.parametrize("is_access_log", [False, True])
def test_a_ratio_of_requests(tmp_path: Path, is_access_log: bool) -> None:
    """Without `of`, the matches are compared with all requests of the same kind."""
    request = f"{{ status = '5xx', access_log = {str(is_access_log).lower()} }}"
    examined = read(tmp_path, REQUESTS + f"request = {request}\nresolve_below = '2.5 %'")
    assert examined.problems == ()
    rule, of = examined.settings.rules
    assert rule.measure == Ratio(0.05, 0.025, 100, 300.0)
    assert (of.counts_for, of.request, of.alarms) == ("r", RequestConditions(access_log=is_access_log), ())
    assert [*format_report(examined)][-1] == "ok: 1 alarm, 1 rule"


def test_a_ratio_of_what_is_named(tmp_path: Path) -> None:
    """`of` has the conditions of rules; a table of requests in it may have none."""
    of = "of = { pattern = 'login', level = 'INFO', logger = 'shop', where = { env = 'prod' } }"
    _, found = read(tmp_path, LINE + "ratio = '>5%'\nat_least = 100\nwithin = 60\n" + of).settings.rules
    assert (found.pattern, found.level, found.logger, found.counts_for) == ("login", 20, "shop", "r")
    assert found.fields == (FieldCondition("env", (FieldTest("=", "prod"),)),)
    of = "request = { status = 500, path = '^/api' }\nof = { request = { path = '^/api' } }"
    _, found = read(tmp_path, REQUESTS + of).settings.rules
    assert found.request == RequestConditions(path="^/api")
    _, found = read(tmp_path, REQUESTS + "request = { status = 500 }\nof = { request = {} }").settings.rules
    assert found.request == RequestConditions()


def test_a_quantile_of_all_requests(tmp_path: Path) -> None:
    """A table `request` without conditions means every request, where something is measured."""
    keys = "request = {}\nquantile = 0.95\nfield = 'duration'\nabove = '2s'\nat_least = 10\n" + WITHIN
    examined = read(tmp_path, RULE + keys)
    assert examined.problems == ()
    assert examined.settings.rules[0].request == RequestConditions()


def test_new_values_with_and_without_incidents(tmp_path: Path) -> None:
    """Without what ends an incident, each new value is a message of its own."""
    (rule,) = read(tmp_path, LINE + "key = ['user']\nmax_keys = 7\nnew = '30d'\nlearn_for = '1h'").settings.rules
    assert rule.measure == New(2_592_000.0, 3600.0, ("user",), 7)
    assert rule.incident is None
    (rule,) = read(tmp_path, LINE + "key = ['user']\nnew = '7d'\nresolve_after = '1h'").settings.rules
    assert rule.measure == New(604_800.0, 0.0)
    assert rule.incident == IncidentOptions(("user",), resolve_after=3600.0)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (LINE + "above = 5", "rule 1: 'above' without what it is about, expected one of 'ratio', 'quantile', 'spike'"),
        (LINE + "spike = 3\nat_least = 1", "rule 1: 'spike' without 'within'"),
        (LINE + "spike = 3\nwithin = 60", "rule 1: 'spike' without 'at_least'"),
        (LINE + "spike = 1\nat_least = 1\nwithin = 60", "rule 1: spike: expected float > 1.0"),
        (
            LINE + "spike = 3\nat_least = 1\nwithin = 60\nfield = 'x'",
            "rule 1: 'field' beside 'spike', which has no use",
        ),
        (
            LINE + "spike = 3\nat_least = 1\nwithin = 60\nratio = '>5%'",
            "rule 1: 'spike' beside 'ratio', which has no use",
        ),
        (
            LINE + "spike = 3\nat_least = 1\nwithin = 60\ncount = 5",
            "rule 1: 'count' beside 'spike': expected one of them",
        ),
        (
            LINE + "spike = 3\nat_least = 1\nwithin = 60\nabsent_for = 5",
            "rule 1: 'absent_for' beside 'spike': expected one of them",
        ),
        (LINE + "spike = 3\nat_least = 1\nwithin = 'soon'", "rule 1: within: expected a time such as"),
        (
            LINE + "spike = 3\nat_least = 1\nwithin = true",
            "rule 1: within: expected seconds, or a time such as '1m', got a",
        ),
        (REQUESTS.replace(">5%", "5%") + "request = {}", "rule 1: ratio: expected '>5%', with the sign, got '5%'"),
        (REQUESTS.replace(">5%", ">5") + "request = {}", "rule 1: ratio: expected a share such as '>5%', below 100 %"),
        (
            REQUESTS.replace(">5%", ">100%") + "request = {}",
            "rule 1: ratio: expected a share such as '>5%', below 100 %",
        ),
        (REQUESTS + "request = {}\nresolve_below = '6%'", "rule 1: resolve_below: it is above the value at which the"),
        (
            REQUESTS + "request = {}\nresolve_below = 3",
            "rule 1: resolve_below: expected a share such as '5%', below 100 %",
        ),
        (
            REQUESTS + "pattern = 'x'",
            "rule 1: 'ratio' without 'of', which says among which records matches are counted",
        ),
        (REQUESTS + "pattern = 'x'\nof = {}", "rule 1: of: expected 'pattern', 'request' or 'where'"),
        (
            REQUESTS + "pattern = 'x'\nof = { patern = 'x' }",
            "rule 1: of: unknown key 'patern' (did you mean 'pattern'?)",
        ),
        (REQUESTS + "pattern = 'x'\nof = { pattern = '(' }", "the regexp '(' breaks at its character 1"),
        (REQUESTS + "pattern = 'x'\nof = { pattern = 3 }", "rule 1: of: pattern: expected a string, got an integer"),
        (
            LINE + "ratio = '>5%'\nat_least = 1\nwithin = 60\nkey = ['user']\nof = { pattern = 'x' }",
            "rule 1: of: pattern: it has no group user, which the key of the rule needs",
        ),
        (LINE + "cardinality = 20\nfield = 'user'\nwithin = 60", "rule 1: cardinality: expected str | null, got int"),
        (
            LINE + "cardinality = '>0'\nfield = 'u'\nwithin = 60",
            "rule 1: cardinality: expected a whole number from 1 to",
        ),
        (LINE + "cardinality = '20'\nfield = 'u'\nwithin = 60", "rule 1: cardinality: expected '>20', with the sign"),
        (LINE + "new = '30d'", "rule 1: 'new' without 'key'"),
        (LINE + "new = 'soon'\nkey = ['user']", "rule 1: new: expected a time such as"),
        (LINE + "new = '1d'\nkey = ['user']\nlearn_for = 0", "rule 1: learn_for: expected a time above 0"),
        (
            LINE + "new = '1d'\nkey = ['user']\nflap = { count = 2, within = 60 }",
            "rule 1: 'key' is about incidents: it needs",
        ),
        (
            LINE.replace("name = 'r'\n", "") + "new = '1d'\nkey = ['user']",
            "rule 1: a rule that measures something needs a 'name'",
        ),
    ],
)
def test_mistakes_in_what_is_measured(tmp_path: Path, toml: str, problem: str) -> None:
    """Each has its place and says what was expected."""
    problems = [str(each) for each in read(tmp_path, toml).problems]
    assert [problem in each for each in problems] == [True], problems


@pytest.mark.parametrize(
    "keys",
    [
        {"ratio": ">5%", "resolve_below": "2.5%", "at_least": 100, "within": "5m"},
        {"ratio": ">5%", "at_least": 100, "within": "90s"},
        {"quantile": 0.95, "field": "took", "above": "2s", "resolve_below": "1.5s", "at_least": 10, "within": "1h"},
        {"quantile": 0.5, "field": "size", "above": 1000.0, "at_least": 10, "within": "5m"},
        {"spike": 3.0, "at_least": 10, "within": "1d"},
        {"cardinality": ">20", "field": "user", "within": "5m"},
        {"cardinality": ">20", "field": "user", "resolve_below": "5", "within": "5m"},
        {"key": ("user",), "new": "30d", "learn_for": "1h"},
        {"key": ("user",), "new": "7d"},
    ],
)
def test_what_is_measured_is_shown_as_it_was_written(tmp_path: Path, keys: dict[str, object]) -> None:
    """The keys of a measure are those of the table that it was read from."""
    lines = "".join(f"{key} = {write_value(value)}\n" for key, value in keys.items())
    of = "of = { pattern = 'x' }\n" if "ratio" in keys else ""
    examined = read(tmp_path, LINE + lines + of)
    assert examined.problems == ()
    assert keys_of(examined.settings.rules[0].measure) == keys


def test_an_ordinary_rule_measures_nothing() -> None:
    """It has none of these keys."""
    assert keys_of(None) == {}
