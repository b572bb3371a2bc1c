"""One incident: its time line with the messages of each alarm, its lines, its facts, and what can be done about it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox.entries import decode
from alarm_mw.delivery.outbox.incident_rows import Reader
from alarm_mw.delivery.outbox.limits import State
from alarm_mw.engine.flood_control.limits import span
from alarm_mw.engine.incidents.incident import Incident, thread_of
from alarm_mw.engine.incidents.stored import Event
from alarm_mw.model.fleet import FleetIncident
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing, Reason, Record
from alarm_mw.texts.facts import clock
from alarm_mw.web.charts import chart, ticks
from alarm_mw.web.incidents import Row, find, row_of_other
from alarm_mw.web.master import Master
from alarm_mw.web.rendering import render, show
from alarm_mw.web.samples import trend
from alarm_mw.web.security.guards import page
from alarm_mw.web.site import Site, site_of
from alarm_mw.web.store import Store

#: How many messages and events one page shows, the newest.
MAX_MESSAGES = 200
MAX_EVENTS = 500

#: Bars of the chart of an episode.
BARS = 120

#: Minutes after which the axis of its chart shows days rather than times.
_LONG = 2 * 24 * 60

#: The source of records that no match has made.
INCIDENT = "incident"

#: Digits of the number of an episode.
MAX_DIGITS = 15

#: How an episode of other machines ended.
_ENDS = {"operator": "operator", "gone": "its machines are gone"}

#: What the kinds of events are called.
_WORDS = {
    "opened": "opened",
    "resolved": "resolved",
    "acknowledged": "acknowledged by",
    "unacknowledged": "given back by",
    "firing": "told",
    "reminder": "reminded",
    "escalated": "escalated to",
    "flapping": "said to be flapping to",
}


#: What a message is called that has not reached anybody.
_UNTOLD = {
    "firing": "message for",
    "reminder": "reminder for",
    "escalated": "escalation to",
    "flapping": "message of flapping for",
    "resolved": "message of the end for",
}


class Message(msgspec.Struct, frozen=True):
    """A message about the incident, and what became of it."""

    #: Seconds since the epoch.
    time: float
    alarm: str
    #: ``firing``, ``reminder``, ``escalated``, ``flapping`` or ``resolved``.
    status: str
    state: str
    attempts: int
    error: str
    reason: str
    #: Seconds until it was delivered, or given up; None while it waits.
    took: float | None
    firing: Firing


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the time line."""

    time: float
    episode: int
    what: str
    #: Who or whom it was about, a cause, a line.
    text: str = ""
    #: ``good``, ``bad``, ``warn`` or empty.
    tone: str = ""
    #: The outcome of a message, in words.
    outcome: str = ""
    error: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """What was said: a record with the lines around it."""

    title: str
    time: float
    lines: str
    before: str
    after: str
    facts: dict[str, str]


class Episode(msgspec.Struct, frozen=True):
    """A former episode."""

    number: int
    began: float
    ended: float | None


