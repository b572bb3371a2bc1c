"""A printed line becomes a Jabber message: `alarm-mw run`, a real Prosody, and a second account that receives."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from slixmpp import ClientXMPP
from waiting import LIMIT

PROGRAM = """
import os, signal
open("pid", "w").write(str(os.getpid()))
print("TERRIBLE ALARM! The world exploded!!!", flush=True)
signal.pause()
"""


class Receiver(ClientXMPP):
    """The second account: keeps the messages that arrive, and who is online."""

    def __init__(self, server: Any) -> None:
        super().__init__(f"{server.jid('me')}/desk", "hunter2")
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
