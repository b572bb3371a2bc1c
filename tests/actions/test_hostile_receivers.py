"""Who gets the alarms may answer with anything: it costs bounded time and memory, and nothing of it is obeyed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import pytest

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.actions.curl.http import LONGEST_WAIT, retry_after
from alarm_mw.actions.xmpp import XmppOptions
from alarm_mw.actions.xmpp import session as xmpp_session
from alarm_mw.actions.xmpp.session import Session
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.tls import client_context
from alarm_mw.model.types import Firing

Make = Callable[..., Firing]

#: Seconds that a whole attempt may take in these tests.
TIMEOUT = 0.3

#: Bytes that an endless answer may cost us.
ROOM = 48 * 1024 * 1024


class WebServer(Protocol):
    url: str
    requests: list[bytes]

    def answer(self, *answers: bytes | None) -> None: ...


@contextmanager
def endless(opening: bytes, again: bytes, wait: float = 0.0) -> Iterator[int]:
    """Run a server that says `opening`, and then `again` for ever; provide its port."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as peer:
            peer.sendall(opening)
            while not ended.wait(wait):
                peer.sendall(again)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def attempt(options: CurlOptions, firing: Firing, context: ActionContext) -> ActionError:
    async def go() -> None:
        async with asyncio.timeout(60), CurlAction(options, context) as action:
            await action.deliver(firing)

    with pytest.raises(ActionError) as caught:
        asyncio.run(go())
    return caught.value


@contextmanager
def little_memory() -> Iterator[None]:
    """See that the process has not grown by more than `ROOM`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < ROOM


@pytest.mark.parametrize(
    ("opening", "again", "wait"),
    [
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 65536, 0.0),
        (b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.01),
        (b"HTTP/1.1 500 Oops\r\n", b"X-Header: " + b"y" * 1000 + b"\r\n", 0.0),
        (b"HTTP/1.1 500 Oops\r\nX-Header: ", b"y" * 65536, 0.0),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
        (b"HTTP/1.1 ", b"5" * 65536, 0.0),
    ],
    ids=["1 GB", "a slow body", "endless headers", "an endless header", "endless continuation", "an endless line"],
)
def test_an_endless_web_hook_is_left(
    opening: bytes, again: bytes, wait: float, make_firing: Make, context: ActionContext
) -> None:
    """Whatever a web hook sends without an end, an attempt ends in time, in little memory, with a short error."""
    # What has a size is cut by it, whatever the time.
    timeout = 30.0 if b"1000000000" in opening else TIMEOUT
    with endless(opening, again, wait) as port, little_memory():
        error = attempt(CurlOptions(url=f"http://127.0.0.1:{port}/", timeout=timeout), make_firing(), context)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("opening", "again"), [(b"220-hello\r\n", b"220-hello\r\n" * 1000), (b"220 ", b"x" * 65536)], ids=["lines", "line"]
)
def test_an_endless_mail_server_is_left(
    opening: bytes, again: bytes, make_firing: Make, context: ActionContext
) -> None:
    """A greeting without an end costs one attempt."""
    with endless(opening, again) as port, little_memory():
        options = CurlOptions(url=f"smtp://127.0.0.1:{port}", mail_to=("a@example.org",), timeout=TIMEOUT)
        error = attempt(options, make_firing(), context)
    assert len(str(error)) < 300


def test_nothing_is_unpacked(web_server: WebServer, make_firing: Make, context: ActionContext) -> None:
    """An answer of a few bytes that would unpack to a gigabyte stays a few bytes."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = f"HTTP/1.1 500 Oops\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    web_server.answer(head.encode() + bomb)
    error = attempt(CurlOptions(url=web_server.url), make_firing(), context)
    assert "\\x1f\\x8b" in str(error)
    assert b"accept-encoding" not in web_server.requests[0].lower()


