"""Fingerprints: what equal events have in common, whatever times, numbers and ids their messages hold.

The masks are not those of ``alarm-mw suggest`` (`cli/suggest/masks.py`), which become parts of short regexps that a
person reads. Here a line of any length and content is masked in linear time, a text that two events differ in must not
make them equal by accident, and a change of a mask would change fingerprints that outboxes keep.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from alarm_mw.model.types import Firing, Record

#: How many characters of a message count. What makes an event stands at its beginning.
MOST = 2000

#: How many frames of a message's tracebacks count.
FRAMES = 100

#: What a fingerprint can be made of, beside the fields of a record.
PARTS = {
    "default": "what it is made of by default: `traceback`, or `message` where there is none",
    "message": "the message, masked",
    "traceback": "types of exceptions, and calls of the application's own functions",
    "exception": "the type of the exception that was raised last",
    "rule": "the rule's regexp and conditions",
    "logger": "the logger",
    "level": "the level, as a number",
    "source": "where the line was seen: `stdout`, `logging`, …",
}

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = "[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
_HEX = "[0-9a-fA-F]{1,4}"
_ALONE, _END = "(?<![0-9A-Za-z])", "(?![0-9A-Za-z])"


class Mask(NamedTuple):
    """A kind of text that differs between equal events."""

    #: What stands in its place, in angle brackets.
    name: str
    description: str
    examples: tuple[str, ...]
    #: Takes no longer than its match does, times a constant.
    pattern: str


#: Of those that match at a place, the first counts.
MASKS = (
    Mask(
        "uuid",
        "UUIDs",
        ("0f8fad5b-d9cb-469f-a165-70867728950e",),
        rf"{_ALONE}[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}{_END}",
    ),
    Mask(
        "time",
        "dates and times",
        ("2026-11-24T03:12:07.123Z", "24/Nov/2026:03:12:07 +0100", "Tue Nov 24 03:12:07 2026", "03:12:07,123"),
        rf"{_ALONE}(?:"
        rf"[0-9]{{4}}[-/][0-9]{{2}}[-/][0-9]{{2}}"
        rf"(?:[T ,]{{1,2}}{_CLOCK}(?: ?(?:Z|UTC|GMT|[+-][0-9]{{2}}:?[0-9]{{2}}))?)?"
        rf"|[0-9]{{1,2}}/{_MONTH}/[0-9]{{4}}(?::{_CLOCK}(?: [+-][0-9]{{4}})?)?"
        rf"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?"
        rf"(?:{_MONTH} {{1,2}}[0-9]{{1,2}}|[0-9]{{1,2}} {_MONTH}(?: [0-9]{{4}})?)"
        rf"[ ,]{{1,2}}{_CLOCK}(?: (?:[A-Z]{{3,4}} )?[0-9]{{4}}| GMT| [+-][0-9]{{4}})?"
        rf"|{_CLOCK}"
        rf"){_END}",
    ),
    Mask(
        "address",
        "IP addresses with their ports, MAC and email addresses",
        ("192.0.2.7:8080", "2001:db8::7", "02:42:ac:11:00:02", "kim@example.org"),
        rf"(?<![0-9A-Za-z.:%+-])(?:"
        rf"[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}(?::[0-9]{{1,5}}|/[0-9]{{1,2}})?"
        rf"|[0-9a-fA-F]{{2}}(?::[0-9a-fA-F]{{2}}){{5}}"
        rf"|(?:{_HEX}:){{7}}{_HEX}|(?:{_HEX}:){{1,6}}(?::{_HEX}){{1,6}}|(?:{_HEX}:){{1,7}}:|::{_HEX}(?::{_HEX}){{0,6}}"
        rf"|[A-Za-z0-9_.%+-]{{1,64}}@[A-Za-z0-9-]{{1,63}}(?:\.[A-Za-z0-9-]{{1,63}}){{1,8}}"
        rf"){_END}",
    ),
    Mask(
        "quoted",
        "quoted text, except behind `msg=`, `message=`, `event=`, `error=` and `err=`",
        ("'kim'", '"order 42"'),
        r"(?<!\w)(?<!msg=)(?<!message=)(?<!event=)(?<!error=)(?<!err=)"
        r"""(?:'[^'\n]{0,500}'|"[^"\n]{0,500}")(?!\w)""",
    ),
    Mask(
        "id",
        "hexadecimal numbers behind `0x` or of 6 or more digits, words with digits in two places, words of 16 or more "
        "letters and digits",
        ("0x7f3a2c", "9f86d081", "8f3k2", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        rf"0x[0-9a-fA-F]{{1,64}}{_END}"
        rf"|{_ALONE}(?=[a-fA-F]{{0,128}}[0-9])(?=[0-9]{{0,128}}[a-fA-F])[0-9a-fA-F]{{6,128}}{_END}"
        rf"|{_ALONE}[A-Za-z]{{0,64}}[0-9]{{1,64}}[A-Za-z]{{1,64}}[0-9][0-9A-Za-z]{{0,128}}{_END}"
        rf"|{_ALONE}(?=[A-Za-z]{{0,128}}[0-9])(?=[0-9]{{0,128}}[A-Za-z])[0-9A-Za-z]{{16,128}}{_END}",
    ),
    Mask(
        "number",
        "numbers, and four or more digits at the end of a word; but `db2` and `http2` stay as they are",
        ("42", "1.5", "1,024", "12ms", "order1234"),
        rf"{_ALONE}[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,6}}(?![0-9])|{_ALONE}[0-9]+(?:\.[0-9]+)?|[0-9]{{4,}}",
    ),
)

_COLOR = re.compile(r"\x1b\[[0-9;]{0,20}m")

