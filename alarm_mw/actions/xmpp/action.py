"""``xmpp:JID;PASSWORD;TO``: sends a chat message over an account that stays online."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from alarm_mw import texts
from alarm_mw.actions.xmpp.options import XmppOptions
from alarm_mw.model import keyvalue
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.printable import printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:
    from alarm_mw.actions.xmpp.client import XmppClient


#: Digits of an incident's id that a message suggests to write.
SHORT = 4


class XmppAction:
    """Sends the message to Jabber (XMPP) accounts and rooms. It is delivered when the server has accepted it.

    The account logs in at the start and stays online, so that its presence shows whether the application runs. It
    reconnects by itself.
    """

    Options: ClassVar[type[PluginOptions]] = XmppOptions
    #: It has no wheel for each Python and platform that we have one for.
    requires: ClassVar[tuple[str, ...]] = ("slixmpp",)
    concurrency: ClassVar[int] = 1

    def __init__(self, options: XmppOptions, context: ActionContext) -> None:
        self._options = options
        self._context = context
        self._client: XmppClient | None = None

    @classmethod
    def from_uwsgi(cls, args: str) -> XmppOptions:
        """Return the options of ``xmpp:JID[/RESOURCE];PASSWORD;TO[,TO…][;key=value…]``; rooms need no TO."""
        jid, _, rest = args.partition(";")
        password, _, rest = rest.partition(";")
        to, _, more = rest.partition(";")
        if to.partition("=")[0] in XmppOptions.__struct_fields__:
            to, more = "", rest
        pairs = dict(keyvalue.split(more))
        if not jid or not password or "" in pairs:
            raise OptionError("expected JID;PASSWORD;TO,TO;key=value, such as app@example.org;secret;me@example.org")
        return keyvalue.build(XmppOptions, {"jid": jid, "password": password, "to": to, **pairs})

    async def __aenter__(self) -> Self:
        # Imported here: who only checks a configuration does not need to wait for it.
        with held_off():
            from alarm_mw.actions.xmpp.client import XmppClient  # noqa: PLC0415  # see above

        self._client = XmppClient(self._options, self._context)
        self._client.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._client:
            await self._client.close()

    def preview(self, firing: Firing) -> str:
        """Return recipients and text."""
        to = ", ".join((*self._options.to, *self._options.rooms))
        return f"to {to}\n\n{self._text(firing)}"

    async def deliver(self, firing: Firing) -> None:
        """Send the message; wait for the connection if there is none. Raises `ActionError`."""
        assert self._client is not None, "deliver() belongs inside `async with action`"
        await self._client.deliver(firing, self._text(firing))

    def _text(self, firing: Firing) -> str:
        if self._context.texts is None:
            return "\n".join(printable_lines(texts.said(firing))) or "(an empty line)"
        text = texts.message_for(firing, self._context).text() or "(an empty line)"
        return f"{text}{self._hint(firing)}"

    def _hint(self, firing: Firing) -> str:
        """Return how to acknowledge the incident by a reply; empty where that is not possible."""
        notice = None if firing.trigger is None else firing.trigger.incident
        if notice is None or notice.ended is not None or not self._options.to:
            return ""
        return f'\nack: reply "ack {notice.id[:SHORT]}"'
