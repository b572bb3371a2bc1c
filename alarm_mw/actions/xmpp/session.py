"""One connection to an XMPP server, from the login to its end, over `slixmpp`.

A session is used once: `slixmpp`'s own way of reconnecting keeps state of the old connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from slixmpp import JID, ClientXMPP
from slixmpp.stanza import Iq, Message, Presence
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.xmlstream import NotConnectedError

from alarm_mw.actions.xmpp.guard import Guard
from alarm_mw.actions.xmpp.options import XmppOptions
from alarm_mw.model.errors import ActionError
from alarm_mw.model.masking import quoted

#: Seconds that connecting and logging in may take.
LOGIN = 30.0

#: Seconds to wait for the server's answer to anything else.
ANSWER = 10.0

#: Seconds to wait for the server to close the stream.
GOODBYE = 1.0

#: Seconds before the next attempt after a refused password, and after an untrusted certificate.
LOGIN_PAUSE = 300.0
TRUST_PAUSE = 60.0

_MUC_USER = "{http://jabber.org/protocol/muc#user}"

#: A room's status codes: this is your own presence; you have created the room.
ROOM_SELF = "110"
ROOM_CREATED = "201"

#: What identifies an answer: the kind of stanza, its sender, its id.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no session."""

    text: str
    retry: bool = True
    #: Seconds to wait before the next attempt; 0 leaves it to the backoff.
    pause: float = 0.0

    def error(self) -> ActionError:
        """Return it as an error of a delivery."""
        return ActionError(self.text, retry=self.retry)


LOST = Trouble("the connection to the server is lost")
SILENT = Trouble("no answer in time")
GARBLED = Trouble("the server sends what is no XMPP", pause=TRUST_PAUSE)


