"""The default text for people: what and where first, then what helps to decide, then the evidence."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from alarm_mw.engine.flood_control.limits import span
from alarm_mw.texts.facts import Facts, clock

#: How many of a record's fields are shown, and how many characters of a fact.
MOST_FIELDS = 30
FACT = 500


class Card(msgspec.Struct, frozen=True):
    """The parts of a message as plain text, in reading order."""

    #: What and where, in one line.
    title: str
    #: How often and how long: one sentence each.
    sentences: tuple[str, ...] = ()
    #: Names and values.
    facts: tuple[tuple[str, str], ...] = ()
    #: The rest of the message, such as a traceback.
    evidence: str = ""
    #: The lines around it.
    context: str = ""
    #: Further information.
    notes: tuple[str, ...] = ()
    url: str = ""
    ack_url: str = ""


def title_of(facts: Facts) -> str:
    """Return the first line: ``CRITICAL shop@web-3: payment 42 failed: card declined``."""
    word = facts.severity.upper() if facts.status == "firing" else facts.status.upper()
    if facts.headline.upper().startswith(word):
        word = ""
    origin = f"{facts.origin}: " if facts.origin else ""
    return f"{word} {origin}{facts.headline}".lstrip()


def card_of(facts: Facts) -> Card:
    """Return a message's parts, without unknown facts or repetitions."""
    return Card(
        title_of(facts),
        tuple(_sentences(facts)),
        tuple(_facts(facts)),
        facts.evidence,
        facts.context,
        tuple(_notes(facts)),
        facts.url,
        facts.ack_url,
    )


def _sentences(facts: Facts) -> Iterator[str]:
    if facts.machine_count > 1:
        yield facts.machine_names  # the title has their number
    if facts.started is not None and facts.status != "firing":
        yield _life(facts, facts.started)
    elif facts.threshold > 1:
        yield f"{facts.threshold} matches within {span(facts.within)} (threshold {facts.threshold})"
    if facts.duration is not None and facts.limit is not None:
        yield f"took {span(facts.duration)}, limit {span(facts.limit)}"


def _life(facts: Facts, started: float) -> str:
    """Return how long an incident lasts, how often it has matched, what ended it, and who knows of it."""
    lasted = span(max((facts.time if facts.ended is None else facts.ended) - started, 0.0))
    matches = f"{facts.matches:,} match{'' if facts.matches == 1 else 'es'}" if facts.matches else ""
    known = "nobody has acknowledged it"
    if facts.acknowledged_at is not None:
        known = f"acknowledged by {facts.acknowledged_by} after {span(max(facts.acknowledged_at - started, 0.0))}"
    if facts.status == "resolved":
        parts = [f"lasted {lasted}", matches, _end(facts), known if facts.acknowledged_by else ""]
    elif facts.status == "flapping":
        parts = ["it begins and ends so often that single messages are held back", f"first {clock(started)}"]
    else:
        before = f"told before: {', '.join(facts.told)}" if facts.status == "escalated" and facts.told else ""
        parts = [f"firing for {lasted}", matches, known, before]
    return ", ".join(filter(None, parts))


def _end(facts: Facts) -> str:
    """Return what ended an incident."""
    if facts.ended_by == "line":
        end = facts.end.strip()
        return f'ended by "{cut_line(end, FACT)}"' if end and end != facts.headline else ""
    by = f" by {facts.end}" if facts.end else ""
    words = {"timeout": "ended by quiet", "operator": f"resolved by hand{by}", "removed": "its rule was removed"}
    return words.get(facts.ended_by, "")


def _facts(facts: Facts) -> Iterator[tuple[str, str]]:
    fields = list(facts.other_fields.items())
    for name, value in fields[:MOST_FIELDS]:
        yield cut_line(name, FACT), cut_line(value, FACT)
    if len(fields) > MOST_FIELDS:
        yield "fields", f"{len(fields) - MOST_FIELDS} more"
    if facts.request:
        yield "request", facts.request
    if facts.pid:
        yield "worker" if facts.worker else "process", str(facts.pid)
    if facts.logger:
        yield "logger", facts.logger
    level = facts.level_name
    if level and level.lower() != facts.severity and not facts.headline.startswith(level):
        yield "level", level
    yield from filter(lambda fact: fact[1], (("incident", facts.incident), ("rule", cut_line(facts.rule, FACT))))
    for name, value in facts.labels.items():
        if value and name not in {"app", "severity"} and facts.fields.get(name) != value:
            yield name, value
    yield "time", clock(facts.time)


def _notes(facts: Facts) -> Iterator[str]:
    if facts.held_back and not facts.is_digest:  # a digest's message contains it
        since = "the last message" if facts.held_since is None else clock(facts.held_since)
        yield f"held back {facts.held_back:,} since {since}"
    if facts.is_unreachable:
        yield "fleet unreachable: other machines may report the same"


def plain(card: Card) -> str:
    """Return a card as plain text, its title in the first line; there is no newline at the end."""
    return "\n".join([card.title, *body_lines(card)])


def body_lines(card: Card) -> list[str]:
    """Return what stands below the title in plain text: a blank line between two parts, none before the first."""
    facts = " · ".join(
        f"{name}={value}" if name not in _WORDS else f"{_WORDS[name]}{value}" for name, value in card.facts
    )
    first = [*(["; ".join(card.sentences)] if card.sentences else []), *([facts] if facts else [])]
    around = [card.context] if card.context else []
    last = [
        *card.notes,
        *([card.url] if card.url else []),
        *([f"acknowledge: {card.ack_url}"] if card.ack_url else []),
    ]
    parts = ["\n".join(part) for part in (first, [card.evidence] if card.evidence else [], around, last) if part]
    return [] if not parts else "\n\n".join(parts).split("\n")


#: Facts that read as words rather than as fields.
_WORDS = {
    "request": "",
    "process": "process ",
    "worker": "worker ",
    "logger": "logger ",
    "rule": "rule ",
    "incident": "incident ",
    "time": "",
}


def shorten(text: str, limit: int) -> str:
    """Return text in at most `limit` characters: of a longer one its beginning and end, and how much is left out."""
    if len(text) <= limit:
        return text
    note = f"\n[{len(text) - limit} characters left out]\n"
    if limit <= len(note):
        return text[:limit]
    head = (limit - len(note)) // 3
    tail = limit - len(note) - head
    return f"{text[:head]}{note}{text[-tail:] if tail else ''}"


def cut_line(text: str, limit: int) -> str:
    """Return one line in at most `limit` characters; ``…`` stands for the rest."""
    line = text.replace("\n", " ")
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
