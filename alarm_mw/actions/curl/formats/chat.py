"""What a person reads in a chat: Slack, Discord, Teams, Mattermost, Google Chat.

Each shows the title in bold, facts in two columns, the evidence as a block of code, and a link to the page. Values
can neither mention anybody nor make markup. The limits are those of each service's documentation.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

from alarm_mw.actions.curl.formats import neutral
from alarm_mw.texts.facts import rfc3339
from alarm_mw.texts.message import Message
from alarm_mw.texts.templates import Escape

#: Red, orange, yellow, blue, gray.
_COLORS = {"critical": 0xC62828, "error": 0xE5532D, "warning": 0xF2A600, "info": 0x2D7FE5, "debug": 0x808080}
_UNKNOWN = 0xE5532D
#: Green: it is over; violet: somebody is on it.
_STATES = {"resolved": 0x2E9E4F, "acknowledged": 0x7B5EA7}

#: How many facts are shown; Slack allows ten in a section, Discord 25.
MOST_FACTS = 20

#: Slack's: https://docs.slack.dev/reference/block-kit/blocks/section-block
_SLACK_TEXT = 3000
_SLACK_FIELD = 2000
_SLACK_FIELDS = 10
#: https://docs.slack.dev/changelog/2018-truncating-really-long-messages
_SLACK_MESSAGE = 4000

#: https://discord.com/developers/docs/resources/message#embed-object-embed-limits
_DISCORD_CONTENT = 2000
_DISCORD_DESCRIPTION = 3000
_DISCORD_FIELD = 1024
_DISCORD_NAME = 64
_DISCORD_EMBED = 6000

#: https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
_TEAMS_MESSAGE = 28 * 1024

#: https://docs.mattermost.com/configure/: a post's longest message
_MATTERMOST_MESSAGE = 16_383

#: https://developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages/create
_GOOGLE_MESSAGE = 32_000
_GOOGLE_TEXT = 4096

_TITLE = 300


def color_of(message: Message) -> int:
    """Return the color of a message, as a number."""
    if message.facts.status in _STATES:
        return _STATES[message.facts.status]
    return _COLORS.get(message.facts.severity, _UNKNOWN)


def headline(message: Message, escape: Escape = str) -> str:
    """Return the title behind an icon for state and severity; one of the configuration's own stands as it is."""
    title, icon = message.title(escape), message.facts.icon
    return f"{icon} {title}" if icon and not message.texts.title else title


def _hex(message: Message) -> str:
    return f"#{color_of(message):06x}"


def _facts(message: Message) -> list[tuple[str, str]]:
    """Return the facts that are shown; of too many, how many more there are."""
    facts = list(message.card.facts)
    if len(facts) <= MOST_FACTS:
        return facts
    return [*facts[: MOST_FACTS - 1], ("and", f"{len(facts) - MOST_FACTS + 1} more")]


def _evidence(message: Message) -> Iterator[str]:
    """Yield what is shown as a block of code."""
    if message.card.evidence:
        yield message.card.evidence
    if message.card.context:
        yield message.card.context


def _remarks(message: Message) -> str:
    return "; ".join(message.card.sentences)


def _notes(message: Message) -> str:
    return "\n".join(message.card.notes)


# Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks


def slack(message: Message) -> bytes:
    """Return a message for an incoming webhook of Slack."""
    body = slack_message(message)
    return neutral.fitted(lambda _: body, _GOOGLE_MESSAGE * 4)


def slack_message(message: Message) -> dict[str, object]:
    """Return the parts of a message of Slack."""
    title = neutral.within(headline(message, neutral.slack), _SLACK_MESSAGE)
    blocks = list(_slack_blocks(message))
    body: dict[str, object] = {"text": title}
    if blocks:
        body["attachments"] = [{"color": _hex(message), "blocks": blocks}]
    return body


