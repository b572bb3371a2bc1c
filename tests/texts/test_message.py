"""What an alarm says to people."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Machines, Place, Record, Stated, Texts, Trigger
from alarm_mw.texts import uploaded
from alarm_mw.texts.facts import Facts, facts_of
from alarm_mw.texts.human import card_of, cut_line, plain, shorten, title_of
from alarm_mw.texts.message import Message, message_of

PLACE = Place("web-3", "shop", {"team": "payments"})
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "shop/pay.py", line 88, in charge\n'
    "processor.Unreachable: timed out after 6 s\n"
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def firing(message: str = "payment 42 failed: card declined\n", trigger: Trigger | None = None, **facts: Any) -> Firing:
    record = Record(message.encode("utf-8", "surrogateescape"), "stdout", 1.8e9, "k")
    record = structs.replace(record, **{name: facts.pop(name) for name in list(facts) if name in _RECORD})
    return structs.replace(Firing("id", "mail", record.message, record, 1.8e9, "fail", trigger=trigger), **facts)


_RECORD = {"pid", "level", "logger", "fields", "source", "stated", "before", "after"}


def test_a_line_says_what_and_where_first() -> None:
    """The first line is application, machine and message; then what else is known."""
    text = message_of(firing(), PLACE).text()
    assert text.split("\n") == [
        "shop@web-3: payment 42 failed: card declined",
        "rule fail · team=payments · 2027-01-15 08:00:00 UTC",
    ]


def test_a_line_with_fields_is_shown_by_its_facts() -> None:
    """Of a line in JSON, the event is the headline and the traceback the evidence; no field is shown twice."""
    line = '{"event": "payment failed", "level": "error", "order": 4211, "exception": "…"}\n'
    given = firing(
        line,
        level=40,
        fields={"event": "payment failed", "level": "error", "order": "4211", "exception": "…"},
        stated=Stated("payment failed", TRACEBACK.strip(), ("event", "exception", "level")),
    )
    assert message_of(given, PLACE).text() == (
        "ERROR shop@web-3: payment failed\n"
        "order=4211 · rule fail · team=payments · 2027-01-15 08:00:00 UTC\n"
        "\n" + TRACEBACK.strip()
    )


def test_the_event_of_a_record_is_its_headline() -> None:
    """What a record says beside the event is evidence only in its other lines."""
    given = firing(f"12:00 payment failed n=1\n{TRACEBACK}", stated=Stated("payment failed"))
    facts = facts_of(given, PLACE)
    assert (facts.headline, facts.evidence) == ("payment failed", TRACEBACK.strip())


def test_lines_around_are_shown_below() -> None:
    """The lines before and after a match stand below the evidence, with hidden characters made visible."""
    given = firing(before=b"1\n2\x1b[31m\n", after=b"3\n")
    assert message_of(given, PLACE).text().split("\n\n")[1] == "before it:\n  1\n  2\\x1b[31m\nafter it:\n  3"
    assert facts_of(firing(after=b"3\n"), PLACE).context == "after it:\n  3"


def test_all_that_is_known_has_its_place() -> None:
    """Severity, threshold, request, fields, process, logger, rule, evidence and what was held back, each once."""
    fields = {"order": "4211", "method": "POST", "path": "/pay", "status": "502", "duration": "6.021"}
    trigger = Trigger("payments", {"severity": "critical"}, 5, 60.0, 1.0)
    message = f"payment failed: card processor unreachable\n{TRACEBACK}"
    given = firing(
        message, trigger, pid=812, level=40, logger="shop.pay", fields=fields, held_back=14, held_since=1.8e9 - 60
    )
    assert message_of(given, PLACE).text() == (
        "CRITICAL shop@web-3: payment failed: card processor unreachable\n"
        "5 matches within 1 min (threshold 5); took 6.02 s, limit 1 s\n"
        "order=4211 · POST /pay 502 in 6.02 s · process 812 · logger shop.pay · level=ERROR · rule payments"
        " · team=payments · 2027-01-15 08:00:00 UTC\n"
        "\n"
        f"{TRACEBACK}"
        "\n"
        "held back 14 since 2027-01-15 07:59:00 UTC"
    )


@pytest.mark.parametrize(
    ("message", "headline"),
    [
        (TRACEBACK, "processor.Unreachable: timed out after 6 s"),
        (f"{TRACEBACK}\n", "processor.Unreachable: timed out after 6 s"),
        (
            "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: two\n  +-+---- 1 ----\n",
            "+-+---- 1 ----",
        ),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
        ("\n\nsecond\nthird\n", "second"),
        ("", "alarm mail"),
        ("\n", "alarm mail"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_the_headline_is_the_line_that_says_what_happened(message: str, headline: str) -> None:
    """The first line that is not empty; of a bare traceback the exception; cut where it is too long for a title."""
    assert facts_of(firing(message), PLACE).headline == headline


@pytest.mark.parametrize("message", [TRACEBACK, "x" * 400, f"first\n{TRACEBACK}"])
def test_nothing_of_the_message_is_lost(message: str) -> None:
    """What the title does not say whole stands below it."""
    assert message.strip("\n").removeprefix("first\n") in message_of(firing(message), PLACE).text()


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"level": 40}, "ERROR "),
        ({"level": 50}, "CRITICAL "),
        ({"level": 35}, "WARNING "),
        ({"level": 5}, "DEBUG "),
        ({}, ""),
        ({"level": 40, "message": "ERROR: it failed"}, ""),
    ],
)
def test_the_first_word_says_how_bad_it_is(facts: dict[str, Any], word: str) -> None:
    """As the level has it, where the message does not begin with it itself."""
    given = firing(**{"message": "it failed", **facts})
    assert message_of(given, PLACE).title() == f"{word}shop@web-3: {given.text}"


@pytest.mark.parametrize(
    ("place", "origin"),
    [
        (Place("web-3", "shop"), "shop@web-3: "),
        (Place("web-3", "shop", {"app": "store"}), "store@web-3: "),
        (Place("web-3"), "web-3: "),
        (Place("", "shop"), "shop: "),
        (Place(), ""),
    ],
)
def test_where_is_as_much_as_is_known(place: Place, origin: str) -> None:
    """The label `app`, else the server's name; the machine."""
    assert message_of(firing("x"), place).title() == f"{origin}x"


