"""A firing as the message of one alarm: its facts, with the alarm's templates in place of the default texts."""

from __future__ import annotations

import msgspec

from alarm_mw.model.types import DEFAULT_TEXTS, Firing, Place, Texts
from alarm_mw.texts.facts import Facts, facts_of
from alarm_mw.texts.human import Card, body_lines, card_of, cut_line, shorten
from alarm_mw.texts.templates import Escape, template

#: Maximum number of characters of each value a template may show, in a title and in a text.
IN_TITLE = 1000
IN_TEXT = 100_000


class Message(msgspec.Struct, frozen=True):
    """The message of an alarm for a firing."""

    facts: Facts
    card: Card
    texts: Texts = DEFAULT_TEXTS

    def title(self, escape: Escape = str) -> str:
        """Return the first line, by the alarm's template or the default one; `escape` makes values safe there."""
        if self.texts.title:
            return " ".join(template(self.texts.title).render(self.facts, _short(escape, IN_TITLE)).split("\n"))
        return escape(self.card.title)

    def short_title(self, limit: int) -> str:
        """Return the first line in at most `limit` characters."""
        return cut_line(self.title(), limit)

    def own_text(self, escape: Escape = str) -> str:
        """Return the text of the alarm's template; empty where it has none."""
        return template(self.texts.text).render(self.facts, _short(escape, IN_TEXT)) if self.texts.text else ""

    def body(self) -> str:
        """Return the text below the title, as plain text."""
        return self.own_text() if self.texts.text else "\n".join(body_lines(self.card))

    def below(self, limit: int) -> str:
        """Return the text below a title of at most `limit` characters, including the title if it was shortened."""
        return self.body() if self.texts.text or len(self.title()) <= limit else self.text()

    def text(self) -> str:
        """Return title and text as plain text."""
        if self.texts.text:
            return self.own_text()
        return "\n".join([self.title(), *body_lines(self.card)])


def _short(escape: Escape, limit: int) -> Escape:
    """Return what shortens a value and then escapes it: no service takes more, and escaping a megabyte takes time."""
    return lambda value: escape(value if len(value) <= limit else shorten(value, limit))


def message_of(firing: Firing, place: Place, texts: Texts = DEFAULT_TEXTS, server_pid: int | None = None) -> Message:
    """Return the message of an alarm with these `texts` for a firing."""
    facts = facts_of(firing, place, server_pid)
    return Message(facts, card_of(facts), texts)
