"""An XMPP account that stays online, reconnecting after each session."""

from __future__ import annotations

import asyncio
import contextlib
import random

from slixmpp import JID, InvalidJID

from alarm_mw.actions.xmpp.messages import Conversation
from alarm_mw.actions.xmpp.options import XmppOptions
from alarm_mw.actions.xmpp.orders import Orders
from alarm_mw.actions.xmpp.session import LOST, Session, Trouble
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.printable import printable
from alarm_mw.model.recipients import Recipients, Refusal
from alarm_mw.model.tls import client_context
from alarm_mw.model.types import Firing

#: Seconds that a delivery waits for a session.
PATIENCE = 10.0

#: Seconds without traffic after which the server is pinged.
IDLE = 60.0

#: Seconds before the first reconnect, and the longest pause.
BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0


class XmppClient:
    """Keeps the account online from `start` to `close`. Belongs to one event loop."""

    def __init__(self, options: XmppOptions, context: ActionContext) -> None:
        self._options = options
        self._alarm = context.alarm
        self._write_log = context.write_log
        self._recipients = Recipients((*options.to, *options.rooms), "xmpp", context.write_log)
        self._tls = client_context(ca_file=options.ca_file, verify=options.tls_verify and not options.ssl_insecure)
        #: The logged reason why the account is offline; empty while it is online.
        self._told = ""
        self._conversation: Conversation | None = None
        self._trouble: Trouble | None = None
        self._orders = Orders(options.to, context.obey, self._answer, self._note)
        self._tasks: set[asyncio.Task[None]] = set()
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Start to connect, without waiting for it."""
        for work in (self._stay_online(), self._orders.carry_out()):
            self._tasks.add(asyncio.create_task(work, name=f"alarm-mw-xmpp {self._options.jid}"))

    async def close(self) -> None:
        """Go offline."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def deliver(self, firing: Firing, text: str) -> None:
        """Send the text of a firing to the recipients that have not taken it yet. Raises `ActionError`."""
        left = self._recipients.left(firing)
        conversation = await self._connected()
        results = await asyncio.gather(*(self._tell(conversation, one, firing.id, text) for one in left))
        self._recipients.settle({one: refusal for one, refusal in zip(left, results, strict=True) if refusal})

    async def _tell(self, conversation: Conversation, recipient: str, stanza_id: str, text: str) -> Refusal | None:
        tell = conversation.tell_room if recipient in self._options.rooms else conversation.tell_account
        try:
            await tell(recipient, stanza_id, text)
        except ActionError as error:
            return Refusal(str(error), error.retry)
        except InvalidJID:
            return Refusal("not a Jabber address", retry=False)
        return None

    def _answer(self, author: JID, text: str) -> None:
        if self._conversation:
            with contextlib.suppress(ActionError):  # the author asks again
                self._conversation.answer(author, text)

    async def _connected(self) -> Conversation:
        """Return the conversation once there is one; raise why there is none, at once if waiting cannot help."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self._conversation and not (self._trouble and self._trouble.pause):
                    await asyncio.wait({self._news})
        if self._conversation:
            return self._conversation
        raise (self._trouble or LOST).error()

    async def _stay_online(self) -> None:
        failures = 0
        while True:
            trouble, lasted = await self._one_session()
            failures = 0 if lasted else failures + 1
            self._tell_news(None, trouble)
            self._tell_trouble(trouble)
            await asyncio.sleep(trouble.pause or pause(failures, random.random()))

    async def _one_session(self) -> tuple[Trouble, bool]:
        """Run one session; return why it ended, and whether it had started."""
        session = None
        try:
            session = Session(self._options, self._tls, self._note, self._orders.hear)
            await session.open()
            if session.online.done():
                await self._hold(session)
            return session.trouble or LOST, session.online.done()
        except Exception as error:  # noqa: BLE001  # after any error the account must reconnect
            self._note(f"{type(error).__name__}: {error}")
            return Trouble(f"{type(error).__name__} in the connection"), False
        finally:
            if session:
                await session.close()

    async def _hold(self, session: Session) -> None:
        conversation = Conversation(session, self._options.nick)
        self._told = ""
        self._tell_news(conversation, None)
        for room in self._options.rooms:
            with contextlib.suppress(ActionError, InvalidJID):  # repeated, and reported, with the first message
                await conversation.enter(room)
        while not session.ended.done():
            await asyncio.wait({session.ended}, timeout=IDLE)
            with contextlib.suppress(ActionError):  # a server that is silent ends the session
                await conversation.ping()
        self._tell_news(None, session.trouble)

    def _tell_news(self, conversation: Conversation | None, trouble: Trouble | None) -> None:
        self._conversation, self._trouble = conversation, trouble
        self._news.set_result(None)
        self._news = asyncio.get_running_loop().create_future()

    def _tell_trouble(self, trouble: Trouble) -> None:
        """Log, once, what an operator has to fix, before the first alarm needs it."""
        if trouble.pause and trouble.text != self._told:
            self._told = trouble.text
            server = self._options.host or self._options.jid.partition("/")[0].rpartition("@")[2]
            self._note(f"alarm {self._alarm}: {server}: {trouble.text}")

    def _note(self, text: str) -> None:
        self._write_log(f"[uwsgi-alarm-xmpp] {printable(text)}\n".encode())


def pause(failures: int, chance: float) -> float:
    """Return the seconds to wait after consecutive failures; `chance` is a random number from 0 to 1."""
    limit = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** min(failures, 10))
    return limit * (0.5 + 0.5 * chance)
