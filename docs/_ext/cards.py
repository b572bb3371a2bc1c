"""Draws what a person sees of one alarm in each receiver, from the very bodies that are sent.

``python docs/_ext/cards.py`` writes ``docs/cards.svg``; a test looks that it is up to date.
"""

from __future__ import annotations

import html
import json
import os
import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alarm_mw.actions.curl.formats.requests import body_of
from alarm_mw.model.types import Firing, IncidentNotice, Place, Record, Trigger
from alarm_mw.texts.message import Message, message_of

PICTURE = Path(__file__).parents[1] / "cards.svg"

MESSAGE = b"""payment 4211 failed: card processor unreachable
Traceback (most recent call last):
  File "shop/pay.py", line 88, in charge
    answer = processor.charge(card, amount)
processor.Unreachable: timed out after 6 s
"""

FIELDS = {"order": "4211", "method": "POST", "path": "/pay", "status": "502", "duration": "6.021"}

#: In pixels.
WIDTH, GAP, LINE, CODE_LINE = 460, 24, 17, 15
#: In characters.
TITLE_COLUMNS, TEXT_COLUMNS, CODE_COLUMNS, VALUE_COLUMNS = 54, 60, 58, 26


class Card(NamedTuple):
    """What is shown of a body."""

    receiver: str
    color: str
    title: str
    facts: Sequence[tuple[str, str]] = ()
    text: str = ""
    code: str = ""


def sample() -> Message:
    """Return the message that is shown."""
    record = Record(MESSAGE, "logging", 1795662727.0, "k", 812, 40, "shop.pay", FIELDS)
    trigger = Trigger("payments", {"severity": "critical"}, 5, 60.0, 1.0)
    firing = Firing("id", "ops", record.message, record, record.time, "failed", 14, record.time - 600, trigger=trigger)
    return message_of(firing, Place("web-3", "shop", {"team": "payments"}))


def over() -> Message:
    """Return the message about the end."""
    record = Record(MESSAGE.partition(b"\n")[0] + b"\n", "incident", 1795663427.0, "k", 812, 40, "shop.pay", FIELDS)
    notice = IncidentNotice(
        "a7f3",
        "resolved",
        1,
        "a7f3-1",
        1795662727.0,
        count=212,
        ended=1795663427.0,
        ended_by="line",
        end="processor is back",
        acknowledged_by="kim",
        acknowledged_at=1795662847.0,
    )
    trigger = Trigger("payments", {"severity": "critical"}, incident=notice)
    firing = Firing("id", "ops", record.message, record, record.time, "failed", trigger=trigger)
    return message_of(firing, Place("web-3", "shop", {"team": "payments"}))


def cards(message: Message) -> Iterator[Card]:
    """Yield what each receiver makes of what it gets."""
    yield _slack(_body(message, "slack"))
    yield _teams(_body(message, "teams"))
    yield _discord(_body(message, "discord"))
    yield _pagerduty(_body(message, "pagerduty"))
    yield Card("Mail", "#888888", message.title(), [], message.body())
    yield _alertmanager(json.loads(body_of(message, "alertmanager", "", "").data))
    yield _slack(_body(over(), "slack"))._replace(receiver="Slack, when it is over")