_TRACEBACK = re.compile(r"(?:Exception Group )?Traceback \(most recent call last\):")
_FRAME = re.compile(r'File "(.{1,1000})", line [0-9]{1,9}(?:, in (.{1,200}))?')
_RAISED = re.compile(r"([^\W\d][\w.]{0,300})(?::.*)?")
_MARKS = re.compile(r"[~^ ]+")

#: What stands at the left of a traceback in a group of exceptions, and of its lines.
_MARGIN = " \t|+-"

#: Code that belongs to others: Python's library and installed packages.
_FOREIGN = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python3?[0-9.]*/|^<frozen ")


#: Where a line that is a JSON object holds its message, and an exception.
_KEYS = (("message", "msg", "event"), ("exception", "exc_info", "traceback", "stack"))

#: What distinguishes one text from another, beside what is masked.
_WORDS = re.compile(r"[^\W\d_]{2}")
_MASKED = re.compile("<[a-z]+>")


@functools.cache
def _masks() -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<{mask.name}>{mask.pattern})" for mask in MASKS))


def _mask(found: re.Match[str]) -> str:
    return f"<{found.lastgroup}>"


def masked(text: str) -> str:
    """Return a text with a word such as ``<number>`` in place of what differs between equal events.

    Quoted text is not masked where nothing else would be left.
    """
    found = _masks().sub(_mask, text)
    if "<quoted>" in found and not _WORDS.search(_MASKED.sub("", found)):
        return _masks().sub(_mask, text.replace('"', " ").replace("'", " "))
    return found


def fingerprint(record: Record, rule: str = "", parts: Iterable[str] = ()) -> str:
    """Return 16 hexadecimal digits that events share if they are equal in all of `parts`; `rule` is the rule as text.

    Without parts, these are the types of exceptions and the application's own calls in the message's traceback; of a
    message without one, the message itself, masked.
    """
    text = _text(record)
    values = [_part(record, text, rule, part) for part in parts or ("default",)]
    same = "\0".join(value.replace("\0", "") for value in values)
    return hashlib.blake2b(same.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def fingerprint_of(firing: Firing) -> str:
    """Return the fingerprint of a firing, as its rule wants it."""
    return firing.fingerprint or fingerprint(
        firing.record, firing.rule, () if firing.trigger is None else firing.trigger.fingerprint
    )


def _part(record: Record, text: str, rule: str, part: str) -> str:
    read = _READ.get(part)
    return record.fields.get(part, "") if read is None else read(record, text, rule)


#: How each of `PARTS` is read off a record, its text and its rule.
_READ: dict[str, Callable[[Record, str, str], str]] = {
    "default": lambda _, text, __: _calls(text) or masked(text[:MOST]),
    "message": lambda _, text, __: masked(text[:MOST]),
    "traceback": lambda _, text, __: _calls(text),
    "exception": lambda record, text, _: record.fields.get("exception") or _exception(text),
    "rule": lambda _, __, rule: rule,
    "logger": lambda record, _, __: record.logger,
    "level": lambda record, _, __: "" if record.level is None else str(record.level),
    "source": lambda record, _, __: record.source,
}


def _text(record: Record) -> str:
    """Return the message without colors; of a line that is a JSON object, its message and its exception."""
    text = record.text
    if "\x1b" in text:
        text = _COLOR.sub("", text)
    if not text.startswith("{"):
        return text
    try:
        found = msgspec.json.decode(text.encode("utf-8", "replace"), type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return text
    parts = [next((value for name in names if isinstance(value := found.get(name), str)), "") for names in _KEYS]
    return "\n".join(filter(None, parts)) or text.replace('"', " ")


def _calls(text: str) -> str:
    """Return the types of the exceptions in a text, each behind its calls; empty for a text without a traceback."""
    if "Traceback (most" not in text:
        return ""
    return "\n".join(line for kind, calls in _tracebacks(text) for line in (*_own(calls), kind))


def _own(calls: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the calls of the application's own code, or all where there are none; of a recursion the first."""
    own = [call for file, call in calls if not _FOREIGN.search(file)] or [call for _, call in calls]
    before = ""
    for call in own:
        if call != before:
            yield call
        before = call


def _exception(text: str) -> str:
    kinds = [kind for kind, _ in _tracebacks(text)] if "Traceback (most" in text else []
    return kinds[-1] if kinds else ""


def _tracebacks(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the exceptions of a text in their order, each with the files and the calls of its traceback."""
    calls: list[tuple[str, str]] = []
    is_inside, frames = False, 0
    lines = [line.strip(_MARGIN) for line in text.split("\n")]
    for place, line in enumerate(lines):
        if _TRACEBACK.fullmatch(line):
            calls, is_inside = [], True
        elif is_inside and (found := _FRAME.fullmatch(line)):
            frames += 1
            if frames <= FRAMES:
                calls.append((found[1], f"{_module(found[1])} {found[2]} {_source(lines, place + 1)}"))
        elif is_inside and _raises(line, lines[place - 1]) and (raised := _RAISED.fullmatch(line)):
            yield raised[1], calls
            calls, is_inside = [], False


def _raises(line: str, before: str) -> bool:
    """Return whether a line names an exception: it is none of a frame's own line of code."""
    word = line.partition(":")[0].rpartition(".")[2]
    return word[:1].isupper() and _FRAME.fullmatch(before) is None and " " not in word


def _source(lines: list[str], place: int) -> str:
    """Return the line of code below a frame, where there is one."""
    line = lines[place] if place < len(lines) else ""
    return "" if _FRAME.fullmatch(line) or _MARKS.fullmatch(line) else line


def _module(file: str) -> str:
    """Return the end of a path: what stands before it differs between machines and releases."""
    return masked("/".join(file.split("/")[-2:]))