class Machine(msgspec.Struct, frozen=True):
    """A machine of a fleet that has the incident, or had it."""

    name: str
    #: Where its own page shows the incident; empty where that is not known.
    url: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that a page says of an incident."""

    row: Row
    moments: list[Moment]
    evidence: list[Evidence]
    former: list[Episode]
    #: The rule's place in the configuration, its name and its regexp.
    place: str
    pattern: str
    #: The first machines that have it, or had it; none without a fleet.
    machines: list[Machine] = []


async def incident(request: Request) -> Response:
    """Show an incident."""
    site = site_of(request)
    story = await asyncio.to_thread(_story_for, request)
    if story is None:
        return render(request, "refused.html", status=404, text="This incident is not remembered (any more).")
    picture = await asyncio.to_thread(_picture, site, story.row) if story.row.is_here else Markup()
    return await show(
        request, "incident.html", "incident_live.html", active="now", story=story, row=story.row, picture=picture
    )


async def markdown(request: Request) -> Response:
    """Return an incident as Markdown, for a ticket or a chat."""
    story = await asyncio.to_thread(_story_for, request)
    if story is None:
        return PlainTextResponse("This incident is not remembered.\n", 404)
    return PlainTextResponse(
        as_markdown(story, site_of(request).options.url), media_type="text/markdown; charset=utf-8"
    )


def _story_for(request: Request) -> Story | None:
    asked = request.query_params.get("episode", "")
    number = int(asked) if asked.isdecimal() and asked.isascii() and len(asked) <= MAX_DIGITS else None
    site = site_of(request)
    return story_in_fleet(site.master, request.path_params["id"], number, site.options.url)


def story_in_fleet(master: Master, name: str, number: int | None = None, own_url: str = "") -> Story | None:
    """Return all that this machine or its fleet knows of an incident, or of one of its episodes. May block.

    What is open here, or only known here, is shown as this machine knows it. `own_url` is that of this page.
    """
    own, record = story_of(master, name), master.fleet_incident(name)
    if record is None or not record.episodes:
        return own
    machines = functools.partial(_machines, record.pages, name, own_url)
    last = record.episodes[0]
    if own is not None and number is None and (own.row.is_open or last.ended is not None):
        is_same = last.ended is None or (own.row.ended or 0.0) > last.started
        return msgspec.structs.replace(own, machines=machines(last)) if is_same else own
    shown = last if number is None else next((each for each in record.episodes if each.episode == number), None)
    return None if shown is None else _story_elsewhere(shown, record.episodes, machines(shown))


def _machines(pages: Mapping[str, str], name: str, own_url: str, incident: FleetIncident) -> list[Machine]:
    urls = {machine: page.rstrip("/") for machine, page in pages.items() if page.rstrip("/") != own_url}
    return [Machine(each, f"{urls[each]}/i/{name}" if each in urls else "") for each in incident.machines]


def _story_elsewhere(shown: FleetIncident, episodes: Sequence[FleetIncident], machines: list[Machine]) -> Story:
    """Return what the fleet knows of an episode that only other machines had."""
    first = Evidence("First match", shown.started, shown.text, "", "", {})
    return Story(
        row=row_of_other(shown),
        moments=sorted(_moments_elsewhere(shown), key=lambda each: -each.time),
        evidence=[first] if shown.text else [],
        former=[Episode(each.episode, each.started, each.ended) for each in episodes if each.started < shown.started],
        place="",
        pattern="",
        machines=machines,
    )


def _moments_elsewhere(shown: FleetIncident) -> Iterator[Moment]:
    moment = functools.partial(Moment, episode=shown.episode)
    yield moment(time=shown.started, what="opened", text=shown.text, tone="bad")
    if shown.acknowledged_at is not None:
        by = f"{shown.acknowledged_by}: {shown.comment}" if shown.comment else shown.acknowledged_by
        yield moment(time=shown.acknowledged_at, what="acknowledged by", text=by)
    for alarm, each in shown.alarms.items():
        if each.first_at is not None:
            yield moment(time=each.first_at, what="told", text=alarm, tone="good", outcome=f"by {each.first_by}")
        if each.told_at is not None and each.told_at != each.first_at:
            yield moment(time=each.told_at, what="told again", text=alarm, tone="good", outcome=f"by {each.told_by}")
        if each.over_at is not None:
            yield moment(time=each.over_at, what="told the end", text=alarm, tone="good", outcome=f"by {each.over_by}")
    if shown.ended is not None:
        how = " ".join(filter(None, (_ENDS.get(shown.ended_by, shown.ended_by), shown.resolved_by)))
        yield moment(time=shown.ended, what="resolved", text=how, tone="good")


def story_of(master: Master, name: str) -> Story | None:
    """Return all that this machine knows of an incident; None for one that it does not remember. May block."""
    found = find(master, name)
    if found is None:
        return None
    row, incident = found
    with master.reading() as reader:
        events = incident_rows.events(reader, 0.0, name)[-MAX_EVENTS:]
        messages = _messages(reader, incident)
    rule = next((each for each in master.settings().rules if each.name == row.rule and not each.resolves), None)
    return Story(
        row=row,
        moments=sorted(
            (each for each in _moments(events, messages) if each.episode == row.episode), key=lambda each: -each.time
        ),
        evidence=list(_evidence(incident, messages)),
        former=_former(events, row),
        place="" if rule is None else str(rule.where),
        pattern="" if rule is None else rule.pattern,
    )


def _messages(reader: Reader, incident: Incident) -> list[Message]:
    """Return the messages about all episodes that the outbox still has, the oldest first."""
    rows = reader.query(
        "SELECT firing, alarm, state, attempts, error, reason, taken, done FROM firings WHERE id GLOB ?"
        " ORDER BY seq DESC LIMIT ?",
        (f"{incident.id}-{incident.serial:x}-*", MAX_MESSAGES),
    )
    return [message for row in reversed(rows) for message in _message(*row)]  # type: ignore[arg-type]  # the schema


def _message(  # noqa: PLR0917  # a row
    blob: bytes, alarm: str, state: str, attempts: int, error: str, reason: str, taken: float, done: float
) -> Iterator[Message]:
    try:
        firing = decode(blob)
    except (ValueError, TypeError):  # a disk fault
        return
    notice = firing.trigger.incident if firing.trigger is not None else None
    status = notice.status if notice is not None else "firing"
    took = max(done - taken, 0.0) if done and state != "waiting" else None
    yield Message(taken or firing.time, alarm, status, state, attempts, error, reason, took, firing)


def _moments(events: Sequence[Event], messages: Sequence[Message]) -> Iterator[Moment]:
    known = {(message.alarm, message.status, round(message.time / 5)) for message in messages}
    for event in events:
        is_message = event.kind in {"firing", "reminder", "escalated", "flapping"}
        is_end = event.kind == "resolved"
        if is_message or (is_end and event.text in {message.alarm for message in messages}):
            place = round(event.time / 5)
            if any((event.text, event.kind, place + step) in known for step in (-1, 0, 1)):
                continue
        tone = "good" if is_end else "bad" if event.kind == "opened" else ""
        what = _WORDS.get(event.kind, event.kind)
        yield Moment(time=event.time, episode=event.episode, what=what, text=event.text, tone=tone)
    for message in messages:
        notice = message.firing.trigger.incident if message.firing.trigger is not None else None
        what = "told the end" if message.status == "resolved" else _WORDS.get(message.status, message.status)
        is_told = message.state == State.DELIVERED or message.reason == Reason.FLEET
        what = what if is_told else _UNTOLD.get(message.status, message.status)
        tone = {"delivered": "good", "dead": "bad", "dropped": "bad", "waiting": "warn"}.get(message.state, "")
        tone = "good" if message.reason == Reason.FLEET else tone
        yield Moment(
            time=message.time,
            episode=notice.episode if notice is not None else 0,
            what=what,
            text=message.alarm,
            tone=tone,
            outcome=_outcome(message),
            error=message.error,
        )


def _outcome(message: Message) -> str:
    attempts = f" after {message.attempts} attempts" if message.attempts > 1 else ""
    match message.state:
        case "delivered":
            return f"delivered in {span(message.took or 0.0)}{attempts}"
        case "waiting":
            failed = f", {message.attempts} failed attempt{'' if message.attempts == 1 else 's'}"
            return f"not delivered yet{failed if message.attempts else ''}"
        case "dead":
            return f"dead letter{attempts} ({message.reason})"
        case "handed_over":
            return "another alarm delivers it"
        case _ if message.reason == Reason.FLEET:
            return "left to another machine"
        case _:
            return f"dropped ({message.reason})"


def _evidence(incident: Incident, messages: Sequence[Message]) -> Iterator[Evidence]:
    """Yield the first match, the worst one, and the last one that made a message, with the lines around them."""
    thread = f"{thread_of(incident)}-"
    of_episode = (each.firing.record for each in messages if each.firing.id.startswith(thread))
    # That of a reminder, an escalation or an end is no match.
    records = [record for record in of_episode if record.source != INCIDENT]
    first = records[0] if records else incident.first
    if first is not None:
        yield _evidence_of("First match", first)
    if incident.worst is not None:
        yield _evidence_of("Worst match", incident.worst)
    if len(records) > 1 and records[-1].key != records[0].key:
        yield _evidence_of("Last match with a message", records[-1])


def _evidence_of(title: str, record: Record) -> Evidence:
    facts = {name: printable(value, 500) for name, value in record.fields.items()}
    facts |= {"logger": printable(record.logger, 200)} if record.logger else {}
    facts |= {"process": str(record.pid)} if record.pid else {}
    facts["source"] = record.source
    lines, before, after = ("\n".join(printable_lines(text)) for text in (record.message, record.before, record.after))
    return Evidence(title, record.time, lines, before, after, facts)


def _former(events: Sequence[Event], row: Row) -> list[Episode]:
    begun = {event.episode: event.time for event in events if event.kind == "opened"}
    ended = {event.episode: event.time for event in events if event.kind == "resolved"}
    return [
        Episode(number, began, ended.get(number))
        for number, began in sorted(begun.items(), reverse=True)
        if number != row.episode
    ]


def _picture(site: Site, row: Row) -> Markup:
    """Return matches per minute over the episode, or over the minutes that one bar stands for."""
    end = row.ended or time.time()
    minutes = int(end // 60) - int(row.started // 60) + 1
    step = max(-(-minutes // BARS), 1)
    return _chart(site.samples, row, -(-minutes // step), step, end)


def _chart(store: Store, row: Row, n: int, step: int, end: float) -> Markup:
    values = trend(store, "incident", [row.id], (n, step), end)[row.id]
    form = "%H:%M" if n * step <= _LONG else "%d %b"
    begin = (int(end // 60) + 1 - n * step) * 60
    labels = [(place, time.strftime(form, time.localtime(begin + place * step * 60))) for place in ticks(n)]
    return chart(values, labels, "matches") if any(values) else Markup()


def as_markdown(story: Story, url: str) -> str:
    """Return an incident as Markdown."""
    row = story.row
    state = f"open for {span(time.time() - row.started)}" if row.is_open else f"{row.state}"
    summary = (
        f"Incident `{row.id}` of the rule {_escaped(row.rule)}, {state}, since {clock(row.started)}, "
        f"{row.count:,} matches."
    )
    lines = [
        f"## {_escaped(row.word.upper())}: {_escaped(row.message)}",
        "",
        summary,
        *([f"{url}/i/{row.id}"] if url else []),
        "",
        *(f"- {_escaped(name)}: {_escaped(value)}" for name, value in row.facts.items()),
        "",
        "### What happened",
        "",
        *(
            f"- {clock(each.time)} {each.what} {_escaped(each.text)} {each.outcome} {_escaped(each.error)}".rstrip()
            for each in reversed(story.moments)
        ),
    ]
    for evidence in story.evidence:
        said = "\n".join(filter(None, (evidence.before, evidence.lines, evidence.after)))
        fence = "`" * max(3, _longest_run(said) + 1)
        lines += ["", f"### {evidence.title}, {clock(evidence.time)}", "", fence, said, fence]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in printable(text, 500))


def _longest_run(text: str) -> int:
    longest = run = 0
    for char in text:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return longest


ROUTES = [page("/i/{id}.md", markdown), page("/i/{id}", incident)]