def test_a_redirect_shows_no_tricks(web_server: WebServer, make_firing: Make, context: ActionContext) -> None:
    """The name of the host in a redirect is made visible, and cut; no second request goes anywhere."""
    location = f"http://\u202eevil{'x' * 999}/"
    web_server.answer(f"HTTP/1.1 307 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    error = attempt(CurlOptions(url=web_server.url), make_firing(), context)
    assert str(error).isprintable()
    assert len(str(error)) < 400
    assert len(web_server.requests) == 1


def test_no_server_keeps_us_away_for_ever() -> None:
    """A Retry-After of years is a mistake, or malice: after an hour it is tried again."""
    assert retry_after("9" * 400, 0.0) == LONGEST_WAIT
    assert retry_after("Fri, 31 Dec 9999 23:59:59 GMT", 0.0) == LONGEST_WAIT


@pytest.mark.parametrize(
    "echo",
    [
        "invalid token T0K3N-0123456789",
        "no such hook: \\/hooks\\/T0K3N-0123456789",
        "bad header T0K3N-0123456789",
        "bad query T0K3N-0123456789",
        "bad login " + base64.b64encode(b"me:hunter2-hunter2").decode(),
        "bad password " + base64.b64encode(b"hunter2-hunter2").decode(),
    ],
)
@pytest.mark.parametrize("where", ["body", "line"])
def test_a_part_of_a_secret_is_masked_too(
    echo: str, where: str, web_server: WebServer, make_firing: Make, context: ActionContext
) -> None:
    """A server that names only the token, not the whole path, header or login, brings no secret into the error."""
    answers = {
        "body": f"HTTP/1.1 500 Oops\r\nContent-Length: {len(echo)}\r\n\r\n{echo}",
        "line": f"{echo} {'x' * 500}\r\n\r\n",
    }
    web_server.answer(answers[where].encode(), b"")
    options = CurlOptions(
        url=f"{web_server.url}/hooks/T0K3N-0123456789?key=T0K3N-0123456789",
        headers={"Authorization": "Bearer T0K3N-0123456789"},
        auth_user="me",
        auth_pass="hunter2-hunter2",
    )
    text = str(attempt(options, make_firing(), context))
    assert len(text) < 300
    assert not any(secret in text for secret in ("T0K3N", "hunter2", echo.rsplit(maxsplit=1)[-1]))


@pytest.mark.parametrize("say", ["{code} {password}", "{code} {login}"])
def test_a_mail_server_brings_no_secret_into_the_error(say: str, make_firing: Make, context: ActionContext) -> None:
    """Neither the password nor the whole login as it went over the wire."""
    password = "hunter2-hunter2"
    login = base64.b64encode(f"\0me\0{password}".encode()).decode()
    opening = b"220 hello\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as peer, peer.makefile("rb") as lines:
                peer.sendall(opening)
                for line in lines:
                    code = b"250-x\r\n250 AUTH PLAIN\r\n" if line.startswith(b"EHLO") else b""
                    peer.sendall(code or say.format(code=535, password=password, login=login).encode() + b"\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        options = CurlOptions(
            url=f"smtp://127.0.0.1:{port}", mail_to=("a@example.org",), auth_user="me", auth_pass=password
        )
        error = attempt(options, make_firing(), context)
        thread.join()
    assert str(error) == f"smtp://127.0.0.1:{port}: 535 ********"


STREAM = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"

BOMB = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;&b;'>]>"


@pytest.mark.parametrize(
    ("opening", "again"),
    [
        (STREAM.replace(b"?>", b"?>" + BOMB), b" "),
        (STREAM.replace(b"?>", b"?><?x <stream:stream?>" + BOMB), b" "),
        (STREAM.replace(b"?>", b"?><!--<stream:stream -->" + BOMB), b" "),
        (STREAM.replace(b"?>", b" encoding='UTF-16'?>" + BOMB).decode().encode("utf-16"), " ".encode("utf-16-le")),
        (STREAM + b"<message><body>", b"x" * 65536),
        (STREAM + b"<message ", b"a" * 65536),
        (STREAM + b"<a>" * 400_000, b"<a>"),
        (b" " * 100, b" " * 65536),
        (STREAM + b"<message></presence>", b" "),
        (b"\x16\x03\x01 what", b"x"),
    ],
    ids=[
        "entities",
        "entities behind an instruction",
        "entities behind a comment",
        "UTF-16",
        "a stanza",
        "a tag",
        "depth",
        "blanks",
        "not well-formed",
        "no XML",
    ],
)
def test_an_endless_chat_server_is_left(
    opening: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bomb of entities, a stanza without an end, or what is no XML ends the session at once, and fills no log."""

    async def go(port: int) -> Session:
        options = XmppOptions(
            jid="app@example.org", password="x", to=("me@example.org",), host="127.0.0.1", port=port, tls="off"
        )
        session = Session(options, client_context(), lambda _: None)
        try:
            await asyncio.wait_for(session.open(), 10)
        finally:
            await session.close()
        return session

    with endless(opening, again, 0.0005) as port, little_memory():
        session = asyncio.run(go(port))
    assert session.trouble is xmpp_session.GARBLED
    assert len(caplog.text) < 2000