def _slack_blocks(message: Message) -> Iterator[dict[str, object]]:
    if message.texts.text:
        text = neutral.own(message.own_text(neutral.slack), _SLACK_TEXT)
        if text.strip():
            yield _mrkdwn(text)
        return
    if remarks := _remarks(message):
        yield _mrkdwn(neutral.within(remarks, _SLACK_TEXT, neutral.slack))
    facts = _facts(message)
    for first in range(0, len(facts), _SLACK_FIELDS):
        fields = [_slack_plain(f"{name}\n{value}") for name, value in facts[first : first + _SLACK_FIELDS]]
        yield {"type": "section", "fields": fields}
    for evidence in _evidence(message):
        inside = neutral.within(evidence, _SLACK_TEXT - 8, lambda text: neutral.slack(neutral.code(text)))
        yield _mrkdwn(f"```\n{inside}\n```")
    if notes := _notes(message):
        yield _mrkdwn(neutral.within(notes, _SLACK_TEXT, neutral.slack))
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": title}, "url": url}
        for title, url in _buttons(message)
    ]
    if buttons:
        yield {"type": "actions", "elements": buttons}


def _buttons(message: Message) -> list[tuple[str, str]]:
    """Return the title and the URL of each button below a message."""
    card = message.card
    return [(title, url) for title, url in (("Open", card.url), ("Acknowledge", card.ack_url)) if url]


def _mrkdwn(text: str) -> dict[str, object]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _slack_plain(text: str) -> dict[str, object]:
    return {"type": "plain_text", "text": neutral.within(text, _SLACK_FIELD), "emoji": False}


# Discord: https://discord.com/developers/docs/resources/webhook#execute-webhook


def discord(message: Message) -> bytes:
    """Return a message for a webhook of Discord; it can notify nobody by name."""
    title = neutral.own(headline(message, neutral.markdown), _DISCORD_CONTENT - 4)
    body: dict[str, object] = {"content": f"**{title}**", "allowed_mentions": {"parse": []}}
    if message.texts.text:
        body["content"] = neutral.own(f"**{title}**\n{message.own_text(neutral.markdown)}", _DISCORD_CONTENT)
    else:
        body["embeds"] = [_discord_embed(message)]
    return neutral.fitted(lambda _: body, _GOOGLE_MESSAGE * 4)


def _discord_embed(message: Message) -> dict[str, object]:
    parts = [neutral.within(remarks, 500, neutral.markdown)] if (remarks := _remarks(message)) else []
    room = _DISCORD_DESCRIPTION - sum(map(len, parts)) - 600
    evidence = list(_evidence(message))
    parts += [f"```\n{neutral.within(each, room // len(evidence) - 10, neutral.code)}\n```" for each in evidence]
    if notes := _notes(message):
        parts.append(neutral.within(notes, 500, neutral.markdown))
    embed: dict[str, object] = {"color": color_of(message), "timestamp": rfc3339(message.facts.time)}
    if parts:
        embed["description"] = "\n".join(parts)
    if message.card.url:
        embed |= {"title": "Open", "url": message.card.url}
    room = _DISCORD_EMBED - len("Open") - sum(map(len, parts)) - len(parts)
    facts = _facts(message)
    share = min(room // max(len(facts), 1) - _DISCORD_NAME, _DISCORD_FIELD)
    embed["fields"] = [
        {
            "name": neutral.within(name, _DISCORD_NAME, neutral.markdown),
            "value": neutral.within(value, share, neutral.markdown),
            "inline": True,
        }
        for name, value in facts
    ]
    return embed


# Teams: https://learn.microsoft.com/power-automate/teams/overview, "When a Teams webhook request is received"


def teams(message: Message) -> bytes:
    """Return a message for a workflow of Teams: an Adaptive Card."""
    return neutral.fitted(lambda size: _teams(message, size), _TEAMS_MESSAGE)


def _teams(message: Message, size: int) -> dict[str, object]:
    card: dict[str, object] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": list(_teams_body(message, size)),
    }
    if actions := [{"type": "Action.OpenUrl", "title": title, "url": url} for title, url in _buttons(message)]:
        card["actions"] = actions
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _teams_body(message: Message, size: int) -> Iterator[dict[str, object]]:
    color = {"critical": "attention", "error": "attention", "warning": "warning"}.get(message.facts.severity, "accent")
    if message.facts.status == "resolved":
        color = "good"
    run = {"type": "TextRun", "text": neutral.within(headline(message), _TITLE), "weight": "bolder", "size": "medium"}
    # Its text is no Markdown, unlike a TextBlock's.
    yield {"type": "RichTextBlock", "inlines": [{**run, "color": color}]}
    if message.texts.text:
        text = neutral.within(message.own_text(neutral.markdown), size)
        yield {"type": "TextBlock", "wrap": True, "text": text or " "}
        return
    if remarks := _remarks(message):
        yield _teams_run(remarks, size)
    limit = min(size, 1000)
    facts = [
        {
            "title": neutral.within(name, limit, neutral.markdown),
            "value": neutral.within(value, limit, neutral.markdown),
        }
        for name, value in _facts(message)
    ]
    yield {"type": "FactSet", "facts": facts}
    for evidence in _evidence(message):
        yield {**_teams_run(evidence, size, fontType="monospace"), "separator": True}
    if notes := _notes(message):
        yield _teams_run(notes, size)


