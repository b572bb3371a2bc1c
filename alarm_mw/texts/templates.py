"""Templates: text with the facts of a firing in braces, such as ``{host}`` or ``{message|first_line|truncate:80}``.

A value is data: it is never read as a template, and is escaped for where it stands. There are names and filters, and
nothing else: no code, no attributes, no indexes. ``{{`` and ``}}`` are braces. Jinja2's sandbox would do as well, and
takes 80 to 130 ms to import.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from alarm_mw.model.keyvalue import did_you_mean
from alarm_mw.texts.facts import Facts, clock, rfc3339
from alarm_mw.texts.human import card_of, plain, title_of

#: Makes a value safe for where it stands.
Escape = Callable[[str], str]

_WORD = re.compile(r"[a-z_]+(?:\.[^\s|:{}]+)?")


def _time(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds)


def _number(value: float | None) -> str:
    return "" if not value else str(value) if isinstance(value, int) else f"{value:g}"


#: What can stand in braces, with what it means, and how it is read off the facts.
NAMES: dict[str, tuple[str, Callable[[Facts], str]]] = {
    "host": ("the machine; empty where several say the same", lambda facts: facts.host),
    "machines": ("the machines of a fleet that say the same, at most 20", lambda facts: facts.machine_names),
    "machine_count": ("how many they are", lambda facts: _number(facts.machine_count)),
    "app": ("the label `app`, or the server's name", lambda facts: facts.app),
    "name": ("the server's name (`--name`)", lambda facts: facts.name),
    "alarm": ("the alarm", lambda facts: facts.alarm),
    "title": ("the default first line", title_of),
    "text": ("the whole default text", lambda facts: plain(card_of(facts))),
    "message": ("the line or record that fired, including further lines", lambda facts: facts.message),
    "headline": ("the line of the message that says what happened", lambda facts: facts.headline),
    "evidence": ("the other lines of the message, such as a traceback", lambda facts: facts.evidence),
    "context": ("the lines around the message", lambda facts: facts.context),
    "rule": ("the rule's name, or its regexp", lambda facts: facts.rule),
    "severity": ("the label `severity`, or the level's meaning", lambda facts: facts.severity),
    "level": ("the level's name", lambda facts: facts.level_name),
    "logger": ("the logger", lambda facts: facts.logger),
    "icon": ("a sign for the incident's state, or for the severity", lambda facts: facts.icon),
    "pid": ("the process", lambda facts: _number(facts.pid)),
    "worker": ("the process, if it is a worker of the server", lambda facts: _number(facts.worker)),
    "source": ("where the line was seen: `stdout`, `logging`, …", lambda facts: facts.source),
    "time": ("the time of the line, in local time", lambda facts: clock(facts.time)),
    "iso_time": ("the time of the line, as RFC 3339 in UTC", lambda facts: rfc3339(facts.time)),
    "id": ("the firing's id", lambda facts: facts.id),
    "request": ("method, path, status and duration of the request", lambda facts: facts.request),
    "count": ("the number of firings in the message", lambda facts: str(facts.count)),
    "threshold": ("the rule's `count`", lambda facts: str(facts.threshold)),
    "within": ("the rule's `within`, in seconds", lambda facts: _number(facts.within)),
    "limit": ("the rule's `slower_than`, in seconds", lambda facts: _number(facts.limit)),
    "held_back": ("the number of firings held back since the last message", lambda facts: _number(facts.held_back)),
    "held_since": ("the time of the first one held back", lambda facts: _time(facts.held_since)),
    "fingerprint": ("a key that equal events share", lambda facts: facts.fingerprint),
    "status": (
        "`firing`, `reminder`, `escalated`, `flapping`, `acknowledged` or `resolved`",
        lambda facts: facts.status,
    ),
    "started": ("when the incident began", lambda facts: _time(facts.started)),
    "ended": ("when the incident ended", lambda facts: _time(facts.ended)),
    "matches": ("how many matches the incident has had", lambda facts: _number(facts.matches)),
    "incident": ("the incident", lambda facts: facts.incident),
    "url": ("the page that shows the incident", lambda facts: facts.url),
    "ack_url": ("the link that acknowledges the incident", lambda facts: facts.ack_url),
}

#: What has a name of its own after a dot: ``{fields.user}``, ``{labels.team}``.
GROUPS: dict[str, tuple[str, Callable[[Facts, str], str]]] = {
    "fields": ("a field of the record", lambda facts, name: facts.fields.get(name, "")),
    "labels": ("a label", lambda facts, name: facts.labels.get(name, "")),
}


def _first_line(value: str) -> str:
    return value.partition("\n")[0]


def _truncate(value: str, size: str) -> str:
    return value if len(value) <= int(size) else f"{value[: max(int(size) - 1, 0)]}…"


def _lines(value: str, n: str) -> str:
    lines = value.split("\n")
    return value if len(lines) <= int(n) else "\n".join([*lines[: int(n)], "…"])


#: What HTML could read as markup, as `html.escape` has it; that takes a millisecond to import.
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def _html(value: str) -> str:
    return value.translate(_HTML)


#: What Markdown could read as markup, in any of its dialects.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~])")

#: Filters without an argument.
FILTERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "first_line": ("the first line", _first_line),
    "upper": ("in upper case", str.upper),
    "lower": ("in lower case", str.lower),
    "json": ("escaped for a JSON string", lambda value: json.dumps(value)[1:-1]),
    "html": ("escaped for HTML", _html),
    "markdown": ("escaped for Markdown", lambda value: _MARKDOWN.sub(r"\\\1", value)),
    "url": ("escaped for a URL", lambda value: quote(value, safe="", errors="replace")),
}

#: Filters with an argument after a colon; whether it is a number.
FILTERS_WITH: dict[str, tuple[str, bool, Callable[[str, str], str]]] = {
    "truncate": ("cut to this number of characters", True, _truncate),
    "lines": ("cut to this number of lines", True, _lines),
    "default": ("this text if the value is empty", False, lambda value, text: value or text),
    "prefix": ("this text before it, unless it is empty", False, lambda value, text: f"{text}{value}" if value else ""),
    "suffix": ("this text after it, unless it is empty", False, lambda value, text: f"{value}{text}" if value else ""),
}


class TemplateError(ValueError):
    """A template is wrong; the message is a sentence for the user."""


class _Piece(NamedTuple):
    """Literal text, or the reading of a fact."""

    text: str
    read: Callable[[Facts], str] | None = None


class Template:
    """A template that was understood. Renders in any thread and never raises."""

    def __init__(self, text: str) -> None:
        """Read it; raise `TemplateError` for what it cannot mean."""
        self._pieces = _read(text)

    def render(self, facts: Facts, escape: Escape = str) -> str:
        """Return the text; `escape` is applied to each value, and never to what the template itself says."""
        return "".join(piece.text if piece.read is None else escape(piece.read(facts)) for piece in self._pieces)


@functools.lru_cache(maxsize=256)
def template(text: str) -> Template:
    """Return a template, read once; raise `TemplateError`."""
    return Template(text)


def _read(text: str) -> tuple[_Piece, ...]:
    pieces: list[_Piece] = []
    literal: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char in "{}" and text[position : position + 2] == char * 2:
            literal.append(char)
            position += 2
        elif char == "{":
            end = text.find("}", position)
            if end < 0:
                raise TemplateError(f"'{{' at character {position + 1} has no '}}'; write '{{{{' for a brace")
            pieces += [_Piece("".join(literal)), _Piece("", _reading(text[position + 1 : end]))]
            literal = []
            position = end + 1
        elif char == "}":
            raise TemplateError(f"'}}' at character {position + 1} closes nothing; write '}}}}' for a brace")
        else:
            literal.append(char)
            position += 1
    return tuple(piece for piece in (*pieces, _Piece("".join(literal))) if piece.text or piece.read)


def _reading(inside: str) -> Callable[[Facts], str]:
    """Return what reads ``name|filter|filter:argument`` off the facts."""
    name, *filters = inside.split("|")
    read = _named(name.strip())
    for each in filters:
        read = _filtered(read, _filter(each))
    return read


def _filtered(read: Callable[[Facts], str], change: Callable[[str], str]) -> Callable[[Facts], str]:
    return lambda facts: change(read(facts))


def _named(name: str) -> Callable[[Facts], str]:
    if name in NAMES:
        return NAMES[name][1]
    group, _, key = name.partition(".")
    if _WORD.fullmatch(name) and key and group in GROUPS:
        get = GROUPS[group][1]
        return lambda facts: get(facts, key)
    known = [*NAMES, *(f"{each}.{key}" for each in GROUPS if key)]
    raise TemplateError(f"unknown name {name!r}{did_you_mean(name, known)}")


def _filter(written: str) -> Callable[[str], str]:
    name, colon, argument = written.partition(":")
    name = name.strip()
    if name in FILTERS:
        if colon:
            raise TemplateError(f"the filter {name!r} takes no argument")
        return FILTERS[name][1]
    if name not in FILTERS_WITH:
        raise TemplateError(f"unknown filter {name!r}{did_you_mean(name, [*FILTERS, *FILTERS_WITH])}")
    _, is_number, change = FILTERS_WITH[name]
    if is_number and not re.fullmatch("[0-9]{1,9}", argument.strip()):
        raise TemplateError(f"the filter {name!r} takes a number, as in {name}:80")
    if not colon:
        raise TemplateError(f"the filter {name!r} takes an argument, as in {name}:TEXT")
    given = argument.strip() if is_number else argument
    return lambda value: change(value, given)
