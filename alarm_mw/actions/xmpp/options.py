"""The options of the `xmpp` action."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta

from alarm_mw.model.interfaces import SECRET, PluginOptions
from alarm_mw.model.keyvalue import check_ca_file

#: An account or a room, with or without a resource; the server checks the details.
_JID = re.compile(r"[^\s@/\"&'<>]+@[^\s@/\"&'<>]+(/.+)?")


class XmppOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `xmpp`."""

    jid: Annotated[str, Meta(description="the account: `user@domain` or `user@domain/resource`")]
    password: Annotated[str, SECRET, Meta(description="the account's password")]
    to: Annotated[tuple[str, ...], Meta(description="accounts that get the message")] = ()
    rooms: Annotated[tuple[str, ...], Meta(description="rooms that get the message: `room@domain`")] = ()
    nick: Annotated[str, Meta(description="name in the rooms; the account's name if empty")] = ""
    resource: Annotated[str, Meta(description="resource; chosen by the server if empty")] = ""
    host: Annotated[str, Meta(description="server to connect to; found by DNS if empty")] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 is 5222, or 5223 with `tls=direct`")] = 0
    tls: Annotated[
        Literal["required", "direct", "optional", "off"],
        Meta(description="`required`: STARTTLS only; `direct`: TLS from the first byte; `optional`; `off`"),
    ] = "required"
    tls_verify: Annotated[bool, Meta(description="whether the server's certificate must be trusted")] = True
    ssl_insecure: Annotated[bool, Meta(description="the opposite of `tls_verify`, as in `curl`")] = False
    ca_file: Annotated[str, Meta(description="PEM file of the certificates to trust instead of the system's")] = ""

    def __post_init__(self) -> None:
        """Raise an error for what would fail at the first alarm."""
        for jid in (self.jid, *self.to, *self.rooms):
            if not _JID.fullmatch(jid):
                raise ValueError(f"{jid!r} is no Jabber address: expected user@domain")
        if not self.to and not self.rooms:
            raise ValueError("xmpp needs a recipient")
        check_ca_file(self.ca_file)

    @property
    def account(self) -> str:
        """Return the full address to log in with."""
        return f"{self.jid.partition('/')[0]}/{self.resource}" if self.resource else self.jid
