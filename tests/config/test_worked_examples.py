"""The examples of uWSGI's documentation: they load unchanged, and fire where their servers are local ones."""

from __future__ import annotations

import itertools
import os
import ssl
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import smtp_server
import trustme
import webhook
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from msgspec import structs
from prosody_server import Prosody
from waiting import wait_until

from alarm_mw.actions.signal import SignalOptions
from alarm_mw.config.load import examine
from alarm_mw.config.report import Report
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.config.uwsgi.ini import read_ini
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import NotRunningError
from alarm_mw.model.types import Record
from alarm_mw.monitors.fd.monitor import FdOptions
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

# The library warns of a server that takes passwords without TLS, as the example has one.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

EXAMPLES = """\
[uwsgi]
alarm = mailme cmd:mail -s 'uWSGI alarm' -a 'From: uwsgi@example.org' root@example.org
alarm = cachefull signal:17
log-alarm = cachefull,mailme uWSGI listen queue of socket
log-alarm = mailme HARAKIRI ON WORKER

alarm = jabber xmpp:foobar@jabber.example.org/uWSGI;mysecretpassword;foo@example.org,bar@example.org
log-alarm = jabber ^TERRIBLE ALARM

alarm = test curl:smtp://mail.example.org;mail_to=admin@example.org;mail_from=uwsgi@example.org;auth_user=uwsgi;\
auth_pass=secret;subject=alarm from uWSGI !!!
alarm = gmail curl:smtps://smtp.example.org;mail_to=admin@example.org;auth_user=uwsgi@example.org;\
auth_pass=secret;subject=alarm from uWSGI !!!
alarm = test2 curl:http://192.0.2.1/foobar;auth_user=topogigio;auth_pass=foobar
alarm = test3 curl:https://192.0.2.1/foobar;method=POST;ssl_insecure=true

alarm = say speech:
log-alarm = say .*

alarm = errbit airbrake:http://errbit.example.org/notifier_api/v2/notices;apikey=APIKEY;subject=uWSGI segfault
alarm-segfault = errbit
alarm-fd = jabber 3:1 damn it !!!
alarm-backlog = jabber
"""

NAMES = ("mailme", "cachefull", "jabber", "test", "gmail", "test2", "test3", "say", "errbit")

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put scripts on the path in the place of `mail` and `espeak-ng`, which write down what they get."""
    for name in ("mail", "espeak-ng"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/{name}.arguments\ncat > {tmp_path}/{name}.text\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """Provide a function that reads the examples, some of their text replaced."""

    def read(*changes: tuple[str, str]) -> Settings:
        text = EXAMPLES
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "uwsgi.ini"
        file.write_text(text, encoding="utf-8")
        examined = examine(Sources(ini_files=(str(file),)), {})
        assert [str(problem) for problem in examined.problems] == []
        return examined.settings

    return read


def test_the_examples_are_read_as_written(tmp_path: Path) -> None:
    """Nothing in them is taken for a variable or a reference."""
    file = tmp_path / "uwsgi.ini"
    file.write_text(EXAMPLES)
    report = Report()
    entries = read_ini(str(file), {}, report)
    written = [line.partition(" = ") for line in EXAMPLES.splitlines()[1:] if line]
    assert [(entry.key, entry.value) for entry in entries] == [(key, value) for key, _, value in written]
    assert report == Report()


def test_the_examples_load_unchanged(load: Callable[..., Settings]) -> None:
    """Every alarm and rule of them is there, in order, without a mistake."""
    settings = load()
    assert tuple(alarm.name for alarm in settings.alarms) == NAMES
    assert [(rule.alarms, rule.pattern) for rule in settings.rules] == [
        (("cachefull", "mailme"), "uWSGI listen queue of socket"),
        (("mailme",), "HARAKIRI ON WORKER"),
        (("jabber",), "^TERRIBLE ALARM"),
        (("say",), ".*"),
    ]
    assert [(watch.monitor, watch.alarms) for watch in settings.monitors] == [
        ("segfault", ("errbit",)),
        ("fd", ("jabber",)),
        ("backlog", ("jabber",)),
    ]
    assert settings.alarms[1].options == SignalOptions(signal=17)
    assert settings.monitors[1].options == FdOptions(fd=3, bytes=1, message="damn it !!!")


@contextmanager
def running(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(settings, write_log=lambda _: None)
    runtime.start()
    try:
        yield runtime
    finally:
        runtime.stop(1.0)


def only(settings: Settings, *names: str) -> Settings:
    """Return the settings with these alarms only, and the rules that name none but them."""
    alarms = tuple(alarm for alarm in settings.alarms if alarm.name in names)
    rules = tuple(rule for rule in settings.rules if set(rule.alarms) <= set(names))
    return structs.replace(settings, alarms=alarms, rules=rules, monitors=())


def fire(settings: Settings, alarm: str, message: bytes) -> None:
    """Fire one alarm past the rules, without the others, whose servers are far away; return when it is delivered."""
    with running(only(settings, alarm)) as runtime:
        runtime.worker.submit(Batch([Item(Record(message, "stdout", 1.0, f"k{next(_numbers)}"), alarm)]))
        _wait_until_delivered(runtime, alarm)


def _wait_until_delivered(runtime: Runtime, alarm: str) -> None:
    def is_delivered() -> bool:
        row = runtime.outbox.ledger.books()["alarms"].get(alarm)
        return row is not None and row["delivered"] == 1

    wait_until(is_delivered)


def test_the_command_gets_the_line(load: Callable[..., Settings], programs: Path) -> None:
    """`mail` is called as the shell command says, with the line on its standard input."""
    fire(load(), "mailme", b"HARAKIRI ON WORKER 1\n")
    arguments = (programs / "mail.arguments").read_text().splitlines()
    assert arguments == ["-s", "uWSGI alarm", "-a", "From: uwsgi@example.org", "root@example.org"]
    assert (programs / "mail.text").read_bytes() == b"HARAKIRI ON WORKER 1\n"


def test_every_line_is_spoken(load: Callable[..., Settings], programs: Path) -> None:
    """`speech:` needs no options."""
    fire(load(), "say", b"anything at all\n")
    assert (programs / "espeak-ng.text").read_text() == "anything at all"


class WebSite:
    """A web server that keeps requests: method, path, headers, body."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                site.requests.append((self.command, self.path, dict(self.headers), body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_PUT = do_POST = _take  # noqa: N815  # the library's names

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@contextmanager
def site(authority: trustme.CA | None = None) -> Iterator[WebSite]:
    """Serve the web, over TLS where there is an authority."""
    web = WebSite()
    if authority is not None:
        web.server.socket = server_context(authority).wrap_socket(web.server.socket, server_side=True)
    with webhook.serving(web.server):
        yield web


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_a_web_server_gets_the_line_by_put(load: Callable[..., Settings]) -> None:
    """With the name and the password of the example."""
    with site() as web:
        fire(load(("http://192.0.2.1", f"http://127.0.0.1:{web.port}")), "test2", b"ERR x\n")
    method, path, headers, body = web.requests[0]
    assert (method, path, body) == ("PUT", "/foobar", b"ERR x\n")
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"topogigio:foobar"


