"""Open incidents as text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.cells import cell_len

from alarm_mw.cli.top.now import Row, Server, Terminal, quiet, rows, verdict
from alarm_mw.web.api.v1.schema import HistoryEvent, Incident

if TYPE_CHECKING:
    from alarm_mw.master.control.status import Status

NOW = 10_000.0


def incident(name: str, **values: Any) -> Incident:
    made: dict[str, Any] = {
        "id": name,
        "rule": f"rule-{name}",
        "key": {},
        "labels": {},
        "state": "firing",
        "marks": (),
        "episode": 1,
        "started": NOW - 60.0,
        "ended": None,
        "ended_by": "",
        "end": "",
        "count": 1,
        "last": NOW - 1.0,
        "notified": {},
        "acknowledged_by": "",
        "acknowledged_until": None,
        "comment": "",
        "severity": "",
        "message": f"message of {name}",
        "fields": {},
        "delivery": {},
    }
    return Incident(**{**made, **values})


def happened(at: float, kind: str, text: str) -> HistoryEvent:
    return HistoryEvent(time=at, incident="a7f3", rule="db", key={}, episode=1, kind=kind, text=text)


def status(**values: Any) -> Status:
    tables: dict[str, Any] = {"sources": {}, "alarms": {}, "rules": {}, "failing": {}}
    made = {**tables, "letters": 0, "imbalances": [], "findings": [], "fleet": None}
    return cast("Status", {**made, **values})


def server(*incidents: Incident, name: str = "shop", **values: Any) -> Server:
    rules = {"db": {"opened": len(incidents), "resolved": {}, "open": len(incidents)}}
    return Server(f"/{name}", name, status(rules=rules, **values), incidents)


def shown(each: Incident, width: int = 80, **options: Any) -> list[str]:
    return Terminal(width, **options).row(Row(server(), each), NOW).plain.split("\n")


def test_the_worst_comes_first_and_then_the_oldest() -> None:
    """Severities in their order, unknown ones last; of one severity what somebody has acknowledged comes last."""
    found = rows(
        [
            server(
                incident("acked", severity="critical", acknowledged_by="kim"),
                incident("strange", severity="purple"),
                incident("young", severity="warning", started=NOW - 1),
                incident("old", severity="warning", started=NOW - 100),
                incident("none"),
                incident("worst", severity="CRITICAL"),
            )
        ]
    )
    assert [row.incident.id for row in found] == ["worst", "acked", "none", "old", "young", "strange"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ["a", "b"]),
        ("severity=critical", ["a"]),
        ("EU message", ["a"]),
        ("db=us", ["b"]),
        ("host=web-3", ["b"]),
        ("kim", ["b"]),
        ("severity=critical us", []),
    ],
)
def test_a_filter_takes_words_and_labels(wanted: str, found: list[str]) -> None:
    """All of its words are found, whatever their case: in the message, in labels and keys, and in who acknowledged."""
    both = server(
        incident("a", severity="critical", key={"db": "eu"}),
        incident("b", key={"db": "us"}, labels={"host": "web-3"}, acknowledged_by="kim"),
    )
    assert [row.incident.id for row in rows([both], wanted)] == found


def test_the_trend_of_the_last_hour() -> None:
    """The second line ends with a bar for each five minutes, in characters that the terminal has."""
    trend = (*[0] * 30, 1, *[0] * 4, *[100] * 5, *[0] * 15, *[50] * 5)
    first, second = shown(incident("a", trend=trend, key={"db": "eu"}))
    assert len(first) == len(second) == 80
    assert second.split() == ["db=eu", "·", "last", "1", "s", "ago", "▁▁▁▁▁▁▂█▁▁▁▅"]
    (_, second) = shown(incident("a", trend=trend), is_unicode=False)
    assert second.endswith("______.#___=")
    assert "▁" not in shown(incident("a", trend=(0,) * 60))[1]
    assert "▁" not in shown(incident("a", trend=trend), width=50)[1]


def test_the_verdict_is_in_words() -> None:
    """It says how many incidents, letters and alarms there are to look after, and whether the ledger balances."""
    assert verdict([server()]) == "no incidents, the ledger balances"
    both = [
        server(incident("a"), incident("b", acknowledged_by="kim"), letters=2, failing={"mail": {}}, findings=["x"]),
        server(name="blog", imbalances=["1 != 2"], letters=1),
        Server("/x", "gone", error="no master answers"),
    ]
    assert verdict(both) == (
        "2 incidents, 1 acknowledged, 3 dead letters, mail failing, 1 finding, the ledger does not balance, "
        "gone does not answer"
    )


@pytest.mark.parametrize(("state", "shown"), [("connected", ""), ("away", "fleet shop cannot be reached, ")])
def test_a_fleet_that_is_away_is_not_well(state: str, shown: str) -> None:
    """The first words say so, and not only a line below them."""
    assert verdict([server(fleet={"name": "shop", "state": state})]) == f"no incidents, {shown}the ledger balances"


def test_quiet_is_proved() -> None:
    """Without incidents it says how many lines were seen, and what became of them."""
    sources = {"stdout": {"lines": 3_211_904}}
    alarm = {"matched": 212, "fired": 14, "held_back": {"rate": 198}, "waiting": 0}
    assert quiet([server(sources=sources, alarms={"mail": alarm})]) == (
        "3,211,904 lines seen, 212 matched: 14 fired, 198 held back, 0 waiting"
    )


def test_an_incident_fits_the_terminal() -> None:
    """Two lines of at most its width: what and since when; then its key, its messages, and the last match."""
    delivery = {"mail": "delivered", "sms": "waiting", "hook": "dead"}
    long = incident("a", severity="critical", message="x" * 200, key={"db": "eu"}, delivery=delivery, count=12_345)
    first, second = shown(long)
    assert cell_len(first) == 80
    assert first.startswith("● CRITICAL rule-a ")
    assert "xxx… " in first
    assert first.endswith("1 min 12,345 ×")
    assert second.strip() == "db=eu · mail ✓ sms … hook ✗ · last 1 s ago"
    assert all(cell_len(line) <= 40 for line in shown(long, 40))


def test_an_acknowledged_incident_says_by_whom_and_until_when() -> None:
    """With the comment; of another one, what holds its messages back is said."""
    acked = incident(
        "a", acknowledged_by="kim", acknowledged_until=NOW + 4200.0, comment="on it", marks=["acknowledged"]
    )
    assert "acked by kim, 1 h 10 min left: on it" in shown(acked)[1]
    assert "silenced" in shown(incident("b", marks=["silenced"]))[1]
    assert "shop · " in shown(incident("b"), with_names=True)[1]


def test_wide_characters_are_measured() -> None:
    """Where a character takes two columns, no column behind it moves."""
    first, _ = shown(incident("a", message="障害" * 50))
    assert cell_len(first) == 80
    assert first.endswith(" 1 ×")


HOSTILE = "\x1b]0;title\x07[bold]x[/bold]\u202eevil\ud800\ttab"


@pytest.mark.parametrize("is_unicode", [True, False])
def test_a_line_is_text(is_unicode: bool) -> None:
    """It neither controls the terminal nor is markup; without Unicode, all characters are ASCII."""
    fields = {
        "rule": HOSTILE,
        "message": HOSTILE,
        "key": {HOSTILE: HOSTILE},
        "comment": HOSTILE,
        "acknowledged_by": "é",
    }
    hostile = incident("a", delivery={HOSTILE: "strange"}, labels={"x": HOSTILE}, fields={"y": HOSTILE}, **fields)
    event = happened(NOW, "acknowledged", HOSTILE)
    terminal = Terminal(200, is_unicode)
    row = Row(server(), hostile)
    text = "\n".join([terminal.row(row, NOW).plain, *(line.plain for line in terminal.incident(row, [event], NOW))])
    assert not set(text) & set("\x1b\x07\u202e\ud800\t")
    assert "[bold]x[/bold]" in text
    assert text.isascii() is not is_unicode


def test_a_page_tells_everything_of_an_incident() -> None:
    """Facts without those that are unknown, the state of each message, and the time line."""
    event = happened(NOW - 60, "opened", "lost eu")
    made = incident(
        "a7f3",
        severity="warning",
        key={"db": "eu"},
        labels={"db": "eu"},
        delivery={"mail": "delivered"},
        acknowledged_by="kim",
        acknowledged_until=NOW + 60,
        comment="on it",
        marks=["acknowledged"],
    )
    lines = [line.plain for line in Terminal(80).incident(Row(server(), made), [event], NOW)]
    assert lines[0] == "WARNING message of a7f3"
    assert "incident      a7f3, episode 1" in lines
    assert "state         firing, acknowledged" in lines
    assert "comment       on it" in lines
    assert "messages      mail ✓" in lines
    assert not any(line.startswith("fields") for line in lines)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW - 60))
    assert lines[-1] == f"{at}  opened         lost eu"
