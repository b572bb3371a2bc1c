"""The templates of alarms: what can stand in them, and that values are data."""

from __future__ import annotations

import contextlib
import json
from html import escape as html_escape
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.texts.facts import Facts
from alarm_mw.texts.templates import FILTERS, FILTERS_WITH, NAMES, Template, TemplateError

FACTS = Facts(
    id="id-1",
    alarm="hook",
    message="payment failed\nsecond line",
    time=1.8e9,
    host="web-3",
    name="shop",
    fields={"user": "kim", "empty": "", "user.plan": "pro"},
    labels={"team": "payments"},
    level=40,
    pid=812,
    held_back=14,
    held_since=1.8e9 - 60,
    threshold=5,
    within=60.0,
)

anything = st.text(max_size=30) | st.sampled_from(["{host}", "{", "}}", "{{host}}", "%s", "\n", "<b>", '"'])


def render(text: str, facts: Facts = FACTS) -> str:
    return Template(text).render(facts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no names", "no names"),
        ("", ""),
        ("{host}", "web-3"),
        ("{app}@{host}: {message|first_line}", "shop@web-3: payment failed"),
        ("{{host}} {{}}", "{host} {}"),
        ("{fields.user}/{labels.team}", "kim/payments"),
        ("{fields.user.plan}", "pro"),
        ("{fields.nobody}|", "|"),
        ("{ host | upper }", "WEB-3"),
        ("{message|truncate:8}", "payment…"),
        ("{host|truncate:80}", "web-3"),
        ("{message|lines:1}", "payment failed\n…"),
        ("{fields.empty|default:nobody}", "nobody"),
        ("{fields.user|default:nobody}", "kim"),
        ("{fields.user|prefix: by }", " by kim"),
        ("{fields.empty|prefix: by }", ""),
        ("{held_back|suffix: more}", "14 more"),
        ("{fields.empty|suffix: more}", ""),
        ("{level} {severity} {pid} {threshold} {within}", "ERROR error 812 5 60"),
        ("{iso_time}", "2027-01-15T08:00:00.000Z"),
        ("{count|default:x} {limit|default:none}", "1 none"),
        ("{fields.user|default:a:b}", "kim"),
        ("{fields.empty|default:a:b}", "a:b"),
    ],
)
def test_a_template_is_text_with_facts(text: str, expected: str) -> None:
    """Names become values, filters change them, doubled braces are braces; what is not known is empty."""
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{hots}", "unknown name 'hots' (did you mean 'host'?)"),
        ("{mesage}", "unknown name 'mesage' (did you mean 'message'?)"),
        ("{}", "unknown name ''"),
        ("{0}", "unknown name '0'"),
        ("{fields}", "unknown name 'fields'"),
        ("{fields.}", "unknown name 'fields.'"),
        ("{host.__class__}", "unknown name 'host.__class__'"),
        ("{message[0]}", "unknown name 'message[0]'"),
        ("{message!r}", "unknown name 'message!r'"),
        ("{host|uper}", "unknown filter 'uper' (did you mean 'upper'?)"),
        ("{host|truncate}", "the filter 'truncate' takes a number, as in truncate:80"),
        ("{host|truncate:x}", "the filter 'truncate' takes a number, as in truncate:80"),
        ("{host|default}", "the filter 'default' takes an argument, as in default:TEXT"),
        ("{host|upper:3}", "the filter 'upper' takes no argument"),
        ("a {host", "'{' at character 3 has no '}'; write '{{' for a brace"),
        ("a } b", "'}' at character 3 closes nothing; write '}}' for a brace"),
    ],
)
def test_what_a_template_cannot_mean_is_refused(text: str, problem: str) -> None:
    """Unknown names and filters, attributes, indexes and conversions are errors, with the nearest known name."""
    with pytest.raises(TemplateError) as error:
        Template(text)
    assert str(error.value).startswith(problem)


@given(anything)
def test_a_value_is_no_template(value: str) -> None:
    """Braces in a value are shown, and never read."""
    facts = Facts(id="i", alarm="a", message=value, time=0.0, fields={"x": value})
    assert render("[{message}|{fields.x}]", facts) == f"[{value}|{value}]"


@given(anything)
def test_every_value_is_escaped_for_where_it_stands(value: str) -> None:
    """The escape of a receiver's markup sees values only, and each of them."""
    facts = Facts(id="i", alarm="a", message=value, time=0.0)
    assert Template("<b>{message}</b>").render(facts, html_escape) == f"<b>{html_escape(value)}</b>"


@given(anything.filter(lambda text: text.isprintable()))
def test_filters_escape_for_json_html_and_urls(value: str) -> None:
    """What was escaped reads back as the value, and as nothing else."""
    facts = Facts(id="i", alarm="a", message=value, time=0.0)
    assert json.loads(render('["{message|json}"]', facts)) == [value]
    parser = _Data()
    parser.feed(f'<p title="{render("{message|html}", facts)}">')
    parser.close()
    assert parser.found == [("p", [("title", value)])]
    assert unquote(render("{message|url}", facts)) == value


class _Data(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


@given(st.text(max_size=40))
def test_no_template_breaks_anything(text: str) -> None:
    """Any text is a template that renders, or an error with a sentence."""
    with contextlib.suppress(TemplateError):
        Template(text).render(FACTS)


@given(anything, st.sampled_from([*FILTERS, *(f"{name}:3" for name in FILTERS_WITH)]), st.sampled_from([*NAMES]))
def test_every_filter_takes_every_value(value: str, name: str, fact: str) -> None:
    """No filter raises, whatever it is given."""
    facts = Facts(id=value, alarm=value, message=value, time=0.0, logger=value, rule=value, fields={"x": value})
    render(f"{{{fact}|{name}}} {{fields.x|{name}}}", facts)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_known_is_never_none(name: str) -> None:
    """A fact that is not known is empty, and neither `None` nor `0`."""
    bare = Facts(id="i", alarm="a", message="x", time=0.0)
    assert render(f"{{{name}}}", bare) not in {"None", "0", "0.0"}