def test_a_web_server_gets_the_line_by_post_over_tls(load: Callable[..., Settings], authority: trustme.CA) -> None:
    """Its certificate is not looked at, as the example wants it."""
    with site(authority) as web:
        fire(load(("https://192.0.2.1", f"https://127.0.0.1:{web.port}")), "test3", b"ERR x\n")
    method, path, _, body = web.requests[0]
    assert (method, path, body) == ("POST", "/foobar", b"ERR x\n")


def test_errbit_gets_a_notice(load: Callable[..., Settings]) -> None:
    """A version 2.3 notice with the key; the subject is its message, since this line has no backtrace."""
    with site() as web:
        fire(load(("errbit.example.org", f"127.0.0.1:{web.port}")), "errbit", b"something\n")
    method, path, headers, body = web.requests[0]
    assert (method, path) == ("POST", "/notifier_api/v2/notices")
    assert headers["Content-Type"] == "text/xml; charset=utf-8"
    assert b"<api-key>APIKEY</api-key>" in body
    assert b"<message>uWSGI segfault</message>" in body


class PostOffice:
    """What an SMTP server got; it takes any password."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: list[Envelope] = []
        self.logins: list[tuple[bytes, bytes]] = []

    def login(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=True)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"


@contextmanager
def post_office(tls: ssl.SSLContext | None = None) -> Iterator[PostOffice]:
    office = PostOffice()

    def conversation() -> SMTP:
        return SMTP(office, authenticator=office.login, auth_require_tls=False, hostname="mx")

    with smtp_server.serving(conversation, tls) as office.port:
        yield office


def test_a_mail_is_sent(load: Callable[..., Settings]) -> None:
    """From, to, subject, name and password are those of the example."""
    with post_office() as office:
        fire(load(("mail.example.org", f"127.0.0.1:{office.port}")), "test", b"ERR x\n")
    mail = office.mails[0]
    assert (mail.mail_from, mail.rcpt_tos) == ("uwsgi@example.org", ["admin@example.org"])
    assert office.logins == [(b"uwsgi", b"secret")]
    assert mail.original_content is not None
    assert b"\r\nSubject: alarm from uWSGI !!!\r\n" in mail.original_content
    assert mail.original_content.endswith(b"\r\n\r\nERR x\r\n")


def test_a_mail_is_sent_over_tls(
    load: Callable[..., Settings], authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority of the certificate is one that the system trusts."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with post_office(server_context(authority)) as office:
        fire(load(("smtp.example.org", f"127.0.0.1:{office.port}")), "gmail", b"ERR x\n")
    assert office.logins == [(b"uwsgi@example.org", b"secret")]
    assert office.mails[0].mail_from == "uwsgi@example.org"


def test_jabber_gets_the_line_that_a_rule_matches(
    load: Callable[..., Settings], new_prosody: Callable[[], Prosody]
) -> None:
    """The very line of the example fires through its rule, and the server takes the messages."""
    settings = load(*at(new_prosody()))
    with running(only(settings, "jabber", "say")) as runtime:
        line = b"TERRIBLE ALARM! The world exploded!!!\n"
        runtime.worker.submit(Batch([Item(Record(line, "stdout", 1.0, f"k{next(_numbers)}"))]))
        _wait_until_delivered(runtime, "jabber")
        _wait_until_delivered(runtime, "say")


def at(prosody: Prosody) -> tuple[tuple[str, str], ...]:
    """Start the server with the accounts of the example, and return what to change for it."""
    prosody.register("foobar", "foo", "bar")
    prosody.start()
    address = f"host=127.0.0.1;port={prosody.port};ca_file={prosody.ca_file}"
    return (
        ("foobar@jabber.example.org", prosody.jid("foobar")),
        ("mysecretpassword", "hunter2"),
        ("foo@example.org,bar@example.org", f"{prosody.jid('foo')},{prosody.jid('bar')};{address}"),
    )


#: Has a handler for signal 17, and says what uWSGI says of a full listen queue.
LISTEN_QUEUE = """
import alarm_mw, pathlib, sys
alarm_mw.on_signal(17)(lambda number: pathlib.Path("cleared").write_text(str(number)))
print("uWSGI listen queue of socket 3 full !!!", flush=True)
sys.stdin.read()
"""
#: A process of it dies of SIGSEGV.
CRASH = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import ctypes; ctypes.string_at(0)"])
sys.stdin.read()
"""
#: Its listen queue is full.
FULL = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0), backlog=1)
client = socket.create_connection(server.getsockname())
sys.stdin.read()
"""


@contextmanager
def serving(settings: Settings, program: str) -> Iterator[Path]:
    """Run a server with the file that the settings were read from, and with a FIFO as descriptor 3."""
    file = Path(settings.alarms[0].where.file)
    fifo = file.with_name("fifo")
    os.mkfifo(fifo)
    alarm_mw = str(Path(sys.executable).with_name("alarm-mw"))
    command = [alarm_mw, "run", "--state-dir", str(file.with_name("state")), "--ini", str(file), "--"]
    server = subprocess.Popen(
        ["/bin/sh", "-c", 'exec 3<>fifo; exec "$@"', "sh", *command, sys.executable, "-c", program],
        cwd=file.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    with server:
        yield file.parent
        server.terminate()


def delivered(folder: Path) -> dict[str, int]:
    """Return how many firings of each alarm its receiver has taken."""
    try:
        alarms = ask_patiently(str(folder / "state" / SOCKET_NAME), "/status")["alarms"]
    except NotRunningError:
        return {}
    return {name: row["delivered"] for name, row in alarms.items()}


#: Jabber with a server that nobody reaches, for what does not need it.
NOWHERE = ("foo@example.org,bar@example.org", "foo@example.org;host=127.0.0.1;port=9")


def test_a_full_listen_queue_raises_a_signal(load: Callable[..., Settings], programs: Path) -> None:
    """The handler in the application runs, and the mail of the same rule is sent."""
    with serving(load(NOWHERE), LISTEN_QUEUE) as folder:
        wait_until(lambda: delivered(folder).get("cachefull") and delivered(folder).get("mailme"))
        # A signal is delivered when it was taken, and its handler may still run.
        wait_until(lambda: (folder / "cleared").is_file() and (folder / "cleared").read_text() == "17")
        assert (programs / "mail.text").read_text() == "uWSGI listen queue of socket 3 full !!!\n"


def test_errbit_hears_of_a_crash(load: Callable[..., Settings]) -> None:
    """`alarm-segfault` sends a notice with the frames of the process that died."""
    with site() as web, serving(load(NOWHERE, ("errbit.example.org", f"127.0.0.1:{web.port}")), CRASH):
        wait_until(lambda: web.requests)
    assert b'method="string_at"' in web.requests[0][3]
    assert b"died of SIGSEGV" in web.requests[0][3]


def test_jabber_hears_of_a_descriptor_and_of_a_full_queue(
    load: Callable[..., Settings], new_prosody: Callable[[], Prosody]
) -> None:
    """`alarm-fd = jabber 3:1 damn it !!!` and `alarm-backlog = jabber` fire, and the server takes their messages."""
    with serving(load(*at(new_prosody())), FULL) as folder:
        wait_until(lambda: delivered(folder).get("jabber") == 1)
        (folder / "fifo").write_bytes(b"x")
        wait_until(lambda: delivered(folder).get("jabber") == 2)