def _teams_run(text: str, size: int, **style: str) -> dict[str, object]:
    return {
        "type": "RichTextBlock",
        "inlines": [{"type": "TextRun", "text": neutral.within(text, size) or " ", **style}],
    }


# Mattermost: https://developers.mattermost.com/integrate/webhooks/incoming/


def mattermost(message: Message) -> bytes:
    """Return a message for an incoming webhook of Mattermost."""
    title = neutral.own(headline(message, neutral.mattermost), _TITLE * 2)
    if message.texts.text:
        text = neutral.own(f"**{title}**\n\n{message.own_text(neutral.mattermost)}", _MATTERMOST_MESSAGE)
        return neutral.fitted(lambda _: {"text": text}, _GOOGLE_MESSAGE * 4)
    share = _MATTERMOST_MESSAGE // 3
    parts = [neutral.within(remarks, share, neutral.mattermost)] if (remarks := _remarks(message)) else []
    parts += [f"```\n{neutral.within(each, share, neutral.code)}\n```" for each in _evidence(message)]
    if notes := _notes(message):
        parts.append(neutral.within(notes, share, neutral.mattermost))
    attachment: dict[str, object] = {
        "fallback": neutral.within(message.title(), _TITLE, neutral.mattermost),
        "color": _hex(message),
        "text": "\n".join(parts),
        "fields": [
            {
                "short": True,
                "title": neutral.within(name, 200, neutral.mattermost),
                "value": neutral.within(value, 1000, neutral.mattermost),
            }
            for name, value in _facts(message)
        ],
    }
    if message.card.url:
        attachment |= {"title": "Open", "title_link": message.card.url}
    body = {"text": f"**{title}**", "attachments": [attachment]}
    return neutral.fitted(lambda _: body, _GOOGLE_MESSAGE * 4)


# Google Chat: https://developers.google.com/workspace/chat/quickstart/webhooks


def googlechat(message: Message) -> bytes:
    """Return a message for a webhook of Google Chat: text, and a card with the facts."""
    return neutral.fitted(lambda size: _google(message, size), _GOOGLE_MESSAGE)


def _google(message: Message, size: int) -> dict[str, object]:
    title = neutral.own(headline(message, neutral.google), _TITLE)
    if message.texts.text:
        return {"text": neutral.own(f"*{title}*\n{message.own_text(neutral.google)}", min(size, _GOOGLE_TEXT))}
    parts = [f"*{title}*"]
    parts += [neutral.within(_remarks(message), 300, neutral.google)] if message.card.sentences else []
    evidence = list(_evidence(message))
    room = min(size, (_GOOGLE_TEXT - 1000) // max(len(evidence), 1))
    parts += [f"```\n{neutral.within(each, room, neutral.google_code)}\n```" for each in evidence]
    parts += [neutral.within(_notes(message), 300, neutral.google)] if message.card.notes else []
    widgets: list[dict[str, object]] = [
        {
            "decoratedText": {
                "topLabel": neutral.unmentioned(neutral.line(name, 100)),
                "text": neutral.within(value, min(size, 500), html.escape) or " ",
                "wrapText": True,
            }
        }
        for name, value in _facts(message)
    ]
    if buttons := [{"text": title, "onClick": {"openLink": {"url": url}}} for title, url in _buttons(message)]:
        widgets.append({"buttonList": {"buttons": buttons}})
    card = {"cardId": "alarm", "card": {"sections": [{"widgets": widgets}]}}
    return {"text": "\n".join(parts), "cardsV2": [card]}
