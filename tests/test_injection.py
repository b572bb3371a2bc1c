"""A line is data: whatever a client gets an application to print, no action takes a part of it for something else."""

from __future__ import annotations

import asyncio
import email
import email.policy
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from slixmpp.stanza import Message

from alarm_mw.actions.airbrake.notice import System, as_json, notice_of, xml
from alarm_mw.actions.cmd.action import CmdAction, CmdOptions
from alarm_mw.actions.curl import CurlOptions
from alarm_mw.actions.curl.mail import mail_of
from alarm_mw.actions.log import entry
from alarm_mw.actions.speech import ESPEAK, Manner, speakable
from alarm_mw.cli.console import plain_text
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing, Record

#: What has a meaning to somebody.
PIECES = [
    b"\r\nBcc: everybody@example.org\r\n\r\nhello",
    b"\n.\r\nQUIT\r\n",
    b"]]><evil a='",
    b"&lol;<!ENTITY lol 'lol'>",
    b"</body></message><message to='you@example.org'><body>",
    b"\x1b[2J\x1b]0;title\x07",
    b"\xc2\x9b31m",
    "\u202e\u2066\u2028\ufffe\uffff".encode(),
    b"\xed\xa0\x80\xff\xfe\0",
    b"$(touch evil) `touch evil` ; touch evil #",
    b"-f /etc/passwd --stdin",
    b"[[[[slnc 5000]]]]<speak><break time='9999s'/></speak>",
    b"\nTue Nov 24 06:29:21 2026 - ALARM: forged",
    b'"\\,}{%s%n{0}',
    b"[bold red]markup[/]",
]

lines = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=6).map(b"".join)

#: Control characters but line ends and tabs, and what turns text around.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

SYSTEM = System("Linux", "6", "x86", "host", "3.11", "0.1", "/srv")


def firing_of(message: bytes) -> Firing:
    text = message.decode("utf-8", "surrogateescape")
    fields = {"path": text, "user_agent": text, "url": text}
    record = Record(message, "asgi", 1.5, "key", 42, 40, text, fields)
    return Firing("id-1", "test", message, record, 2.5, rule=text)


@settings(max_examples=examples(20))  # a mail is made in 50 ms
@given(lines)
def test_no_line_is_a_part_of_a_mails_head(message: bytes) -> None:
    """Neither a header nor a recipient, nor the end of the mail: all of it is the text."""
    options = CurlOptions(url="smtp://127.0.0.1", mail_from="app@example.org", mail_to=("me@example.org",))
    mail = mail_of(firing_of(message), options, ActionContext("test", lambda _: None))
    raw = bytes(mail)
    again = email.message_from_bytes(raw, policy=email.policy.default)
    assert set(again.keys()) == set(mail.keys())
    assert (again["To"], again["Subject"]) == ("me@example.org", "alarm test")
    assert raw.isascii()
    assert not HIDDEN.search(str(again.get_content()).replace("\r\n", "\n"))


@given(lines)
def test_no_line_is_markup(message: bytes) -> None:
    """A notice of Airbrake and a stanza of XMPP stay well-formed, with the elements that they have of every line."""
    notice = notice_of(firing_of(message), "", "", SYSTEM)
    root = ET.fromstring(xml(notice, "key"))
    assert [child.tag for child in root] == ["api-key", "notifier", "request", "server-environment", "error"]
    assert root.find(".//evil") is None
    assert json.loads(as_json(notice, firing_of(message).record.fields))["session"] == {}
    stanza = Message()  # type: ignore[no-untyped-call]  # the library's
    stanza["body"] = "\n".join(printable_lines(message))
    assert len(ET.fromstring(str(stanza))) <= 1


@given(lines)
def test_no_line_is_an_entry_of_the_log(message: bytes) -> None:
    """What begins no entry begins with a tab; nothing is obeyed by a terminal."""
    text = entry(firing_of(message)).decode()
    first, *others = text.removesuffix("\n").split("\n")
    assert first.startswith("Thu Jan  1 ")
    assert all(line.startswith("\t") for line in others)
    assert not HIDDEN.search(text)


@given(lines)
def test_no_line_commands_a_terminal(message: bytes) -> None:
    """As `status`, `dead` and `replay` show it: one line, nothing hidden, no markup."""
    shown = printable(message)
    assert not HIDDEN.search(shown)
    assert "\n" not in shown
    console = Console(file=io.StringIO(), width=10_000, color_system="truecolor", force_terminal=True)
    console.print(plain_text(shown), end="", soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    # A tab becomes as many blanks as the letters before it leave of the width that they take.
    assert console.file.getvalue().split() == shown.split()


@given(lines)
def test_no_line_commands_a_voice(message: bytes) -> None:
    """It is in no argument, and no command of espeak-ng's or say's is left in it."""
    text = speakable(message, 250)
    assert "[[" not in text
    assert not HIDDEN.search(text)
    assert ESPEAK.command(Manner()) == ("espeak-ng", "--stdin", "-b", "1")


@pytest.mark.parametrize("message", PIECES)
def test_no_line_is_a_command(message: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is on the standard input of `cmd`, every byte of it, and in neither arguments nor environment."""
    monkeypatch.chdir(tmp_path)
    command = "cat > stdin; tr '\\0' '\\n' < /proc/$$/cmdline > argv"

    async def go(log: Callable[[bytes], None]) -> None:
        async with CmdAction(CmdOptions(command=command), ActionContext("test", log)) as action:
            await action.deliver(Firing("id-1", "test", message, Record(message, "stdout", 1.0, "key"), 2.0))

    asyncio.run(go(lambda _: None))
    assert (tmp_path / "stdin").read_bytes() == message
    assert (tmp_path / "argv").read_text() == f"/bin/sh\n-c\n{command}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["argv", "stdin"]