def test_labels_of_a_rule_win() -> None:
    """A rule's labels stand before those of alarm and configuration."""
    trigger = Trigger(labels={"team": "db", "tier": "1"})
    assert facts_of(firing(trigger=trigger), PLACE).labels == {"team": "db", "tier": "1"}


def test_later_facts_are_left_out_until_they_are_known() -> None:
    """Lines around, page and status change the text only where they are given."""
    bare = facts_of(firing("x"), PLACE)
    known = structs.replace(bare, context="before\nafter", url="https://a.example.org/i/1", status="resolved")
    assert "around" not in plain(card_of(bare))
    assert plain(card_of(known)) == (
        "RESOLVED shop@web-3: x\n"
        "rule fail · team=payments · 2027-01-15 08:00:00 UTC\n"
        "\n"
        "before\n"
        "after\n"
        "\n"
        "https://a.example.org/i/1"
    )


def test_a_digest_says_once_what_was_held_back() -> None:
    """Its message tells it."""
    assert "held back" not in message_of(firing("3 more", held_back=3, is_digest=True), PLACE).text()


def test_a_grown_record_is_bounded() -> None:
    """A thousand fields, and one of a megabyte, make a text that can be read."""
    fields = {f"f{n}": "x" for n in range(1000)} | {"f0": "y" * 1_000_000}
    text = message_of(firing(fields=fields), PLACE).text()
    assert len(text) < 3000
    assert "fields=70 more" in text


def test_templates_take_the_place_of_the_default_texts() -> None:
    """`title` is the first line, `text` all of it."""
    titled = message_of(firing(), PLACE, Texts("{host}!"))
    assert titled.text().split("\n")[0] == "web-3!"
    own = message_of(firing("a\nb"), PLACE, Texts("{message}", "{text}|{title}"))
    assert own.title() == "a b"
    assert own.text() == own.body() == f"{plain(own.card)}|{title_of(own.facts)}"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(None, b"a\n"), (Texts(), b"a\n"), (Texts("x"), b"a\n"), (Texts("", "{alarm}: {message}"), b"mail: a\n")],
)
def test_a_program_gets_the_very_bytes_unless_the_alarm_has_a_text(texts: Texts | None, expected: bytes) -> None:
    """Commands and logs get the message as it was written; a `text` takes its place."""
    assert uploaded(firing("a\n"), ActionContext("mail", lambda _: None, texts=texts)) == expected


HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

hostile = st.text(max_size=20) | st.sampled_from(["\x1b[2J", "\r\nBcc: x", "\ud800", "\0", "{host}", "nan", "inf"])


RECORDS = st.builds(
    Record,
    message=st.binary(max_size=60),
    source=st.just("x"),
    time=st.just(1.8e9),
    key=st.just("k"),
    level=st.just(10),
    logger=hostile,
    fields=st.dictionaries(hostile | st.sampled_from(["duration", "method", "path"]), hostile, max_size=6),
    stated=st.none() | st.builds(Stated, hostile, hostile, st.lists(hostile, max_size=2).map(tuple)),
    before=st.binary(max_size=60),
    after=st.binary(max_size=60),
)


