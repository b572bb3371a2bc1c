"""Values made safe for the markup of chat services, and short enough for their limits."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from alarm_mw.texts.human import cut_line, shorten

#: Stands between two characters that would mean something together, and is not seen.
_BETWEEN = "\u200b"

#: What starts markup in Markdown anywhere, and what does so at the beginning of a line.
_INLINE = re.compile(r"([\\`*_~|\[\]])")
_AT_START = re.compile(r"^([ \t]*)([-+#>]|[0-9]+(?=[.)]))", re.MULTILINE)
_MENTIONS = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|<(?=[@!#]|users/)")
#: A name after an ``@`` that is no part of an address or of ``shop@web-3``, and whatever is for everybody.
_MENTION = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|(?<!\w)@(?=\S)")
_IN_CODE = re.compile(rf"{_MENTION.pattern}|<(?=[@!#])")


def slack(text: str) -> str:
    """Escape the three characters of Slack's mrkdwn: no mention, link or channel can be written without them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(text: str) -> str:
    """Escape Markdown, and the brackets of Discord's mentions; part ``@`` from the name behind it."""
    return mattermost(text).replace("<", "\\<")


def mattermost(text: str) -> str:
    """Escape Markdown for Mattermost, which shows the backslash before a ``<``."""
    return _MENTION.sub(f"@{_BETWEEN}", _AT_START.sub(_escape_start, _INLINE.sub(r"\\\1", text)))


def _escape_start(found: re.Match[str]) -> str:
    """Escape what begins a list, a heading or a quotation: of ``1.`` the dot, since a digit cannot be escaped."""
    blank, mark = found.groups()
    return f"{blank}{mark}{_BETWEEN}" if mark.isdigit() else f"{blank}\\{mark}"


def google(text: str) -> str:
    """Part what Google Chat, which has no escape, would read as a mention, a link or emphasis."""
    return re.sub(r"([<*_~`])", rf"\1{_BETWEEN}", text)


def code(text: str) -> str:
    """Return the inside of a block of code: its end and mentions are parted."""
    return _IN_CODE.sub(f"\\g<0>{_BETWEEN}", text.replace("```", f"`{_BETWEEN}`{_BETWEEN}`"))


def google_code(text: str) -> str:
    """Return the inside of a block of code for Google Chat."""
    return code(text).replace("<", f"<{_BETWEEN}")


def unmentioned(text: str) -> str:
    """Part what mentions somebody in a chat, and change nothing else."""
    return _MENTIONS.sub(f"\\g<0>{_BETWEEN}", text)


def within(text: str, limit: int, escape: Callable[[str], str] = str) -> str:
    """Return `text`, escaped and then of at most `limit` characters as JavaScript counts them (UTF-16)."""
    size = limit
    while True:
        escaped = escape(shorten(text, size))
        if (length := _length(escaped)) <= limit:
            return escaped
        size = min(size - 1, size * limit // length)
        if size <= 0:
            return ""


def line(text: str, limit: int) -> str:
    """Return one line in at most `limit` characters as JavaScript counts them."""
    size = limit
    while _length(cut := cut_line(text, size)) > limit:
        size = min(size - 1, size * limit // _length(cut))
    return cut


def own(text: str, limit: int) -> str:
    """Return text of a template, whose markup is meant, in at most `limit` characters."""
    return within(text, limit)


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


#: Maximum number of characters of evidence, and of a single fact, a message begins with.
_MOST = 16_000


def fitted(build: Callable[[int], object], limit: int) -> bytes:
    """Return the result of `build` as JSON in at most `limit` bytes; `build` gets the maximum length of its texts."""
    size = _MOST
    while True:
        data = msgspec.json.encode(build(size))
        if len(data) <= limit or size < 1:
            return data
        size //= 2
