"""Orders about incidents from a chat: what is understood, what is done, and what is answered."""

from __future__ import annotations

import pytest

from alarm_mw.engine.incidents import chat
from alarm_mw.engine.incidents.chat import Author, Order, parse
from alarm_mw.engine.incidents.incident import Step
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.incidents.stored import Saved
from alarm_mw.engine.incidents.tracker import IncidentRule
from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import IncidentOptions, Record, Rule

KIM = Author("kim@example.org")


class Stage:
    """Incidents of one rule, and what is answered to orders about them."""

    def __init__(self) -> None:
        self.now = 1000.0
        rule = Rule(r"lost (?P<db>\S+)", ("a", "b"), name="db", incident=IncidentOptions(("db",)))
        self.rule = compile_rule(rule)
        self.incidents = Incidents(
            {"db": self.rule},
            [IncidentRule("db", (Step("a"), Step("b", after=60.0)), key=("db",))],
            alarms=("a", "b"),
            alarm_msg_size=8192,
            admit=lambda *_: None,
            clock=lambda: self.now,
            time=lambda: self.now,
        )
        self.incidents.start(Saved())

    def lose(self, *names: str) -> list[str]:
        """Let incidents begin; return the ids of all."""
        for name in names:
            self.incidents.match(self.rule, [f"lost {name}".encode()], Record(b"", "stdout", 1000.0, name))
        return [incident.id for incident in self.incidents.tracker]

    def write(self, text: str, author: Author = KIM) -> tuple[str, list[str]]:
        """Return what is answered, and which alarms get a message."""
        order = parse(text)
        assert order is not None
        answer = chat.carry_out(self.incidents, order, author, 86_400.0)
        return answer.text, [firing.alarm for firing in answer.firings]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("ack a7f3", Order("ack", "a7f3")),
        ("  ACK  A7F3\n", Order("ack", "a7f3")),
        ("ack a7f3 2h", Order("ack", "a7f3", 7200.0)),
        ("ack a7f3 on my way", Order("ack", "a7f3", None, "on my way")),
        ("ack a7f3 90s it is the cable", Order("ack", "a7f3", 90.0, "it is the cable")),
        ("ack", Order("ack")),
        ("unack a7f3", Order("unack", "a7f3")),
        ("resolve a7f3", Order("resolve", "a7f3")),
        ("incidents", Order("incidents")),
    ],
)
def test_an_order_is_a_word_an_id_and_what_may_follow(text: str, order: Order) -> None:
    """Upper case does not matter, as phones begin with it; a time comes before a comment."""
    assert parse(text) == order


@pytest.mark.parametrize("text", ["", " \n", "acknowledge a7f3", "please ack a7f3", "incidents are no fun", "a7f3"])
def test_chatter_is_no_order(text: str) -> None:
    """What does not begin with the word of an order is none."""
    assert parse(text) is None


def test_the_first_digits_of_an_id_are_enough(stage: Stage) -> None:
    """An acknowledgement names who gave it and stops later steps; given back, they go on."""
    (name,) = stage.lose("eu")
    assert stage.write(f"ack {name[:4]} 2h on it") == (f"{name} db db=eu: acknowledged for 2 h", [])
    assert stage.write("incidents") == (f"{name} db db=eu: acknowledged by kim@example.org", [])
    stage.now += 60.0
    assert stage.incidents.tick() == []
    assert stage.write(f"unack {name[:4]}") == (f"{name} db db=eu: not acknowledged any more", ["b"])


def test_an_acknowledgement_lasts_as_the_configuration_says(stage: Stage) -> None:
    """Where the order names no time."""
    (name,) = stage.lose("eu")
    assert stage.write(f"ack {name}")[0].endswith("acknowledged for 1 d")
    assert stage.write(f"ack {name} 90s")[0].endswith("acknowledged for 1 min 30 s")


def test_an_incident_is_resolved_by_hand(stage: Stage) -> None:
    """Who was told of it is told of the end, and it is no longer listed."""
    (name,) = stage.lose("eu")
    assert stage.write(f"resolve {name}") == (f"{name} db db=eu: resolved", ["a"])
    assert stage.write("incidents") == ("no incidents", [])
    assert stage.write(f"ack {name[:4]}") == (f"no open incident has an id that begins with '{name[:4]}'", [])


def test_an_incident_is_silenced(stage: Stage) -> None:
    """The silence is for the rule and the key of the incident, however often it begins; it needs a time."""
    (name,) = stage.lose('e"u')
    order = parse(f"silence {name[:4]} 2h deployment")
    assert order is not None
    answer = chat.carry_out(stage.incidents, order, KIM, 1.0)
    assert answer.text == f'{name} db db=e"u: silenced for 2 h'
    assert answer.matchers == ('rule="db"', 'db="e\\"u"')
    assert stage.write(f"silence {name}")[0] == f"expected how long, such as silence {name[:4]} 2h"


def test_digits_that_several_ids_have_choose_none(stage: Stage) -> None:
    """The answer lists the incidents, at most so many, and nothing is done."""
    names = stage.lose(*map(str, range(200)))
    first = next(digit for digit in "0123456789abcdef" if sum(name.startswith(digit) for name in names) > chat.LISTED)
    fitting = [name for name in names if name.startswith(first)]
    text, alarms = stage.write(f"ack {first}")
    head, *lines, last = text.splitlines()
    assert (head, alarms) == (f"{first!r} begins the ids of several incidents:", [])
    assert [line.split()[0] for line in lines] == fitting[: chat.LISTED]
    assert last == f"and {len(fitting) - chat.LISTED} more"
    assert not any(incident.ack for incident in stage.incidents.tracker)


def test_an_order_without_an_id_is_answered_with_an_example(stage: Stage) -> None:
    """The answer says what is missing."""
    assert stage.write("ack") == ("expected the first digits of an incident's id, such as ack a7f3", [])


def test_an_order_that_came_late_is_not_for_the_next_episode(stage: Stage) -> None:
    """An order that was written before the incident began again does nothing."""
    (name,) = stage.lose("eu")
    assert stage.write(f"ack {name}", Author("kim", 999.0))[0].endswith("acknowledged for 1 d")
    assert stage.write(f"ack {name}", Author("kim", 900.0))[0] == (
        f"{name} has begun again since this was written; nothing was done"
    )
