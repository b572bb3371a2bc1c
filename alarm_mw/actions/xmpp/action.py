"""``xmpp:JID;PASSWORD;TO``: sends a chat message over an account that stays online."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from msgspec import Meta

from alarm_mw.model import keyvalue
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import SECRET, ActionContext, PluginOptions
from alarm_mw.model.keyvalue import check_ca_file
from alarm_mw.model.printable import printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off
from alarm_mw.texts.message import message_of

if TYPE_CHECKING:
    from alarm_mw.actions.xmpp.client import XmppClient

#: An account or a room, with or without a resource. What is allowed in it in detail, the server knows.
_JID = re.compile(r"[^\s@/\"&'<>]+@[^\s@/\"&'<>]+(/.+)?")


class XmppOptions(PluginOptions, frozen=True, kw_only=True):
    """What the `xmpp` action can be told."""

    jid: Annotated[str, Meta(description="the account: `user@domain` or `user@domain/resource`")]
    password: Annotated[str, SECRET, Meta(description="the account's password")]
    to: Annotated[tuple[str, ...], Meta(description="accounts that get the message")] = ()
    rooms: Annotated[tuple[str, ...], Meta(description="rooms that get the message: `room@domain`")] = ()
    nick: Annotated[str, Meta(description="name in the rooms; the account's own if empty")] = ""
    resource: Annotated[str, Meta(description="resource; the server chooses if empty")] = ""
    host: Annotated[str, Meta(description="server to connect to; found by DNS if empty")] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 is 5222, or 5223 with `tls=direct`")] = 0
    tls: Annotated[
        Literal["required", "direct", "optional", "off"],
        Meta(description="`required`: STARTTLS or nothing; `direct`: TLS from the first byte; `optional`; `off`"),
    ] = "required"
    tls_verify: Annotated[bool, Meta(description="whether the server's certificate must be trusted")] = True
    ssl_insecure: Annotated[bool, Meta(description="the opposite of `tls_verify`, as `curl` calls it")] = False
    ca_file: Annotated[str, Meta(description="PEM file of the certificates to trust instead of the system's")] = ""

    def __post_init__(self) -> None:
        """Check what would fail at the first alarm."""
        for jid in (self.jid, *self.to, *self.rooms):
            if not _JID.fullmatch(jid):
                raise ValueError(f"{jid!r} is no Jabber address: expected user@domain")
        if not self.to and not self.rooms:
            raise ValueError("xmpp needs somebody to send to")
        check_ca_file(self.ca_file)

    @property
    def account(self) -> str:
        """Return the full address to log in with."""
        return f"{self.jid.partition('/')[0]}/{self.resource}" if self.resource else self.jid


class XmppAction:
    """Sends the message to accounts and rooms, and says it is delivered when the server has it.

    It logs in at the start and stays online, so that the account's presence tells whether the application runs; it
    comes back by itself when the server was away.
    """

    Options: ClassVar[type[PluginOptions]] = XmppOptions
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
        return f"to {to}\n\n{_text(firing, self._context)}"

    async def deliver(self, firing: Firing) -> None:
        """Send the message; wait for the connection if there is none. Raises `ActionError`."""
        assert self._client is not None, "deliver() belongs inside `async with action`"
        await self._client.deliver(firing, _text(firing, self._context))


def _text(firing: Firing, context: ActionContext) -> str:
    if context.texts is not None:
        text = message_of(firing, context.place, context.texts).text()
    else:
        text = "\n".join(printable_lines(firing.message))
    return text or "(an empty line)"
