"""Open incidents as text for a terminal: the worst first, two lines each, then what else people must know. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from alarm_mw.engine.flood_control.limits import span
from alarm_mw.model.printable import printable
from alarm_mw.texts.facts import clock
from alarm_mw.texts.severities import tone_of, urgency, word_of

if TYPE_CHECKING:  # what a master answers is made there
    from alarm_mw.master.control.status import Status
    from alarm_mw.web.api.v1.schema import HistoryEvent, Incident

#: The colors of severities: one of its own for the worst, and one for each tone.
COLORS: Mapping[str, str] = {"critical": "bold red", "bad": "red", "warn": "yellow", "calm": "blue", "debug": ""}

#: The least columns of a rule's name, and the most.
RULE = 8, 16

#: Columns beside an incident's message: mark, severity and rule; age and count.
BESIDE = 2 + 9 + RULE[1] + 1 + 8 + 9

#: Maximum number of incidents shown at once.
MOST = 500

#: Columns of the trend of the last hour, at the end of the second line, and of a terminal that has room for it.
TREND = 12
MIN_WIDTH_OF_TREND = 60

#: The bars of a trend from nothing on, and what they are in a terminal without Unicode.
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.:-=+*#"

TIMES = "\N{MULTIPLICATION SIGN}"

#: What replaces characters that a terminal without Unicode does not have.
_ASCII = str.maketrans({"●": "*", "✓": "+", "✗": "!", "…": "~", TIMES: "x", "·": "-", "─": "-"})

#: A message's mark and color by its state in the outbox.
_DELIVERY = {
    "delivered": ("✓", "green"),
    "waiting": ("…", "yellow"),
    "dead": ("✗", "red"),
    "dropped": ("dropped", ""),
    "handed_over": ("handed over", ""),
    "fleet": ("✓ fleet", "green"),
}


@dataclass(frozen=True, slots=True)
class Server:
    """What a master says, or why it does not answer."""

    #: Its records socket.
    socket: str
    name: str
    status: Status | None = None
    incidents: tuple[Incident, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An open incident of a server."""

    server: Server
    incident: Incident

    @property
    def id(self) -> str:
        """What identifies it among all incidents of all servers."""
        return f"{self.server.socket} {self.incident.id}"


def remembered(servers: Iterable[Server], before: Iterable[Server]) -> list[Server]:
    """Return what masters say; of one that does not answer, what it said last."""
    known = {server.socket: server for server in before}
    return [
        Server(each.socket, each.name, last.status, last.incidents, each.error)
        if each.error and (last := known.get(each.socket)) is not None
        else each
        for each in servers
    ]


def rows(servers: Iterable[Server], wanted: str = "") -> list[Row]:
    """Return the open incidents that have all words of `wanted`, the most urgent first."""
    words = wanted.casefold().split()
    found = [Row(server, incident) for server in servers for incident in server.incidents]
    return sorted((row for row in found if _has(row, words)), key=_urgency)


def _has(row: Row, words: Sequence[str]) -> bool:
    """Return whether an incident has all words; ``name=value`` is a label or a part of its key."""
    incident = row.incident
    pairs = {"rule": incident.rule, "severity": incident.severity, **incident.labels, **incident.key}
    texts = (incident.id, row.server.name, incident.message, incident.acknowledged_by, *incident.marks)
    text = "\n".join([*texts, *(f"{name}={value}" for name, value in pairs.items())]).casefold()
    return all(word in text for word in words)


def _urgency(row: Row) -> tuple[int, bool, float]:
    return urgency(row.incident.severity, row.incident.acknowledged_by, row.incident.started)


def _color(severity: str) -> str:
    return COLORS.get(severity.lower(), COLORS[tone_of(severity)])


