"""Sends messages over an XMPP connection, and confirms that they have arrived."""

from __future__ import annotations

import asyncio
import itertools

from slixmpp import JID
from slixmpp.stanza import Presence
from slixmpp.types import IqTypes, MessageTypes
from slixmpp.xmlstream import ET, StanzaBase

from alarm_mw.actions.xmpp.session import ROOM_CREATED, Session, reason, statuses
from alarm_mw.model.errors import ActionError

_MUC = "{http://jabber.org/protocol/muc}"
_MUC_OWNER = "{http://jabber.org/protocol/muc#owner}"
_FORM = "{jabber:x:data}"
_PING = "{urn:xmpp:ping}ping"
_ORIGIN_ID = "{urn:xmpp:sid:0}origin-id"


class Conversation:
    """Messages over one session. Every method raises `ActionError` when the server refuses."""

    def __init__(self, session: Session, nick: str) -> None:
        self._session = session
        self._nick = nick
        self._numbers = itertools.count(1)
        self._entering = asyncio.Lock()
        #: The rooms that the session has entered.
        self._rooms: set[str] = set()

    async def tell_account(self, account: str, stanza_id: str, text: str) -> None:
        """Send a chat message; return when the server has taken it.

        A server handles the stanzas of a stream in their order (RFC 6120, section 10.1), so the answer to a ping sent
        after the message says that it has the message, and what it refuses at once has come back before. Every server
        answers, if only that it knows no ping; an acknowledgement (XEP-0198) would say no more, and not every one
        gives it.
        """
        session = self._session
        with session.expecting(("message", JID(account).bare, stanza_id)) as refusal:
            session.write(self._message(account, "chat", stanza_id, text))
            await self.ping()
            if refusal.done():
                raise _refused(refusal.result())

    def answer(self, author: JID, text: str) -> None:
        """Send a chat message, without waiting for the server."""
        self._session.write(self._message(author, "chat", f"answer-{next(self._numbers)}", text))

    async def tell_room(self, room: str, stanza_id: str, text: str) -> None:
        """Send a message to a room, entered first if need be; return when the room shows it."""
        await self.enter(room)
        session = self._session
        with session.expecting(("message", JID(room).bare, stanza_id)) as echo:
            session.write(self._message(room, "groupchat", stanza_id, text))
            answer = await session.answer(echo)
        if answer["type"] != "error":
            return
        if answer["error"]["condition"] == "not-acceptable":  # we are no longer in it (XEP-0045, section 7.4)
            self._rooms.discard(room)
            raise ActionError("no longer in the room", retry=True)
        raise _refused(answer)

    async def enter(self, room: str) -> None:
        """Enter a room if needed; return once it is entered."""
        async with self._entering:
            if room not in self._rooms:
                await self._enter(room)

    async def _enter(self, room: str) -> None:
        """Enter a room (XEP-0045, section 7.2), without its history."""
        nick = self._nick or self._session.boundjid.user
        for name in (nick, f"{nick}_", f"{nick}_{self._session.boundjid.resource}"):
            with self._session.expecting(("presence", JID(room).bare, "")) as entry:
                self._session.write(self._entry(f"{room}/{name}"))
                answer = await self._session.answer(entry)
            if answer["type"] != "error":
                if ROOM_CREATED in statuses(answer):
                    await self._unlock(room)
                self._rooms.add(room)
                return
            if answer["error"]["condition"] != "conflict":  # the name is taken: try the next
                break
        raise _refused(answer)

    async def ping(self) -> None:
        """Ping the server (XEP-0199); end the connection where it does not answer."""
        try:
            await self._ask(self._session.boundjid.domain, "get", ET.Element(_PING))
        except ActionError:
            self._session.give_up()
            raise

    async def _unlock(self, room: str) -> None:
        """Unlock a room that was just created, with the server's defaults (XEP-0045, section 10.1.2)."""
        query = ET.Element(f"{_MUC_OWNER}query")
        ET.SubElement(query, f"{_FORM}x", type="submit")
        await self._ask(room, "set", query)

    async def _ask(self, whom: str, kind: IqTypes, query: ET.Element) -> StanzaBase:
        session, stanza_id = self._session, f"ask-{next(self._numbers)}"
        iq = session.make_iq(id=stanza_id, ito=whom, itype=kind)
        iq.append(query)
        with session.expecting(("iq", JID(whom).bare, stanza_id)) as answer:
            session.write(iq)
            return await session.answer(answer)

    def _message(self, to: str | JID, kind: MessageTypes, stanza_id: str, text: str) -> StanzaBase:
        message = self._session.make_message(mto=to, mbody=text, mtype=kind)
        message["id"] = stanza_id
        ET.SubElement(message.xml, _ORIGIN_ID, id=stanza_id)
        return message

    def _entry(self, occupant: str) -> Presence:
        presence = self._session.make_presence(pto=occupant)
        ET.SubElement(ET.SubElement(presence.xml, f"{_MUC}x"), f"{_MUC}history", maxstanzas="0")
        return presence


def _refused(stanza: StanzaBase) -> ActionError:
    """Return the error of a recipient or room; the type ``wait`` means that a retry may help (RFC 6120, 8.3.2)."""
    return ActionError(reason(stanza), retry=stanza["error"]["type"] == "wait")
