"""``xmpp:JID;PASSWORD;TO``, with a real Prosody."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from msgspec import structs
from prosody_server import PASSWORD, Prosody
from slixmpp import JID, ClientXMPP
from slixmpp.stanza import Message, Presence
from slixmpp.xmlstream import ET
from waiting import LIMIT, until

from alarm_mw import actions
from alarm_mw.actions.xmpp import XmppAction, XmppOptions
from alarm_mw.actions.xmpp.client import BACKOFF_MAX, pause
from alarm_mw.model.errors import ActionError, MissingError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.tls import client_context
from alarm_mw.model.types import Firing, IncidentNotice, Texts, Trigger

Make = Callable[..., Firing]


class Log(Protocol):
    @property
    def text(self) -> bytes: ...


class Person(ClientXMPP):
    """Somebody who reads what comes, by another client than ours."""

    def __init__(self, server: Prosody, user: str) -> None:
        tls = client_context(ca_file=server.ca_file)
        super().__init__(server.jid(user), PASSWORD, ssl_context=tls, loop=asyncio.get_running_loop())
        self.enable_direct_tls = False
        self.auto_authorize = None
        self.auto_subscribe = False
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.presences: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.add_event_handler("message", self.messages.put_nowait)
        self.add_event_handler("presence", self._on_presence)
        self._port = server.port

    def _on_presence(self, presence: Presence) -> None:
        self.presences.put_nowait((presence["from"].bare, presence["type"]))

    async def arrive(self) -> None:
        """Log in, and be seen."""
        self.connect("127.0.0.1", self._port)
        await self.wait_until("session_start", LIMIT)
        self.send_presence()

    async def read(self, count: int = 1) -> list[str]:
        """Wait for messages and return their bodies."""
        return [(await asyncio.wait_for(self.messages.get(), LIMIT))["body"] for _ in range(count)]

    async def sees(self, who: str, kind: str) -> None:
        """Wait until somebody's presence is of that kind."""
        async with asyncio.timeout(LIMIT):
            while await self.presences.get() != (who, kind):
                pass

    async def make_room(self, room: str, nick: str) -> None:
        """Make a room, be in it, and let others in."""
        self.register_plugin("xep_0045")
        await self.plugin["xep_0045"].join_muc_wait(JID(room), nick, timeout=LIMIT)
        iq = self.make_iq_set(ito=room)
        query = ET.SubElement(iq.xml, "{http://jabber.org/protocol/muc#owner}query")
        ET.SubElement(query, "{jabber:x:data}x", type="submit")
        await iq.send(timeout=LIMIT)  # type: ignore[no-untyped-call]  # the library's

    async def catch_up(self) -> None:
        """Return when everything that the server has sent so far has been seen."""
        self.send_message(self.boundjid, "mark", mtype="chat")
        while await self.read() != ["mark"]:
            pass

    async def leave(self) -> None:
        await self.disconnect(1)
        if self._run_out_filters:
            self._run_out_filters.cancel()


@asynccontextmanager
async def person(server: Prosody, user: str) -> AsyncIterator[Person]:
    somebody = Person(server, user)
    await somebody.arrive()
    try:
        yield somebody
    finally:
        await somebody.leave()