def verdict(servers: Sequence[Server]) -> str:
    """Return in words how things are."""
    answering = [server.status for server in servers if server.status is not None]
    open_ones = sum(row["open"] for status in answering for row in status["rules"].values())
    acknowledged = sum(1 for server in servers for incident in server.incidents if incident.acknowledged_by)
    letters = sum(status["letters"] for status in answering)
    failing = sorted({alarm for status in answering for alarm in status["failing"]})
    wrong = any(status["imbalances"] for status in answering)
    parts = [
        _number(open_ones, "incident", "no incidents") if answering else "",
        _number(acknowledged, "acknowledged", plural="acknowledged"),
        _number(letters, "dead letter"),
        f"{', '.join(failing)} failing" if failing else "",
        *(f"fleet {name} cannot be reached" for name in sorted({*map(_lost_fleet, answering)}) if name),
        *(_number(len(status["findings"]), "finding") for status in answering),
        "" if not answering else "the ledger does not balance" if wrong else "the ledger balances",
        *(f"{server.name} does not answer" for server in servers if server.error),
    ]
    return ", ".join(filter(None, parts))


def _lost_fleet(status: Status) -> str:
    """Return the name of the fleet that a master cannot reach; empty if it can, or is in none."""
    fleet = status.get("fleet")
    return fleet["name"] if fleet is not None and fleet["state"] == "away" else ""


def _number(n: int, noun: str, none: str = "", plural: str = "") -> str:
    return none if not n else f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or noun + 's'}"


def quiet(servers: Iterable[Server]) -> str:
    """Return what proves that no incident is good news: what was seen, and what became of it."""
    lines = matched = fired = held = waiting = 0
    for status in (server.status for server in servers if server.status is not None):
        lines += sum(row["lines"] for row in status["sources"].values())
        for row in status["alarms"].values():
            matched += row["matched"]
            fired += row["fired"]
            held += sum(row["held_back"].values())
            waiting += row["waiting"]
    return f"{lines:,} lines seen, {matched:,} matched: {fired:,} fired, {held:,} held back, {waiting:,} waiting"


