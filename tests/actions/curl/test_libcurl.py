"""``curl:`` to schemes that only libcurl knows: with a real FTP server, files, and a small MQTT broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library is older than some of what Python has deprecated since
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.model.errors import ActionError, MissingError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing

Make = Callable[..., Firing]


@dataclass
class FtpSite:
    port: int
    directory: Path


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[FtpSite]:
    """Run an FTP server where ``app`` may write and ``reader`` may not."""
    authorizer = DummyAuthorizer()
    authorizer.add_user("app", "hunter2", str(tmp_path), perm="elradfmw")
    authorizer.add_user("reader", "hunter2", str(tmp_path), perm="elr")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "auth_failed_timeout": 0})
    server = FTPServer(("127.0.0.1", 0), handler)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            server.serve_forever(timeout=0.01, blocking=False, handle_exit=False)

    thread = threading.Thread(target=serve, name="ftp-server")
    thread.start()
    yield FtpSite(server.address[1], tmp_path)
    stopping.set()
    thread.join(10)
    server.close_all()


def send(options: CurlOptions, context: ActionContext, firing: Firing) -> None:
    async def scene() -> None:
        async with CurlAction(options, context) as action:
            await action.deliver(firing)

    asyncio.run(scene())


def test_the_message_is_uploaded_to_ftp(ftp: FtpSite, context: ActionContext, make_firing: Make) -> None:
    """The file holds the very bytes; each message replaces the last."""
    options = CurlAction.from_uwsgi(f"ftp://127.0.0.1:{ftp.port}/alarm.txt;auth_user=app;auth_pass=hunter2")
    for message in (b"ERR first and longer\n", b"ERR \x00\xff\n"):
        send(options, context, make_firing(message))
        assert (ftp.directory / "alarm.txt").read_bytes() == message


def test_recipients_and_subject_come_before_the_message(
    ftp: FtpSite, context: ActionContext, make_firing: Make
) -> None:
    """As uWSGI writes them, whatever the scheme; and the URL may hold name and password."""
    args = f"ftp://app:hunter2@127.0.0.1:{ftp.port}/a;subject=s;mail_to=x@example.org"
    send(CurlAction.from_uwsgi(args), context, make_firing(b"ERR\n"))
    assert (ftp.directory / "a").read_bytes() == b"To: x@example.org\r\nSubject: s\r\n\r\nERR\n"


@pytest.mark.parametrize(
    ("login", "text"), [("app:wrong", "denied"), ("reader:hunter2", "550")], ids=["bad password", "may not write"]
)
def test_a_refusal_is_final_and_keeps_the_secret(
    login: str, text: str, ftp: FtpSite, context: ActionContext, make_firing: Make
) -> None:
    """No later attempt can mend it; neither password nor path is told."""
    options = CurlOptions(url=f"ftp://{login}@127.0.0.1:{ftp.port}/token-path")
    with pytest.raises(ActionError, match=text) as caught:
        send(options, context, make_firing())
    assert not caught.value.retry
    assert str(caught.value).startswith(f"ftp://127.0.0.1:{ftp.port}: ")
    assert not {"wrong", "hunter2", "token-path"} & set(str(caught.value).split())


def test_a_server_that_does_not_answer_is_tried_again(context: ActionContext, make_firing: Make) -> None:
    """Neither one that is not there nor one that says nothing is the last word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = CurlOptions(url=f"ftp://127.0.0.1:{port}/a", timeout=0.1)
        with pytest.raises(ActionError) as caught:
            send(options, context, make_firing())
        assert caught.value.retry
    with pytest.raises(ActionError) as caught:
        send(options, context, make_firing())
    assert caught.value.retry


@pytest.mark.parametrize("trust", ["", ";ssl_insecure=true"], ids=["known hosts only", "any host"])
def test_a_server_of_sftp_that_hangs_up_is_tried_again(trust: str, context: ActionContext, make_firing: Make) -> None:
    """The same with and without a check of its key, which it never shows."""

    def hang_up(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        server = threading.Thread(target=hang_up, args=(listener,), name="sftp-server")
        server.start()
        options = CurlAction.from_uwsgi(f"sftp://127.0.0.1:{listener.getsockname()[1]}/a{trust}")
        with pytest.raises(ActionError) as caught:
            send(options, context, make_firing())
        server.join(20)
    assert caught.value.retry


def test_an_attempt_that_is_cancelled_ends(context: ActionContext, make_firing: Make) -> None:
    """The thread does not go on without anybody who waits for it, even without a time limit."""

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            url = f"ftp://127.0.0.1:{listener.getsockname()[1]}/a"
            async with CurlAction(CurlOptions(url=url, timeout=0), context) as action:
                attempt = asyncio.create_task(action.deliver(make_firing()))
                peer, _ = await asyncio.to_thread(listener.accept)
                attempt.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await attempt
                with peer:
                    peer.settimeout(20)
                    assert await asyncio.to_thread(peer.recv, 1) == b""

    asyncio.run(scene())


def test_a_file_is_written(tmp_path: Path, context: ActionContext, make_firing: Make) -> None:
    """``file://`` needs no host."""
    send(CurlAction.from_uwsgi(f"file://{tmp_path}/alarm.txt"), context, make_firing(b"ERR x\n"))
    assert (tmp_path / "alarm.txt").read_bytes() == b"ERR x\n"


def read_packet(peer: socket.socket) -> tuple[int, bytes]:
    """Read an MQTT packet of less than 128 bytes: its first byte and the rest."""
    kind, length = peer.recv(2, socket.MSG_WAITALL)
    return kind, peer.recv(length, socket.MSG_WAITALL)


def test_the_message_is_published_by_mqtt(context: ActionContext, make_firing: Make) -> None:
    """The path is the topic, the payload the very message."""
    packets = []

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(ValueError):  # the end of the connection is no packet
            packets.append(read_packet(peer))
            peer.sendall(bytes([0x20, 2, 0, 0]))
            packets.append(read_packet(peer))
            packets.append(read_packet(peer))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        broker = threading.Thread(target=serve, args=(listener,), name="mqtt-broker")
        broker.start()
        url = f"mqtt://127.0.0.1:{listener.getsockname()[1]}/alarms"
        send(CurlOptions(url=url), context, make_firing(b"ERR x\n"))
        broker.join(20)
    kind, body = packets[1]
    assert kind & 0xF0 == 0x30
    assert body == b"\x00\x06alarmsERR x\n"


def test_without_pycurl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the extra; schemes that need none work without."""
    monkeypatch.setitem(sys.modules, "pycurl", None)
    with pytest.raises(MissingError, match=r"'ftp' URLs needs the package 'pycurl'.*pip install 'alarm-mw\[pycurl\]'"):
        CurlAction.from_uwsgi("ftp://h/x")
    with pytest.raises(OptionError, match=r"unknown scheme 'htps' \(did you mean 'https'\?\)$"):
        CurlAction.from_uwsgi("htps://h/x")
    assert CurlAction.from_uwsgi("http://h/x").url == "http://h/x"


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    """The error lists those that can be used."""
    with pytest.raises(
        OptionError, match=r"unknown scheme 'gophr' \(did you mean 'gopher'\?\); curl can send to .*ftp.*http.*smtp"
    ):
        CurlAction.from_uwsgi("gophr://h/x")