def options(server: Prosody, **changes: Any) -> XmppOptions:
    given: dict[str, Any] = {
        "jid": server.jid("app"),
        "password": PASSWORD,
        "to": (server.jid("me"),),
        "host": "127.0.0.1",
        "port": server.port,
        "ca_file": server.ca_file,
    }
    return XmppOptions(**given | changes)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run on a loop in another thread than the main one, and look that nothing is left of it."""
    failures: list[BaseException] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(RuntimeError(context)))
        await asyncio.wait_for(test, 2 * LIMIT)
        await asyncio.sleep(0)  # what was cancelled ends in the next turn
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    def body() -> None:
        try:
            asyncio.run(watched())
        except BaseException as error:  # noqa: BLE001  # to be raised in the main thread
            failures.append(error)

    before = set(os.listdir("/proc/self/fd"))
    thread = threading.Thread(target=body)
    thread.start()
    thread.join(3 * LIMIT)
    for failure in failures:
        raise failure
    assert set(os.listdir("/proc/self/fd")) <= before


async def deliver(action: XmppAction, firing: Firing) -> None:
    await asyncio.wait_for(action.deliver(firing), LIMIT)


async def deliver_as_a_lane(action: XmppAction, firing: Firing) -> int:
    """Retry until it is delivered; return the number of attempts."""
    for attempt in range(1, 1000):
        try:
            await deliver(action, firing)
        except ActionError as error:
            if not error.retry:
                raise
            await asyncio.sleep(0.05)  # as a lane rests between attempts: the server is to come back meanwhile
        else:
            return attempt
    raise AssertionError("never delivered")


def test_the_message_arrives(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """A second account reads it, as a chat message whose id is the firing's."""

    async def test() -> None:
        async with person(prosody, "me") as me, XmppAction(options(prosody), context) as action:
            await deliver(action, make_firing(b"TERRIBLE ALARM! The world exploded!!!\n"))
            message = await asyncio.wait_for(me.messages.get(), LIMIT)
            assert message["body"] == "TERRIBLE ALARM! The world exploded!!!"
            assert message["type"] == "chat"
            assert message["id"] == "firing-1"
            assert [tag.get("id") for tag in message.xml.iter("{urn:xmpp:sid:0}origin-id")] == ["firing-1"]

    run(test())


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (b"<b>&amp;</b> ]]> '\"\n", "<b>&amp;</b> ]]> '\""),
        (b"</body></message><presence type='unavailable'/>", "</body></message><presence type='unavailable'/>"),
        (b"\x00\x01\x1b[31m\xff\xfe", "\\x00\\x01\\x1b[31m\\xff\\xfe"),
        ("\ufffe\uffff caf\u00e9 \U0001f4a5".encode(), "\\ufffe\\uffff caf\u00e9 \U0001f4a5"),
        (b"several\r\nlines\n\there\n", "several\nlines\n\there"),
        (b"\n", "(an empty line)"),
        (b"", "(an empty line)"),
    ],
)
def test_hostile_bytes_are_shown(
    message: bytes, body: str, prosody: Prosody, context: ActionContext, make_firing: Make
) -> None:
    """No byte ends the message, the stream or up as nothing."""

    async def test() -> None:
        async with person(prosody, "me") as me, XmppAction(options(prosody), context) as action:
            await deliver(action, make_firing(message))
            await deliver(action, make_firing(b"next"))
            assert await me.read(2) == [body, "next"]

    run(test())


def test_every_recipient_gets_it(prosody: Prosody, context: ActionContext, log: Log, make_firing: Make) -> None:
    """One that does not exist keeps it from nobody, and is named in the log."""

    async def test() -> None:
        people = tuple(map(prosody.jid, ("me", "nobody", "you")))
        async with (
            person(prosody, "me") as me,
            person(prosody, "you") as you,
            XmppAction(options(prosody, to=people), context) as action,
        ):
            await deliver(action, make_firing(b"x"))
            assert await me.read() + await you.read() == ["x", "x"]

    run(test())
    assert log.text == b"[uwsgi-alarm-xmpp] nobody@alarms.test: service-unavailable\n"