class Session(ClientXMPP):
    """A connection: `open` it, `write` and wait for the `answer`, `close` it."""

    def __init__(
        self,
        options: XmppOptions,
        tls: ssl.SSLContext,
        note: Callable[[str], None],
        hear: Callable[[Message], None] = lambda _: None,
    ) -> None:
        """`note` writes to the log; `hear` is called with each chat message."""
        plain = options.tls in {"optional", "off"}
        super().__init__(
            options.account,
            options.password,
            plugin_config={"feature_mechanisms": {"unencrypted_plain": plain, "unencrypted_scram": plain}},
            ssl_context=tls,
            loop=asyncio.get_running_loop(),
        )
        self.trouble: Trouble | None = None
        self.online: asyncio.Future[None] = self.loop.create_future()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._is_closing = False
        self._guard = Guard()
        self._options = options
        self._note = note
        self._hear = hear
        self._waiting: dict[Key, asyncio.Future[StanzaBase]] = {}
        self._configure()
        self._listen()

    def _configure(self) -> None:
        tls = self._options.tls
        self.enable_direct_tls = tls == "direct"
        self.enable_starttls = tls in {"required", "optional"}
        self.enable_plaintext = tls == "off"
        self.default_port = 5223 if tls == "direct" else 5222
        # A redirect would change the name that the certificate is checked for.
        self.max_redirects = -1
        self.auto_authorize = None
        self.auto_subscribe = False

    def _listen(self) -> None:
        self.add_event_handler("session_start", self._on_session)
        self.add_event_handler("connection_failed", self._on_connection_failed)
        self.add_event_handler("ssl_invalid_chain", self._on_tls_failed)
        self.add_event_handler("failed_auth", self._on_login_refused)
        self.add_event_handler("no_auth", self._on_no_login)
        self.add_event_handler("stream_error", self._on_stream_error)
        self.add_event_handler("presence_subscribe", self._on_subscribe)
        self.add_event_handler("disconnected", self._on_end)
        self.add_filter("in", self._on_stanza)

    async def open(self) -> None:
        """Return when the session is online or has failed; then `trouble` is the reason."""
        options = self._options
        if options.host or options.port:
            self.connect(options.host or self.requested_jid.domain, options.port or self.default_port)
        else:
            self.connect()
        await asyncio.wait({self.online, self.ended}, timeout=LOGIN, return_when=asyncio.FIRST_COMPLETED)
        if not self.online.done() and not self.ended.done():
            self._fail(SILENT)

    async def close(self) -> None:
        """Close the stream, which ends the account's presence; leave no task behind."""
        self._is_closing = True
        tasks: list[asyncio.Future[Any]] = [
            task for task in (self._run_out_filters, self._current_connection_attempt) if task is not None
        ]
        self.cancel_connection_attempt()
        if self.online.done() and self.transport:
            tasks.append(self.disconnect(GOODBYE, ignore_send_queue=True))
            await asyncio.wait([self.ended], timeout=2 * GOODBYE)
        self.abort()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def write(self, stanza: object) -> None:
        """Send a stanza at once. Raises `ActionError` when there is no connection."""
        try:
            self.send_raw(str(stanza))
        except NotConnectedError:
            raise LOST.error() from None

    @contextlib.contextmanager
    def expecting(self, key: Key) -> Iterator[asyncio.Future[StanzaBase]]:
        """Return a future for the first stanza of this kind, from this bare address, with this id."""
        future = self._waiting[key] = self.loop.create_future()
        try:
            yield future
        finally:
            self._waiting.pop(key, None)

    async def answer(self, future: asyncio.Future[StanzaBase]) -> StanzaBase:
        """Return the result of `future`. Raises `ActionError` when nothing comes for `ANSWER` seconds."""
        either: list[asyncio.Future[Any]] = [future, self.ended]
        await asyncio.wait(either, timeout=ANSWER, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise (self.trouble or (LOST if self.ended.done() else SILENT)).error()

    def give_up(self) -> None:
        """End a connection on which the server no longer answers."""
        if not self.ended.done():
            self._fail(SILENT)

    def send_raw(self, data: str | bytes) -> None:
        """Write to the connection. Unlike the method that it replaces, it logs nothing, such as passwords."""
        if not self.transport:
            raise NotConnectedError
        self.transport.write(data.encode() if isinstance(data, str) else data)

    def data_received(self, data: bytes | str) -> None:
        """Parse what the server sends, within the limits of `guard`."""
        raw = data.encode() if isinstance(data, str) else data
        if self._guard.admits(raw):
            super().data_received(raw)
            if not self._guard.parser.is_broken:
                return
        self._fail(GARBLED)

    def init_parser(self) -> None:
        """Start a stream."""
        super().init_parser()
        self._guard = Guard()
        self.parser = self._guard.parser

    async def start_tls(self) -> bool:
        """Start TLS, unless the session is about to end."""
        return not self._is_closing and await super().start_tls()

    def reschedule_connection_attempt(self) -> None:
        """End the session; the client decides whether to reconnect."""
        self._on_end()

    def exception(self, exception: Exception) -> None:
        """Note an error of `slixmpp`, unless it is only the end of the connection."""
        if not self.ended.done() and not isinstance(exception, NotConnectedError):
            self._note(f"{type(exception).__name__} in the connection")

    def _fail(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self.abort()
        self._on_end()

    def _on_session(self, _: object) -> None:
        self.trouble = None
        self.write(self.make_presence())
        if not self.online.done():
            self.online.set_result(None)

    def _on_end(self, _: object = None) -> None:
        if not self.ended.done():
            self.trouble = self.trouble or LOST
            self.ended.set_result(None)

    def _on_connection_failed(self, error: object) -> None:
        if isinstance(error, ssl.SSLError):
            self.trouble = _distrust(error)
        else:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.trouble = Trouble(f"cannot connect: {reason}")

    def _on_tls_failed(self, error: ssl.SSLError) -> None:
        self._fail(_distrust(error))

    def _on_login_refused(self, failure: StanzaBase) -> None:
        # Other mechanisms may follow: the last one counts.
        condition = failure["condition"]
        temporary = condition == "temporary-auth-failure"
        advice = "" if temporary else "; check the account and its password"
        self.trouble = Trouble(f"login refused: {condition}{advice}", temporary, 0.0 if temporary else LOGIN_PAUSE)

    def _on_no_login(self, _: object) -> None:
        self.trouble = Trouble("the server offers no login that is safe on this connection", pause=TRUST_PAUSE)

    def _on_stream_error(self, error: StanzaBase) -> None:
        # In a conflict another program uses the same address: reconnecting at once would disconnect it in turn.
        condition = error["condition"]
        pause = TRUST_PAUSE if condition == "conflict" else 0.0
        self.trouble = Trouble(f"the server ended the connection: {condition}", pause=pause)

    def _on_subscribe(self, presence: Presence) -> None:
        """Show our presence to the recipients of alarms only."""
        if presence["from"].bare in {JID(account).bare for account in self._options.to}:
            self.write(self.make_presence(pto=presence["from"].bare, ptype="subscribed"))

    def _on_stanza(self, stanza: StanzaBase) -> StanzaBase:
        self._guard.note_stanza()
        if (key := _key(stanza)) and (future := self._waiting.get(key)):
            if not future.done():
                future.set_result(stanza)
        elif isinstance(stanza, Message) and stanza["type"] == "error":
            self._note(f"a message to {stanza['from'].bare} came back: {reason(stanza)}")
        elif isinstance(stanza, Message) and stanza["type"] in {"chat", "normal"} and stanza["body"]:
            self._hear(stanza)
        return stanza


def _key(stanza: StanzaBase) -> Key | None:
    """Return the keys under which `stanza` may be awaited."""
    if isinstance(stanza, Iq) and stanza["type"] in {"result", "error"}:
        return ("iq", stanza["from"].bare, stanza["id"])
    if isinstance(stanza, Message) and stanza["type"] in {"error", "groupchat"}:
        return ("message", stanza["from"].bare, stanza["id"])
    if isinstance(stanza, Presence) and (stanza["type"] == "error" or ROOM_SELF in statuses(stanza)):
        return ("presence", stanza["from"].bare, "")
    return None


def statuses(presence: StanzaBase) -> set[str]:
    """Return the status codes that a room gives with a presence (XEP-0045, section 15.6)."""
    return {status.get("code", "") for status in presence.xml.iter(f"{_MUC_USER}status")}


def _distrust(error: ssl.SSLError) -> Trouble:
    # Retried later: the usual bad certificate has expired, and is renewed.
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "ca_file=FILE names the certificates to trust, tls_verify=false accepts any"
        return Trouble(f"the certificate is not trusted: {error.verify_message}; {advice}", pause=TRUST_PAUSE)
    return Trouble(f"TLS failed: {error.reason}", pause=TRUST_PAUSE)


def reason(stanza: StanzaBase) -> str:
    """Return the text of an error."""
    error = stanza["error"]
    return quoted(f"{error['condition']} {error['text']}".strip())
