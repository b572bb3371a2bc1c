"""Takes orders about incidents from the recipients of an alarm, and from nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from slixmpp import JID, InvalidJID
from slixmpp.stanza import Message

from alarm_mw.engine.incidents.chat import parse
from alarm_mw.model.interfaces import Obey
from alarm_mw.model.printable import printable

#: How many orders may wait for the one before; further ones are ignored.
WAITING = 20

#: How many strangers are answered and named in the log, each once.
STRANGERS = 100

_DELAY = "{urn:xmpp:delay}delay"

#: Sends a text to an address.
Send = Callable[[JID, str], None]


class Orders:
    """Belongs to one event loop. A message that is no order is not answered: two programs could talk for ever."""

    def __init__(self, recipients: Collection[str], obey: Obey, send: Send, note: Callable[[str], None]) -> None:
        self._recipients = {*_addresses(recipients)}
        self._obey = obey
        self._send = send
        self._note = note
        self._strangers: set[str] = set()
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(WAITING)

    def hear(self, message: Message) -> None:
        """Take a chat message in."""
        if parse(message["body"]) is None:
            return
        if message["from"].bare not in self._recipients:
            self._refuse(message["from"])
        elif not self._waiting.full():
            self._waiting.put_nowait(message)

    async def carry_out(self) -> None:
        """Carry orders out and answer them, one after the other, until cancelled."""
        while True:
            message = await self._waiting.get()
            try:
                answer = await self._obey(message["body"], message["from"].bare, _sent(message))
            except Exception as error:  # noqa: BLE001  # the next order must be heard
                answer = f"that failed: {error}"
                self._note(f"an order of {printable(message['from'].bare)} failed: {printable(repr(error))}")
            self._send(message["from"], "\n".join(map(printable, answer.split("\n"))))

    def _refuse(self, stranger: JID) -> None:
        if stranger.bare in self._strangers or len(self._strangers) >= STRANGERS:
            return
        self._strangers.add(stranger.bare)
        self._note(f"refused an order of {printable(stranger.bare)}, who is not in `to`")
        self._send(stranger, "refused: only the recipients of this alarm can do that")


def _addresses(recipients: Collection[str]) -> Iterator[str]:
    """Yield the addresses without their resources; one that is none gives no orders, and is reported when sent to."""
    for account in recipients:
        with contextlib.suppress(InvalidJID):
            yield JID(account).bare


def _sent(message: Message) -> float | None:
    """Return when a message was written that was kept for us while we were offline (XEP-0203); else None."""
    delay = message.xml.find(_DELAY)
    try:
        return None if delay is None else datetime.fromisoformat(delay.get("stamp", "")).timestamp()
    except ValueError:
        return None