@given(RECORDS, hostile, st.sampled_from([None, Trigger("r", {"severity": "x"}, 2, 3.5, 1.0)]))
def test_no_value_hides_anything(record: Record, rule: str, trigger: Trigger | None) -> None:
    """Whatever the values are: nothing is raised, the title is one line, and every hidden character is visible."""
    found = message_of(Firing("i", "a", record.message, record, 1.8e9, rule, 1, trigger=trigger), PLACE)
    assert "\n" not in found.title()
    assert not HIDDEN.search(found.text())
    found.text().encode()


@given(st.text(), st.integers(0, 80))
def test_what_is_shortened_fits(text: str, limit: int) -> None:
    """At most so many characters, and all of them where that is enough."""
    assert len(shorten(text, limit)) <= limit or len(text) <= limit
    if len(text) <= limit:
        assert shorten(text, limit) == text
    assert len(cut_line(text, max(limit, 1))) <= max(limit, 1)


def test_what_is_shortened_says_so() -> None:
    """The beginning and the end stay, with how much is left out between them."""
    assert shorten("a" * 50 + "b" * 50, 60) == "a" * 11 + "\n[40 characters left out]\n" + "b" * 23


def test_a_message_needs_no_firing() -> None:
    """Facts alone make one, as those of an incident will."""
    facts = Facts(id="i", alarm="a", message="x", time=1.8e9)
    assert Message(facts, card_of(facts)).text() == "x\n2027-01-15 08:00:00 UTC"


@pytest.mark.parametrize(("server", "word"), [(None, "process 812"), (812, "process 812"), (1, "worker 812")])
def test_a_worker_is_called_one(server: int | None, word: str) -> None:
    """A process of the server's that is not the server itself is one of its workers; it has a name in templates."""
    record = Record(b"x\n", "logging", 0.0, "k", 812)
    message = message_of(Firing("i", "a", b"x\n", record, 0.0), Place("h"), Texts(title="{worker|default:-}"), server)
    assert word in message.body()
    assert message.title() == ("812" if word.startswith("worker") else "-")


def test_large_numbers_are_written_out() -> None:
    """A process may have a number beyond a million."""
    record = Record(b"x\n", "logging", 0.0, "k", 3_999_999)
    message = message_of(Firing("i", "a", b"x\n", record, 0.0), Place("h"), Texts(title="{pid}"))
    assert message.title() == "3999999"


def test_a_fleet_says_on_which_machines() -> None:
    """The first line has their number, and the second their names, of many the first ones."""
    machines = Machines(("web-1", "web-2"), 100)
    assert message_of(firing(machines=machines), PLACE).text().split("\n") == [
        "shop on 100 machines: payment 42 failed: card declined",
        "web-1, web-2, …",
        "rule fail · team=payments · 2027-01-15 08:00:00 UTC",
    ]
    alone = structs.replace(PLACE, name="")
    assert message_of(firing(machines=machines), alone).title().startswith("on 100 machines: payment 42")


def test_one_machine_of_a_fleet_is_named_as_in_the_fleet() -> None:
    """What happened on one machine names that one, whichever machine sends it."""
    message = message_of(firing(machines=Machines(("web-9",), 1)), PLACE)
    assert message.title() == "shop@web-9: payment 42 failed: card declined"
    assert "on 1" not in message.text()


@pytest.mark.parametrize("machines", [None, Machines(), Machines(("branch-1",), 1)])
def test_what_a_hub_delivers_names_its_origin(machines: Machines | None) -> None:
    """A message of another machine has that machine's names and labels, its end as well; the hub's page stays."""
    hub = Place("vm", "hub", {"team": "ops", "at": "hub"}, "https://hub.example.org")
    origin = Place("branch-1", "shop", {"team": "payments"})
    facts = facts_of(firing(machines=machines, origin=origin), hub, 1)
    assert (facts.host, facts.name, facts.worker) == ("branch-1", "shop", 0)
    assert (facts.labels["team"], facts.labels["at"]) == ("payments", "hub")
    assert message_of(firing(machines=machines, origin=origin), hub).title().startswith("shop@branch-1: ")


def test_a_fleet_that_cannot_be_reached_is_said() -> None:
    """A message that other machines may send as well says so."""
    message = message_of(firing(machines=Machines(("x",), 1, is_unreachable=True)), PLACE)
    assert message.title().startswith("shop@web-3: ")
    assert message.text().endswith("\n\nfleet unreachable: other machines may report the same")


def test_equal_events_of_a_fleet_have_one_key() -> None:
    """A receiver that keeps one alert for equal events keeps one for all machines."""
    there = structs.replace(PLACE, host="web-4")
    shared = [facts_of(firing(machines=Machines(("x",), 1)), place).dedup_key for place in (PLACE, there)]
    alone = [facts_of(firing(), place).dedup_key for place in (PLACE, there)]
    assert shared[0] == shared[1]
    assert alone[0] != alone[1]