def spark(values: Sequence[int], *, is_unicode: bool = True) -> str:
    """Return the sums of `TREND` equal parts of some values as a row of bars; the highest is the most."""
    each = -(-len(values) // TREND)
    sums = [sum(values[begin : begin + each]) for begin in range(0, len(values), each)]
    bars, most = BARS if is_unicode else ASCII_BARS, max(sums)
    # What is not nothing is seen as such.
    return "".join(bars[-(-n * (len(bars) - 1) // most)] for n in sums)


@dataclass(frozen=True, slots=True)
class Terminal:
    """How text is made for a terminal; its `width` is in columns."""

    width: int
    is_unicode: bool = True
    #: Show the name of each incident's server.
    with_names: bool = False

    def text(self, text: str, style: str = "") -> Text:
        """Return text that cannot control the terminal, in characters that it has."""
        shown = printable(text)
        if not self.is_unicode:
            shown = shown.translate(_ASCII).encode("ascii", "backslashreplace").decode()
        return Text(shown.replace("\t", " "), style)

    def line(self, text: str) -> Text:
        """Return text that fits into one line."""
        return self._cut(self.text(text), self.width)

    def row(self, row: Row, now: float) -> Text:
        """Return an incident in two lines: what and since when; then where, how often, and who knows."""
        incident = row.incident
        style = _color(incident.severity)
        is_held = bool(incident.acknowledged_by)
        begin = Text.assemble(
            self.text("● ", style if not is_held else "dim"),
            _cell(self.text(word_of(incident.severity).upper(), style), 9),
            _cell(self.text(incident.rule), min(max(self.width // 6, RULE[0]), RULE[1])),
            " ",
        )
        end = Text.assemble(
            _cell(self.text(_largest(now - incident.started)), 8, "right"),
            _cell(self.text(f"{incident.count:,} {TIMES}"), 9, "right"),
        )
        space = self.width - cell_len(begin.plain) - cell_len(end.plain)
        message = self._cut(self.text(incident.message or incident.rule, "bold" if not is_held else ""), space)
        first = Text.assemble(begin, _cell(message, space), end)
        second = Text(" " * 11)
        separator = self.text(" · ", "dim")
        for number, part in enumerate(self._details(row, now)):
            if number:
                second.append_text(separator)
            second.append_text(part)
        if any(incident.trend) and self.width >= MIN_WIDTH_OF_TREND:
            space = self.width - TREND - 2
            trend = Text(spark(incident.trend, is_unicode=self.is_unicode), style if not is_held else "dim")
            second = Text.assemble(_cell(self._cut(second, space), space), "  ", trend)
        return Text("\n", no_wrap=True).join([first, self._cut(second, self.width)])

    def _details(self, row: Row, now: float) -> Iterator[Text]:
        incident = row.incident
        if self.with_names:
            yield self.text(row.server.name, "cyan")
        if incident.key:
            yield self.text(", ".join(f"{name}={value}" for name, value in incident.key.items()))
        if incident.acknowledged_by:
            left = (incident.acknowledged_until or now) - now
            comment = f": {incident.comment}" if incident.comment else ""
            yield self.text(f"acked by {incident.acknowledged_by}, {span(max(left, 1.0))} left{comment}", "cyan")
        elif incident.marks:
            yield self.text(", ".join(incident.marks), "cyan")
        if incident.is_unreached:
            yield self.text("nobody reached yet", "bold red")
        if incident.delivery:
            yield self.text(" ").join(self._deliveries(incident.delivery))
        yield self.text(f"last {_largest(now - incident.last)} ago", "dim")

    def _deliveries(self, delivery: Mapping[str, str]) -> Iterator[Text]:
        for alarm, state in delivery.items():
            mark, style = _DELIVERY.get(state, (state, ""))
            yield Text.assemble(self.text(f"{alarm} "), self.text(mark, style))

    def incident(self, row: Row, events: Iterable[HistoryEvent], now: float) -> list[Text]:
        """Return everything that is known of an incident, a line each."""
        incident = row.incident
        style = _color(incident.severity)
        facts: dict[str, str] = {
            "incident": f"{incident.id}, episode {incident.episode}",
            "server": row.server.name,
            "rule": incident.rule,
            "since": f"{clock(incident.started)}, for {span(max(now - incident.started, 0.0))}",
            "matches": f"{incident.count:,}, last {span(max(now - incident.last, 0.0))} ago",
            "state": ", ".join(
                [incident.state, *incident.marks, *(["nobody reached yet"] if incident.is_unreached else [])]
            ),
            "labels": _pairs(incident.labels),
            "fields": _pairs(incident.fields),
        }
        if incident.acknowledged_by:
            until = clock(incident.acknowledged_until or now)
            facts["acknowledged"] = f"by {incident.acknowledged_by} until {until}"
            facts["comment"] = incident.comment
        lines = [
            Text.assemble(self.text(f"{word_of(incident.severity).upper()} ", style), self.text(incident.message)),
            Text(),
            *(Text.assemble((f"{name:14}", "bold"), self.text(fact)) for name, fact in facts.items() if fact),
        ]
        if incident.delivery:
            told = self.text(", ").join(self._deliveries(incident.delivery))
            lines.append(Text.assemble(("messages      ", "bold"), told))
        lines += [Text(), Text("Time line", "bold")]
        for event in events:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time))
            lines.append(Text.assemble((f"{at}  ", "dim"), self.text(f"{event.kind:15}{event.text}")))
        return lines

    def _cut(self, text: Text, width: int) -> Text:
        """Return one line in at most `width` columns, with a mark where something is left out."""
        if cell_len(text.plain) <= width:
            return text
        text.truncate(max(width - 1, 0))
        text.append("…" if self.is_unicode else "~")
        return text


def _pairs(values: Mapping[str, str]) -> str:
    return "  ".join(f"{name}={value}" for name, value in values.items())


def _cell(text: Text, width: int, align: str = "left") -> Text:
    """Return text in exactly `width` columns, and one space behind a name that is cut."""
    room = width - cell_len(text.plain)
    if room < 0:
        return Text(set_cell_size(text.plain, max(width - 1, 0)) + " ", text.style)
    return Text.assemble(" " * room, text) if align == "right" else Text.assemble(text, " " * room)


def _largest(seconds: float) -> str:
    """Return a time in its largest unit: ``11 min``."""
    return " ".join(span(max(round(seconds), 1)).split()[:2])
