"""A rule written as TOML is the same rule when it is read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from alarm_mw.config.load import examine
from alarm_mw.config.report import format_report
from alarm_mw.config.sources import Sources
from alarm_mw.config.toml.from_rule import rule_to_toml
from alarm_mw.model.types import NOWHERE, IncidentOptions, Rule, TimeInterval

HEAD = 'alarms = { mail = "log:", sms = "log:" }\n'


def read(text: str) -> tuple[Rule, ...]:
    """Return the rules of a file, without their places."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "alarm-mw.toml")
        file.write_text(HEAD + text)
        examined = examine(Sources.of_files([str(file)]), {})
    assert not examined.problems, (text, format_report(examined))
    return tuple(structs.replace(rule, where=NOWHERE) for rule in examined.settings.rules)


def written(rules: tuple[Rule, ...]) -> str:
    rule, *others = rules
    resolve = next((each for each in others if each.resolves), None)
    of = next((each for each in others if each.counts_for), None)
    return rule_to_toml(rule, resolve, of)


texts = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=8)
words = st.text("abcz", min_size=1, max_size=5)
times = st.sampled_from(["1s", "90s", "5m", "36h", "30d", "1.5h"])
statuses = st.sampled_from(["404", '"5xx"', '"500-599"', '"400-499"', '"500-503"', '[404, "5xx"]', "[]"])
regexps = words.map(lambda word: f"{word} (?P<db>\\S+)")


@st.composite
def tables(draw: st.DrawFn) -> str:
    """Return a rule as somebody writes it, with any of its keys."""

    def maybe(*lines: str) -> list[str]:
        return [draw(st.sampled_from(lines))] if draw(st.booleans()) else []

    time = draw(times)
    conditions = maybe(f"status = {draw(statuses)}") + maybe("slower_than = 2.5", 'slower_than = "1m"')
    conditions += maybe('method = "post"', 'method = ["PUT", "POST"]') + maybe("path = '^/a\\d$'")
    conditions += maybe("exception = true", "exception = 'Time.*'") + maybe("request_larger_than = 5")
    conditions += maybe('headers = { "user-agent" = "bot" }') + maybe('client = "10.0.0.0/8"', "disconnected = true")
    lines = [f"name = '{draw(words)}'", f"pattern = '{draw(regexps)}'", 'alarms = ["mail", "sms"]']
    lines += maybe("level = 'ERROR'", "level = 41", "level = 'NOTSET'", "level = 'WARN'") + maybe("logger = 'a.b'")
    lines += maybe("multiline = true") + maybe("context = { before = 3 }", "context = { after = 2, before = 1 }")
    lines += maybe("where = { a = 'x', b.c = ['~^x', '!=y', 5], d = '>=2.5', e = true, f = '!' }")
    lines += maybe(f"labels = {{ severity = 'critical', team = '{draw(words)}' }}") + maybe("scope = 'machine'")
    lines += maybe('fingerprint = ["exception", "path"]')
    has_request = draw(st.booleans())
    if conditions and has_request:
        lines.append(f"request = {{ {', '.join(conditions)} }}")
    incident = [f"resolve_after = '{time}'", "key = ['db']", *maybe("max_keys = 7")]
    incident += maybe(f"flap = {{ count = 4, within = '{time}' }}")
    kinds = [
        [],
        [f"count = 3\nwithin = '{time}'"],
        incident,
        [*incident, f"count = 3\nwithin = '{time}'"],
        [*incident, "resolve = 'back (?P<db>\\S+)'", *maybe(f"keep_firing_for = '{time}'")],
        [f"absent_for = '{time}'", *maybe("grace = '1h'"), *maybe("armed = 'first'"), *maybe("key = ['db']")][:3],
        ["schedule = '0 3 * * *'", "grace = '1h'", *maybe("timezone = 'Europe/Berlin'"), *maybe("armed = 'first'")],
        [
            "ratio = '>7.5%'",
            "at_least = 9",
            f"within = '{time}'",
            *maybe("resolve_below = '3%'"),
            "of = { pattern = 'x' }",
        ],
        ["ratio = '>5%'", "at_least = 9", f"within = '{time}'", "of = { where = { a = 'b' }, level = 'ERROR' }"],
        [
            "quantile = 0.95",
            "field = 'db'",
            "above = 2.5",
            "at_least = 9",
            f"within = '{time}'",
            *maybe("resolve_below = 0"),
        ],
        ["spike = 3.5", "at_least = 9", f"within = '{time}'", "key = ['db']"],
        ["cardinality = '>20'", "field = 'db'", f"within = '{time}'", *maybe("resolve_below = 5")],
        ["new = '30d'", "key = ['db']", *maybe("max_keys = 9"), *maybe("learn_for = '1d'")],
    ]
    return "\n".join(["[[rules]]", *lines, *draw(st.sampled_from(kinds))])


@given(tables())
def test_what_is_written_is_the_same_rule(table: str) -> None:
    """Whatever keys a rule has, what the page shows of it is accepted, and means the same."""
    rules = read(table)
    assert read(written(rules)) == rules


@given(texts)
@example("${HOME}")
@example("it's \\d")
def test_any_text_can_be_written(text: str) -> None:
    """Also quotes, backslashes and what looks like a variable."""
    rule = Rule("x", ("mail",), labels=(("note", f"x{text}"),))
    assert read(rule_to_toml(rule)) == (rule,)


RATIO = "name = 'e'\nratio = '>5%'\nat_least = 9\nwithin = '5m'\nalarms = 'mail'\n"


@pytest.mark.parametrize(
    "table",
    [
        "exclude = 'healthz'",
        "request = { status = '5xx' }\nalarms = 'mail'",
        "request = { status = [404, '500-599'], access_log = true }\nalarms = 'mail'",
        "request = { unfinished_after = 30 }\nalarms = 'mail'",
        "request = { response_larger_than = 0 }\nalarms = 'mail'",
        "where = { status = '>=500' }\nalarms = 'mail'",
        f"request = {{ status = '5xx' }}\n{RATIO}",
        f"request = {{ path = '^/' }}\n{RATIO}of = {{ request = {{ method = 'GET' }} }}",
        "pattern = 'a\\x41'\nsyntax = 'pcre'\nalarms = 'mail'",
    ],
)
def test_rules_of_other_kinds(table: str) -> None:
    """Exclusions, and rules on requests and fields, which may have no regexp."""
    rules = read(f"[[rules]]\n{table}")
    assert read(written(rules)) == rules


def test_what_other_tables_say_is_a_comment() -> None:
    """Escalations and time intervals have tables of their own; a byte that is not UTF-8 cannot be in TOML."""
    options = IncidentOptions(resolve_after=60.0, after={"sms": 900.0}, mute=(TimeInterval(),))
    text = rule_to_toml(Rule("down", ("mail", "sms"), name="db", incident=options, logger="\udcff"))
    assert text.splitlines()[-3:] == [
        "alarms = ['mail']".replace("'", '"'),
        "# escalation: sms after 15m",
        "# mute_time_intervals: see the configuration",
    ]
    assert "# logger: the byte 0xff is not UTF-8 there, and TOML must be UTF-8" in text
    assert [rule.alarms for rule in read(text)] == [("mail",)]