def _body(message: Message, name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(body_of(message, name, "0" * 32, "").data)
    return body


def _slack(body: dict[str, Any]) -> Card:
    (attachment,) = body["attachments"]
    facts, texts, code = [], [], ""
    for block in attachment["blocks"]:
        facts += [tuple(field["text"].split("\n", 1)) for field in block.get("fields", ())]
        text = html.unescape(block.get("text", {}).get("text", ""))
        if text.startswith("```"):
            code = text.strip("`\n")
        elif text:
            texts.append(text)
    return Card("Slack", attachment["color"], html.unescape(body["text"]), facts, "\n".join(texts), code)


def _teams(body: dict[str, Any]) -> Card:
    title, *blocks = body["attachments"][0]["content"]["body"]
    facts, texts, code = [], [], ""
    for block in blocks:
        facts += [(_unescaped(fact["title"]), _unescaped(fact["value"])) for fact in block.get("facts", ())]
        for run in block.get("inlines", ()):
            if "fontType" in run:
                code = run["text"]
            else:
                texts.append(run["text"])
    return Card("Teams", "#c4314b", title["inlines"][0]["text"], facts, "\n".join(texts), code)


def _discord(body: dict[str, Any]) -> Card:
    (embed,) = body["embeds"]
    before, code, after = embed["description"].split("```")
    facts = [(_unescaped(field["name"]), _unescaped(field["value"])) for field in embed["fields"]]
    text = _unescaped(f"{before.strip()}\n{after.strip()}")
    return Card("Discord", f"#{embed['color']:06x}", _unescaped(body["content"].strip("*")), facts, text, code.strip())


def _pagerduty(body: dict[str, Any]) -> Card:
    payload = body["payload"]
    details = dict(payload["custom_details"])
    code, remarks = details.pop("evidence"), details.pop("remarks")
    return Card("PagerDuty", "#06ac38", payload["summary"], [*details.items()], remarks, code)


def _alertmanager(alerts: list[dict[str, Any]]) -> Card:
    (alert,) = alerts
    labels, annotations = alert["labels"], alert["annotations"]
    return Card("Alertmanager", "#e6522c", annotations["summary"], [*labels.items()], annotations["description"])


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).replace("\u200b", "")


def draw(shown: list[Card]) -> str:
    """Return the picture: two columns of cards."""
    parts: list[str] = []
    bottoms = [GAP, GAP]
    for card in shown:
        column = bottoms.index(min(bottoms))
        inside, height = _card(card)
        parts.append(f'<g transform="translate({GAP + column * (WIDTH + GAP)} {bottoms[column]})">{inside}</g>')
        bottoms[column] += height + GAP
    width, height = 2 * WIDTH + 3 * GAP, max(bottoms)
    style = (
        "text{font:13px Arial,Helvetica,sans-serif;fill:#1d1c1d}.n{font-size:11px;fill:#666}"
        ".t{font-weight:bold;font-size:14px}"
        ".c{font:11px 'DejaVu Sans Mono',monospace;white-space:pre}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="One alarm in chats, PagerDuty, Alertmanager and an email"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#f4f4f4"/>{"".join(parts)}</svg>\n'
    )


def _card(card: Card) -> tuple[str, int]:
    parts = [_text(0, 12, card.receiver, "n")]
    y = 38
    for line in textwrap.wrap(card.title, TITLE_COLUMNS):
        parts.append(_text(16, y, line, "t"))
        y += LINE + 2
    for line in (part for each in card.text.split("\n") for part in (textwrap.wrap(each, TEXT_COLUMNS) or [""])):
        parts.append(_text(16, y, line, ""))
        y += LINE
    for index, (name, value) in enumerate(card.facts):
        x = 16 + (index % 2) * (WIDTH // 2)
        parts += [_text(x, y + 2, name, "n"), _text(x, y + 17, textwrap.shorten(value, VALUE_COLUMNS), "")]
        y += 38 if index % 2 or index == len(card.facts) - 1 else 0
    if card.code:
        lines = [part for line in card.code.split("\n") for part in _code_lines(line)]
        height = len(lines) * CODE_LINE + 14
        parts.append(f'<rect x="16" y="{y - 8}" width="{WIDTH - 32}" height="{height}" rx="4" fill="#efefef"/>')
        for line in lines:
            y += CODE_LINE
            parts.append(_text(24, y - 4, line, "c"))
        y += 14
    frame = f'<rect y="18" width="{WIDTH}" height="{y - 16}" rx="6" fill="#fff" stroke="#ddd"/>'
    bar = f'<rect y="18" width="5" height="{y - 16}" rx="2" fill="{card.color}"/>'
    return frame + bar + "".join(parts), y + 4


def _code_lines(line: str) -> list[str]:
    return textwrap.wrap(line, CODE_COLUMNS, replace_whitespace=False, drop_whitespace=False) or [""]


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{html.escape(text)}</text>'


def picture() -> str:
    """Return the picture of the sample, with times in UTC."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    return draw([*cards(sample())])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
