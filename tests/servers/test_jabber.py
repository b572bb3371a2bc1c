"""A printed line becomes a Jabber message: `alarm-mw run`, a real Prosody, and a second account that receives."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from slixmpp import JID, ClientXMPP
from waiting import LIMIT

PROGRAM = """
import os, signal
open("pid", "w").write(str(os.getpid()))
print("TERRIBLE ALARM! The world exploded!!!", flush=True)
signal.pause()
"""


class Receiver(ClientXMPP):
    """Another account: keeps the messages that arrive, and who is online."""

    def __init__(self, server: Any, user: str = "me") -> None:
        super().__init__(f"{server.jid(user)}/desk", "hunter2")
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.presences: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.ca_certs = Path(server.ca_file)
        self._port = server.port
        self.add_event_handler("message", lambda message: self.messages.put_nowait(message["body"]))
        self.add_event_handler(
            "changed_status",
            lambda presence: self.presences.put_nowait((presence["from"].bare, presence["type"])),
        )

    async def arrive(self) -> None:
        """Log in, and be seen."""
        self.connect("127.0.0.1", self._port)
        await self.wait_until("session_start", LIMIT)
        self.send_presence()
        await self.get_roster()

    async def sees(self, who: str, kind: str) -> None:
        """Wait until somebody's presence is of that kind."""
        async with asyncio.timeout(LIMIT):
            while await self.presences.get() != (who, kind):
                pass  # somebody else's, or an earlier one


def test_a_printed_line_arrives_and_presence_goes_with_the_app(installation: Any, prosody: Any) -> None:
    """The second account gets the line; it sees the app online, and offline when the app is killed."""
    alarm = f"jabber xmpp:{prosody.jid('app')}/uWSGI;hunter2;{prosody.jid('me')}"
    transport = f";host=127.0.0.1;port={prosody.port};ca_file={prosody.ca_file}"
    options = ("--alarm", alarm + transport, "--log-alarm", "jabber ^TERRIBLE ALARM")

    async def scene() -> None:
        me = Receiver(prosody)
        await me.arrive()
        process = installation.start(options, sys.executable, "-c", PROGRAM, stdout=subprocess.DEVNULL)
        try:
            message = await asyncio.wait_for(me.messages.get(), LIMIT)
            assert message == "TERRIBLE ALARM! The world exploded!!!"
            await me.sees(prosody.jid("app"), "available")
            os.kill(int((installation.directory / "pid").read_text()), signal.SIGKILL)
            await me.sees(prosody.jid("app"), "unavailable")
            assert await asyncio.to_thread(process.wait, LIMIT) == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
            await me.disconnect(1)

    asyncio.run(scene())


CONFIG = """
[alarms.jabber]
action = "xmpp"
jid = "{app}"
password = "hunter2"
to = ["{me}"]
host = "127.0.0.1"
port = {port}
ca_file = "{ca_file}"
[alarms.sms]
action = "cmd"
command = "echo $ALARM_STATUS $ALARM_KEY >> sms.txt"
[escalations.ops]
steps = [ {{ after = "0s", alarms = ["jabber"] }}, {{ after = "{after}", alarms = ["sms"] }} ]
[[rules]]
name = "db"
pattern = 'lost (?P<db>\\S+)'
key = ["db"]
resolve = 'back (?P<db>\\S+)'
escalation = "ops"
"""


def test_a_person_acknowledges_by_chat(installation: Any, until: Any, prosody: Any) -> None:
    """A recipient's reply stops the escalation of its incident; a stranger's is refused and stops none."""
    names = {"app": prosody.jid("app"), "me": prosody.jid("me"), "port": prosody.port, "ca_file": prosody.ca_file}
    (installation.directory / "alarms.toml").write_text(CONFIG.format(**names, after="4s"))
    sms = installation.directory / "sms.txt"

    async def scene() -> None:
        me, stranger = Receiver(prosody), Receiver(prosody, "stranger")
        await me.arrive()
        await stranger.arrive()
        process = installation.start(
            ["--config", "alarms.toml"], "sh", "-c", "echo lost eu; echo lost us; exec sleep 60"
        )
        try:
            replies = {}
            for _ in range(2):
                text = await asyncio.wait_for(me.messages.get(), LIMIT)
                reply = re.search(r'reply "(ack \w+)"', text)
                assert reply
                replies["eu" if "lost eu" in text else "us"] = reply[1]
            app = JID(prosody.jid("app"))
            stranger.send_message(app, replies["us"], mtype="chat")
            assert (await asyncio.wait_for(stranger.messages.get(), LIMIT)).startswith("refused: ")
            me.send_message(app, replies["eu"], mtype="chat")
            assert " db db=eu: acknowledged for 1 d" in await asyncio.wait_for(me.messages.get(), LIMIT)
            # The escalation of the other one is due after that of the first.
            await asyncio.to_thread(until, sms.exists)
            assert sms.read_text() == "escalated db=us\n"
            me.send_message(app, f"silence {replies['us'].split()[1]} 2h deployment", mtype="chat")
            assert " db db=us: silenced for 2 h" in await asyncio.wait_for(me.messages.get(), LIMIT)
            command = [installation.command, "silence", "--list", "--state-dir", str(installation.state_dir)]
            silences = (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)).stdout
            assert f"by {prosody.jid('me')}: deployment" in silences
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, LIMIT)
            await me.disconnect(1)
            await stranger.disconnect(1)

    asyncio.run(scene())
