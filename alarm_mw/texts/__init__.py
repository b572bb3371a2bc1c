"""Messages of alarms: the facts of a firing, the templates of a configuration, and the default text for people.

Pure: facts in, text out. How a receiver wants it is the business of its action. The rest of this package is imported
with the first message for people: uWSGI's messages need none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from alarm_mw.model.types import DEFAULT_TEXTS, Firing
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:
    from alarm_mw.model.interfaces import ActionContext
    from alarm_mw.texts.message import Message


def message_for(firing: Firing, context: ActionContext, title: str = "") -> Message:
    """Return an alarm's message for people; `title` is a template that replaces the alarm's own."""
    with held_off():
        from alarm_mw.texts.message import message_of  # noqa: PLC0415  # takes 10 ms of a start

    texts = context.texts or DEFAULT_TEXTS
    texts = structs.replace(texts, title=title) if title else texts
    return message_of(firing, context.place, texts, context.server_pid())


def uploaded(firing: Firing, context: ActionContext) -> bytes:
    """Return the message for a program: its exact bytes, or the alarm's template as a line."""
    if context.texts is None or not context.texts.text:
        return said(firing)
    return message_for(firing, context).own_text().encode() + b"\n"


def said(firing: Firing) -> bytes:
    """Return the very bytes of the message, behind a word where it is not the first one about its incident."""
    notice = None if firing.trigger is None else firing.trigger.incident
    if notice is None or notice.status == "firing":
        return firing.message
    return notice.status.upper().encode() + b" " + firing.message
