"""Links in messages: to an incident's page, and to acknowledge it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from msgspec import structs

from alarm_mw.model.types import Firing, IncidentNotice, Place, Record, Texts, Trigger
from alarm_mw.texts.facts import facts_of
from alarm_mw.texts.links import VALID, ack_link, is_signed, read_key
from alarm_mw.texts.message import message_of

PLACE = Place("web-3", "shop", {}, "https://alarms.example.org", b"k" * 32)
NOTICE = IncidentNotice("a7f3", "firing", 2, "a7f3-1-2", 1.8e9)
RECORD = Record(b"disk full\n", "stdout", 1.8e9, "k")


def firing(notice: IncidentNotice | None = NOTICE) -> Firing:
    return Firing("1.a", "a", RECORD.message, RECORD, 1.8e9, trigger=Trigger("disk", incident=notice))


def test_a_message_leads_to_its_incident() -> None:
    """The text ends with both links, and a template can name them."""
    text = message_of(firing(), PLACE).text().splitlines()
    signed = ack_link(PLACE.url, PLACE.link_key, "a7f3", 2, 1.8e9 + VALID)
    assert text[-2:] == ["https://alarms.example.org/i/a7f3", f"acknowledge: {signed}"]
    own = message_of(firing(), PLACE, Texts(text="{url} {ack_url}"))
    assert own.text() == f"https://alarms.example.org/i/a7f3 {signed}"


@pytest.mark.parametrize(
    ("given", "place", "url", "can_be_acknowledged"),
    [
        (firing(), PLACE, "https://alarms.example.org/i/a7f3", True),
        (firing(structs.replace(NOTICE, status="resolved")), PLACE, "https://alarms.example.org/i/a7f3", False),
        (firing(), structs.replace(PLACE, link_key=b""), "https://alarms.example.org/i/a7f3", False),
        (firing(), structs.replace(PLACE, url=""), "", False),
        (firing(None), PLACE, "", False),
    ],
)
def test_no_link_leads_nowhere(given: Firing, place: Place, url: str, can_be_acknowledged: bool) -> None:
    """Without a page or an incident there is none, and what is over cannot be acknowledged."""
    facts = facts_of(given, place)
    assert (facts.url, bool(facts.ack_url)) == (url, can_be_acknowledged)


def test_a_signature_is_of_one_episode_and_time() -> None:
    """It holds for no other incident, episode, end or key."""
    signature = ack_link("", b"k", "a7f3", 2, 100.9).rpartition("/")[2]
    assert is_signed(b"k", "a7f3", 2, 100, signature)
    for key, incident, episode, until in ((b"l", "a7f3", 2, 100), (b"k", "a7f4", 2, 100), (b"k", "a7f3", 3, 100)):
        assert not is_signed(key, incident, episode, until, signature)
    assert not is_signed(b"k", "a7f3", 2, 101, signature)
    assert not is_signed(b"k", "a7f3", 2, 100, "\udcff")


def test_the_key_stays(tmp_path: Path) -> None:
    """It is made once, for this user alone; where it cannot be, there are no links."""
    path = tmp_path / "web.key"
    key = read_key(path)
    assert len(key) == 32
    assert read_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(tmp_path / "nowhere" / "web.key") == b""