def test_nobody_to_get_it_is_a_failure(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """When the only recipient is refused, the firing is not delivered, and a retry does not help."""

    async def test() -> None:
        async with XmppAction(options(prosody, to=(prosody.jid("nobody"),)), context) as action:
            with pytest.raises(ActionError, match=r"nobody@alarms\.test: service-unavailable") as caught:
                await deliver(action, make_firing(b"x"))
            assert not caught.value.retry

    run(test())


def test_a_room_gets_it(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """A message to a room is delivered when the room shows it, also when the nickname is taken."""

    async def test() -> None:
        room = "Ops@rooms.alarms.test"
        async with person(prosody, "me") as me:
            await me.make_room("ops@rooms.alarms.test", "app")
            async with XmppAction(options(prosody, to=(), rooms=(room,)), context) as action:
                for text in (b"one", b"two"):
                    await deliver(action, make_firing(text))
                messages = [await asyncio.wait_for(me.messages.get(), LIMIT) for _ in range(2)]
            assert [message["body"] for message in messages if message["type"] == "groupchat"] == ["one", "two"]
            assert messages[0]["from"].full == "ops@rooms.alarms.test/app_"

    run(test())


def test_a_room_that_is_not_there_is_made(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """And others can come in."""

    async def test() -> None:
        room = "new@rooms.alarms.test"
        async with XmppAction(options(prosody, to=(), rooms=(room,)), context) as action:
            await deliver(action, make_firing(b"nobody is there"))
            async with person(prosody, "me") as me:
                me.register_plugin("xep_0045")
                await me.plugin["xep_0045"].join_muc_wait(JID(room), "me", timeout=LIMIT, maxstanzas=0)
                await deliver(action, make_firing(b"somebody is there"))
                assert (await me.read())[-1] == "somebody is there"

    run(test())


def test_a_room_that_throws_us_out_is_entered_again(
    prosody: Prosody, context: ActionContext, make_firing: Make
) -> None:
    """The next attempt after a kick succeeds."""

    async def test() -> None:
        room = "kick@rooms.alarms.test"
        async with person(prosody, "me") as me:
            await me.make_room(room, "boss")
            async with XmppAction(options(prosody, to=(), rooms=(room,), nick="bot"), context) as action:
                await deliver(action, make_firing(b"one"))
                await me.plugin["xep_0045"].set_role(room, "bot", "none", timeout=LIMIT)
                assert await deliver_as_a_lane(action, make_firing(b"two")) == 2
            assert await me.read(2) == ["one", "two"]

    run(test())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_server_loses_nothing(
    number: signal.Signals, new_prosody: Callable[..., Prosody], context: ActionContext, make_firing: Make
) -> None:
    """A burst with a restart in the middle arrives whole and in order."""
    server = new_prosody()
    server.register("app", "me")
    server.start()

    async def test() -> None:
        texts = [f"{number:03d}" for number in range(60)]
        async with XmppAction(options(server), context) as action:
            restart: Awaitable[None] | None = None
            for position, text in enumerate(texts):
                if position == 20:
                    restart = asyncio.create_task(asyncio.to_thread(restart_server))
                await deliver_as_a_lane(action, make_firing(text.encode()))
            assert restart
            await restart
        # They were kept for an account that was not online.
        async with person(server, "me") as me:
            got: list[str] = []
            while not got or got[-1] != texts[-1]:
                got += await me.read()
        # At the break one may come twice, under one id.
        assert list(dict.fromkeys(got)) == texts

    def restart_server() -> None:
        server.stop(number)
        server.start()

    run(test())


def test_a_wrong_password_is_said_at_once(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """No retry helps, and the server is not stormed with attempts."""

    async def test() -> None:
        before = prosody.output().count("Client connected")
        async with XmppAction(options(prosody, password="wrong-secret"), context) as action:
            for _ in range(20):
                with pytest.raises(ActionError, match="login refused: not-authorized") as caught:
                    await deliver(action, make_firing(b"x"))
                assert not caught.value.retry
                assert "wrong-secret" not in str(caught.value)
        assert prosody.output().count("Client connected") == before + 1

    run(test())


def test_an_untrusted_certificate_is_said_at_once(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """No password is sent; once the certificate is renewed, a retry helps."""

    async def test() -> None:
        async with XmppAction(options(prosody, ca_file=""), context) as action:
            with pytest.raises(ActionError, match="the certificate is not trusted: ") as caught:
                await deliver(action, make_firing(b"x"))
            assert caught.value.retry

    run(test())


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ({"password": "wrong-secret"}, "login refused: not-authorized; check the account and its password"),
        ({"ca_file": ""}, "ca_file=FILE names the certificates to trust, tls_verify=false accepts any"),
    ],
)
def test_what_keeps_an_account_offline_is_logged_before_the_first_alarm(
    prosody: Prosody, context: ActionContext, log: Log, mistake: dict[str, str], text: str
) -> None:
    """The log names the alarm, the server and the remedy, once."""

    async def test() -> None:
        async with XmppAction(options(prosody, **mistake), context):
            await until(lambda: text.encode() in log.text)

    run(test())
    assert log.text.count(b"alarm test: 127.0.0.1: ") == 1
    assert log.text.startswith(b"[uwsgi-alarm-xmpp] ")


@pytest.mark.parametrize("how", [{"tls_verify": False}, {"ssl_insecure": True}])
def test_verification_can_be_turned_off(
    prosody: Prosody, context: ActionContext, make_firing: Make, how: dict[str, bool]
) -> None:
    """`tls_verify=false` accepts any certificate, and so does `ssl_insecure=true`, as `curl` calls it."""

    async def test() -> None:
        async with XmppAction(options(prosody, ca_file="", **how), context) as action:
            await deliver(action, make_firing(b"x"))
        async with person(prosody, "me") as me:
            await me.read()

    run(test())


def test_tls_can_come_first(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """`tls=direct` speaks TLS from the first byte."""

    async def test() -> None:
        direct = options(prosody, tls="direct", port=prosody.direct_port)
        async with person(prosody, "me") as me, XmppAction(direct, context) as action:
            await deliver(action, make_firing(b"x"))
            assert await me.read() == ["x"]

    run(test())


def test_tls_is_not_given_up_silently(
    new_prosody: Callable[..., Prosody], context: ActionContext, make_firing: Make
) -> None:
    """Without encryption nothing is said unless the options allow it."""
    server = new_prosody(require_encryption=False, offer_tls=False)
    server.register("app", "me")
    server.start()

    async def test() -> None:
        async with XmppAction(options(server), context) as action:
            with pytest.raises(ActionError, match="no login that is safe"):
                await deliver(action, make_firing(b"x"))
        for tls in ("off", "optional"):
            async with XmppAction(options(server, tls=tls), context) as action:
                await deliver(action, make_firing(b"x"))

    run(test())


def test_a_server_that_is_gone_is_worth_a_retry(
    new_prosody: Callable[..., Prosody], context: ActionContext, make_firing: Make
) -> None:
    """The lane's time limit bounds the wait for it; closing does not wait."""
    server = new_prosody()

    async def test() -> None:
        async with XmppAction(options(server), context) as action:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(action.deliver(make_firing(b"x")), 0.2)

    run(test())


def test_presence_goes_away_with_the_process(prosody: Prosody) -> None:
    """Who watches the account sees it come, and go when the process is killed."""
    program = f"""
import asyncio
import importlib.util
from alarm_mw.actions.xmpp import XmppAction, XmppOptions
from alarm_mw.interfaces import ActionContext

async def main():
    async with XmppAction({_literal(options(prosody))}, ActionContext(alarm="a", write_log=print)):
        await asyncio.Event().wait()

asyncio.run(main())
"""

    async def test() -> None:
        async with person(prosody, "me") as me:
            process = subprocess.Popen([sys.executable, "-c", program])  # noqa: ASYNC220  # returns at once
            try:
                await me.sees(prosody.jid("app"), "available")
            finally:
                process.kill()
                await asyncio.to_thread(process.wait)
            await me.sees(prosody.jid("app"), "unavailable")

    run(test())


def _literal(given: XmppOptions) -> str:
    values = ", ".join(f"{name}={getattr(given, name)!r}" for name in given.__struct_fields__)
    return f"XmppOptions({values})"


def test_only_who_gets_the_alarms_may_watch_the_account(prosody: Prosody, context: ActionContext) -> None:
    """A recipient that asks to see the account's presence is let, and nobody else."""

    async def test() -> None:
        async with (
            person(prosody, "you") as you,
            person(prosody, "stranger") as stranger,
            XmppAction(options(prosody, to=(prosody.jid("you"),)), context),
        ):
            stranger.send_presence_subscription(prosody.jid("app"))
            await stranger.catch_up()
            you.send_presence_subscription(prosody.jid("app"))
            await you.sees(prosody.jid("app"), "available")
            await stranger.catch_up()
            while not stranger.presences.empty():
                assert stranger.presences.get_nowait() != (prosody.jid("app"), "available")

    run(test())


def test_an_address_that_is_none_keeps_it_from_nobody(
    prosody: Prosody, context: ActionContext, log: Log, make_firing: Make
) -> None:
    """What only the XMPP library knows to be wrong is named in the log."""

    async def test() -> None:
        people = ("me@" + "x" * 2_000, prosody.jid("me"))
        async with person(prosody, "me") as me, XmppAction(options(prosody, to=people), context) as action:
            await deliver(action, make_firing(b"x"))
            assert await me.read() == ["x"]

    run(test())
    assert log.text.endswith(b"x: not a Jabber address\n")


def test_who_is_thrown_out_by_another_login_does_not_throw_it_out_in_turn(
    prosody: Prosody, context: ActionContext, make_firing: Make
) -> None:
    """Two programs under one full address do not take it from each other for ever."""

    async def test() -> None:
        async with XmppAction(options(prosody, resource="one"), context) as first:
            await deliver(first, make_firing(b"x"))
            async with XmppAction(options(prosody, resource="one"), context) as second:
                await deliver(second, make_firing(b"y"))
                with pytest.raises(ActionError, match="ended the connection: conflict") as caught:
                    await deliver(first, make_firing(b"z"))
                assert caught.value.retry
                await deliver(second, make_firing(b"z"))
        async with person(prosody, "me") as me:
            assert await me.read(3) == ["x", "y", "z"]

    run(test())


def test_presence_goes_away_with_the_action(prosody: Prosody, context: ActionContext) -> None:
    """A clean end says goodbye."""

    async def test() -> None:
        async with person(prosody, "me") as me:
            async with XmppAction(options(prosody), context):
                await me.sees(prosody.jid("app"), "available")
            await me.sees(prosody.jid("app"), "unavailable")

    run(test())


def test_closing_in_the_middle_of_the_login_leaves_nothing(prosody: Prosody, context: ActionContext) -> None:
    """Whenever it is closed, no task, no descriptor and no warning is left."""

    async def test() -> None:
        for step in range(60):
            async with XmppAction(options(prosody), context):
                # Not a wait for anything: each round ends at another point.
                await asyncio.sleep(step / 1000)

    run(test())


def test_uwsgis_own_syntax() -> None:
    """Account, password and recipients come first, other options after them."""
    assert XmppAction.from_uwsgi(
        "foobar@jabber.example.org/uWSGI;mysecretpassword;foo@example.org,bar@example.org"
    ) == XmppOptions(
        jid="foobar@jabber.example.org/uWSGI", password="mysecretpassword", to=("foo@example.org", "bar@example.org")
    )
    assert XmppAction.from_uwsgi("a@b;s=cret;rooms=r@c,q@c;nick=bot;port=1;tls=off") == XmppOptions(
        jid="a@b", password="s=cret", rooms=("r@c", "q@c"), nick="bot", port=1, tls="off"
    )
    assert XmppAction.from_uwsgi("a@b/c;s;d@e;resource=x").account == "a@b/x"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("", "expected JID;PASSWORD;TO"),
        ("a@b;;c@d", "expected JID;PASSWORD;TO"),
        ("a@b;s;c@d;e@f", "expected JID;PASSWORD;TO"),
        ("a@b;s", "xmpp needs a recipient"),
        ("a;s;c@d", "'a' is no Jabber address"),
        ("a@b;s;c@d<x", "'c@d<x' is no Jabber address"),
        ("a@b;s;c@d;tls=maybe", "tls: expected 'direct', 'off', 'optional' or 'required'$"),
        ("a@b;s;c@d;hots=x", r"unknown key 'hots' \(did you mean 'host'\?\)"),
        ("a@b;s;c@d;ca_file=/nowhere.pem", "ca_file '/nowhere.pem' is no file"),
    ],
)
def test_wrong_options_are_refused_at_start(args: str, text: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(OptionError, match=text):
        XmppAction.from_uwsgi(args)


def test_the_password_is_not_shown() -> None:
    """Not in the options' text."""
    assert "hunter2" not in repr(XmppOptions(jid="a@b", password="hunter2", to=("c@d",)))


def test_slixmpp_is_not_imported_before_it_is_needed() -> None:
    """Reading a configuration with an `xmpp` alarm does not pay for the library."""
    program = (
        "import sys, alarm_mw.actions.xmpp.action as x\n"
        "x.XmppAction.from_uwsgi('a@b;c;d@e')\n"
        "sys.exit('slixmpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_pause_grows_to_a_limit() -> None:
    """Coming back is tried soon at first and for ever."""
    assert pause(0, 1.0) == 0.5
    assert pause(1, 0.0) == 0.5
    assert pause(10_000, 1.0) == BACKOFF_MAX


def test_where_slixmpp_is_not_installed_the_action_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Python for which it has no wheel yet: the configuration is refused with what is missing."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "slixmpp" else find(name))
    with pytest.raises(MissingError, match="needs the package 'slixmpp', which is not installed: pip install slixmpp"):
        actions.find("xmpp")


def obeying(context: ActionContext, orders: list[tuple[str, str, float | None]], answer: str = "done") -> ActionContext:
    """Return a context that keeps orders and answers all of them alike."""

    async def obey(text: str, by: str, sent: float | None) -> str:
        orders.append((text, by, sent))
        return answer

    return structs.replace(context, obey=obey)


def test_a_recipient_gives_orders(prosody: Prosody, context: ActionContext) -> None:
    """A recipient's order is carried out in the name of the account, and answered; chatter is not."""
    orders: list[tuple[str, str, float | None]] = []

    async def test() -> None:
        async with person(prosody, "me") as me, XmppAction(options(prosody), obeying(context, orders)):
            await me.sees(prosody.jid("app"), "available")
            for text in ("what is going on?", "Ack a7f3 2h on it"):
                me.send_message(JID(prosody.jid("app")), text, mtype="chat")
            assert await me.read() == ["done"]
            await me.catch_up()

    run(test())
    assert orders == [("Ack a7f3 2h on it", prosody.jid("me"), None)]


def test_a_stranger_gives_no_orders(prosody: Prosody, context: ActionContext, log: Log) -> None:
    """A stranger is refused and named in the log, once; what is no order is not answered at all."""
    orders: list[tuple[str, str, float | None]] = []

    async def test() -> None:
        async with (
            person(prosody, "me") as me,
            person(prosody, "stranger") as stranger,
            XmppAction(options(prosody), obeying(context, orders)),
        ):
            await me.sees(prosody.jid("app"), "available")
            for text in ("hello", "ack a7f3", "ack a7f3"):
                stranger.send_message(JID(prosody.jid("app")), text, mtype="chat")
            assert await stranger.read() == ["refused: only the recipients of this alarm can do that"]
            await stranger.catch_up()

    run(test())
    assert orders == []
    assert log.text == b"[uwsgi-alarm-xmpp] refused an order of stranger@alarms.test, who is not in `to`\n"


def test_an_order_that_fails(prosody: Prosody, context: ActionContext, log: Log) -> None:
    """The author and the log are told, and the next order is heard."""
    texts = ["the rules were not through in time", "done"]

    async def obey(*_: object) -> str:
        if texts[0] == "done":
            return texts[0]
        raise TimeoutError(texts.pop(0))

    async def test() -> None:
        context_ = structs.replace(context, obey=obey)
        async with person(prosody, "me") as me, XmppAction(options(prosody), context_):
            await me.sees(prosody.jid("app"), "available")
            for text in ("ack a7f3", "ack a7f3"):
                me.send_message(JID(prosody.jid("app")), text, mtype="chat")
            assert await me.read(2) == ["that failed: the rules were not through in time", "done"]

    run(test())
    assert b"an order of me@alarms.test failed: TimeoutError(" in log.text


def test_a_room_gives_no_orders(prosody: Prosody, context: ActionContext, make_firing: Make) -> None:
    """A name in a room is nobody's account: what is written there is no order."""
    orders: list[tuple[str, str, float | None]] = []

    async def test() -> None:
        room = "orders@rooms.alarms.test"
        context_ = obeying(context, orders)
        async with person(prosody, "me") as me, XmppAction(options(prosody, rooms=(room,)), context_) as action:
            await deliver(action, make_firing(b"one"))
            me.register_plugin("xep_0045")
            await me.plugin["xep_0045"].join_muc_wait(JID(room), "me", timeout=LIMIT, maxstanzas=0)
            me.send_message(JID(room), "ack a7f3", mtype="groupchat")
            await deliver(action, make_firing(b"two"))
            texts = await me.read()
            while "two" not in texts:
                texts += await me.read()

    run(test())
    assert orders == []


def test_an_order_that_was_kept_says_when_it_was_written(prosody: Prosody, context: ActionContext) -> None:
    """The server keeps an order while the account is offline; its time of writing comes with it."""
    orders: list[tuple[str, str, float | None]] = []
    before = int(time.time())

    async def test() -> None:
        async with person(prosody, "me") as me:
            me.send_message(JID(prosody.jid("app")), "ack a7f3", mtype="chat")
            await me.catch_up()
            async with XmppAction(options(prosody), obeying(context, orders, "first\x1b\nsecond")):
                assert await me.read() == ["first\\x1b\nsecond"]

    run(test())
    ((_, _, sent),) = orders
    assert sent is not None
    assert before <= sent <= time.time()


def test_a_message_about_an_incident_says_how_to_reply(
    prosody: Prosody, context: ActionContext, make_firing: Make
) -> None:
    """Its last line is the order to acknowledge the incident, unless it is over or nobody could reply."""
    notice = IncidentNotice("a7f3c01b22", "firing", 1, "thread", 1.0)
    over = structs.replace(notice, status="resolved", ended=2.0)
    human = structs.replace(context, texts=Texts())
    last = [
        XmppAction(options(prosody, **to), human)
        .preview(make_firing(b"x", trigger=Trigger("db", incident=each)))
        .splitlines()[-1]
        for each, to in ((notice, {}), (over, {}), (notice, {"to": (), "rooms": ("ops@rooms.alarms.test",)}))
    ]
    assert [line == 'ack: reply "ack a7f3"' for line in last] == [True, False, False]
