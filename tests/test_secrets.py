"""A secret of the configuration is in nothing that the program writes, however an action fails."""

from __future__ import annotations

import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from waiting import LIMIT

from alarm_mw import signals
from alarm_mw.actions.xmpp import client
from alarm_mw.config.load import examine, from_keywords
from alarm_mw.config.settings import Loaded
from alarm_mw.config.sources import Sources
from alarm_mw.master.control.status import figures, in_force, status
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing
from alarm_mw.transports.records import RecordMaker

#: Recognisable, and of the kind that passwords and tokens are.
SECRET = "S3CR3T-0123456789-t0k3n"

#: What may be left of it where it was cut or encoded.
TRACES = ("S3CR3T", "t0k3n", "UzNDUjNU")


def _http(peer: socket.socket) -> None:
    """Refuse a request, with all that it said."""
    request = peer.recv(65536)
    body = request.replace(b"\r\n", b" ")
    peer.sendall(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _no_http(peer: socket.socket) -> None:
    """Say everything back, which is no HTTP."""
    peer.sendall(peer.recv(65536).replace(b"\r\n", b" ") + b"\r\n\r\n")


def _smtp(peer: socket.socket) -> None:
    """Offer a login, and refuse each with all that it said."""
    peer.sendall(b"220 hello\r\n")
    with peer.makefile("rb") as lines:
        for line in lines:
            answer = b"250-me\r\n250 AUTH PLAIN LOGIN\r\n" if line[:4] == b"EHLO" else b"535 no: " + line
            peer.sendall(answer)


def _ftp(peer: socket.socket) -> None:
    """Refuse a password, with all that it said."""
    peer.sendall(b"220 hello\r\n")
    for line in peer.makefile("rb"):
        peer.sendall(b"331 go on\r\n" if line[:4] == b"USER" else b"530 no: " + line)


def _silent(peer: socket.socket) -> None:
    """Say nothing."""
    while peer.recv(65536):
        pass


@contextmanager
def served(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Provide the port of a server that answers every connection so."""
    open_now: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(peer: socket.socket) -> None:
        with suppress(OSError), peer:
            answer(peer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                open_now.append(peer)
                threads.append(threading.Thread(target=serve, args=(peer,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for peer in open_now:
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def alarms(ports: dict[str, int]) -> dict[str, str | dict[str, object]]:
    """Return every action that has secrets, failing in every way."""
    found: dict[str, str | dict[str, object]] = {}
    for name, port in ports.items():
        at, short = f"127.0.0.1:{port}", {"timeout": 0.5, "conn_timeout": 0.5}
        hook = {"action": "curl", "headers": {"Authorization": f"Bearer {SECRET}"}, **short}
        found |= {
            f"path-{name}": {**hook, "url": f"http://{at}/{SECRET}?x={SECRET}"},
            f"login-{name}": {**hook, "url": f"http://me:{SECRET}@{at}/"},
            f"options-{name}": f"curl:http://{at}/;auth_user=me;auth_pass={SECRET};timeout=0.5",
            f"tls-{name}": {**hook, "url": f"https://me:{SECRET}@{at}/{SECRET}"},
            f"mail-{name}": f"curl:smtp://me:{SECRET}@{at};mail_to=a@example.org;timeout=0.5",
            f"mails-{name}": f"curl:smtps://{at};auth_user=me;auth_pass={SECRET};mail_to=a@example.org;timeout=0.5",
            f"starttls-{name}": f"curl:smtp://me:{SECRET}@{at};ssl=true;mail_to=a@example.org;timeout=0.5",
            f"ftp-{name}": f"curl:ftp://me:{SECRET}@{at}/{SECRET};timeout=0.5",
            f"v2-{name}": f"airbrake:http://{at}/notices;apikey={SECRET};timeout=0.5",
            f"v3-{name}": f"airbrake:http://{at}/api/v3/projects/1/notices?key={SECRET};timeout=0.5",
            f"chat-{name}": f"xmpp:app@example.org;{SECRET};me@example.org;host=127.0.0.1;port={port};tls=off",
            f"chats-{name}": f"xmpp:app@example.org;{SECRET};me@example.org;host=127.0.0.1;port={port};tls=direct",
        }
    return {
        **found,
        "nowhere": f"curl:http://me:{SECRET}@no-such-host.invalid/{SECRET};timeout=2",
        "odd": f"curl:http://me:{SECRET}\udcff@127.0.0.1:9/{SECRET}\udcff",
    }


class Failures:
    """Waits for alarms to fail."""

    def __init__(self) -> None:
        #: By alarm, with its causes: text, for an error holds on to connections.
        self.errors: dict[str, str] = {}
        self._changed = threading.Condition()

    def note(self, alarm: str, firing: Firing, error: ActionError, **_facts: object) -> None:
        with self._changed:
            self.errors[alarm] = "".join(traceback.format_exception(error))
            self._changed.notify_all()

    def wait_for(self, names: set[str]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: names <= set(self.errors), LIMIT), names - set(self.errors)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # handshakes that the end has cut off
def test_no_failure_shows_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, silent, bad TLS, echoed: log, errors with their causes, status, metrics and outbox hold no secret."""
    log: list[bytes] = []
    monkeypatch.setattr(client, "PATIENCE", 1.0)
    caplog.set_level(logging.DEBUG, "alarm_mw")
    failures = Failures()
    with ExitStack() as stack:
        kinds = {"http": _http, "garbled": _no_http, "smtp": _smtp, "ftp": _ftp, "silent": _silent}
        ports = {name: stack.enter_context(served(kind)) for name, kind in kinds.items()}
        with socket.create_server(("127.0.0.1", 0)) as unused:
            ports["refused"] = unused.getsockname()[1]
        settings = from_keywords(alarms=alarms(ports), environ={})
        names = {alarm.name for alarm in settings.alarms}
        runtime = Runtime(settings, outbox=tmp_path / "outbox.db", write_log=log.append)
        stack.enter_context(signals.failed.connected_to(failures.note))
        runtime.start()
        try:
            maker = RecordMaker()
            items = tuple(Item(maker.make(b"terrible\n", source="api"), name) for name in sorted(names))
            runtime.worker.submit(Batch(items))
            failures.wait_for(names)
            told = status(runtime, str(tmp_path), None, in_force(Loaded(settings), ()), ())
            shown = [json.dumps(told), str(figures(runtime, Loaded(settings), ())), repr(settings)]
        finally:
            runtime.stop(3.0)
    shown += [*failures.errors.values(), caplog.text, b"".join(log).decode("utf-8", "replace")]
    caplog.clear()  # its records hold errors, too
    # What waits, the dead letters, and the errors of both.
    shown += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert [text for text in shown if any(trace in text for trace in TRACES)] == []
    assert "401" in failures.errors["path-http"]
    assert "535" in failures.errors["mail-smtp"]


MISTAKES = [
    'password = ["{}"]\njid = "app@example.org"\nto = "x"\naction = "xmpp"',
    'password = "{}"\njid = "app"\nto = ["me@example.org"]\naction = "xmpp"',
    'password = "{}"\njid = "app@example.org"\nto = []\naction = "xmpp"\ntls = "never"',
    'password = {{ a = "{}" }}\naction = "xmpp"',
    'auth_pass = ["{}"]\nurl = "http://a"\naction = "curl"',
    'url = ["http://a/{}"]\naction = "curl"',
    'url = "http://me:{0}@a:port/{0}"\naction = "curl"',
    'url = "gopherr://me:{0}@a/{0}"\naction = "curl"',
    'url = "http://me:{0}@[a/{0}"\naction = "curl"',
    'url = "http://a/ {0}"\naction = "curl"',
    'url = "smtp://me:{0}@a"\naction = "curl"',
    'url = "http://a"\nheaders = {{ "A b" = "{0}" }}\naction = "curl"',
    'url = "http://a"\nheaders = {{ "A" = "{0}\\n" }}\naction = "curl"',
    'url = "http://a"\nheaders = ["{0}"]\naction = "curl"',
    'url = "http://a"\nheaders = "{0}"\naction = "curl"',
    'url = "ftp://a"\napikey = "{0}"\naction = "airbrake"',
    'url = "http://me:{0}@a/"\naction = "airbrake"',
    'url = "http://me:{0}@a/"\naction = "curll"',
]


@pytest.mark.parametrize("text", MISTAKES)
def test_no_mistake_in_a_configuration_shows_a_secret(text: str, tmp_path: Path) -> None:
    """Whatever is wrong around a secret, the problem does not show it; from a file or from the environment alike."""
    (tmp_path / "secret").write_text(SECRET)
    for value in (SECRET, "${SECRET}", f"${{file:{tmp_path}/secret}}"):
        config = tmp_path / "a.toml"
        config.write_text(
            "[alarms.a]\n" + text.replace("{{", "{").replace("}}", "}").replace("{0}", value).replace("{}", value)
        )
        problems = examine(Sources.of_files([str(config)]), {"SECRET": SECRET}).problems
        assert problems
        assert not any(trace in str(problem) for trace in TRACES for problem in problems)


@pytest.mark.parametrize(
    "alarm",
    [
        "a xmpp:app;{};me@example.org",
        "a xmpp:app@example.org;{}",
        "a xmpp:app@example.org;{};me@example.org;prt=1",
        "a xmpp:app@example.org;{};me@example.org;port=x",
        "a curl:http://me:{0}@a:x/{0}",
        "a curl:http://a/{0};timeout=x",
        "a curl:xttp://a/{0}",
        "a curl:http://a;auth_pass={0};auth_usr=me",
        "a airbrake:http://a;apikey={0};ssl=maybe",
        "a airbrake:ftp://a;apikey={0}",
        "a xmmp:app@example.org;{};me@example.org",
        "jabber",
    ],
)
def test_no_mistake_in_uwsgis_syntax_shows_a_secret(alarm: str) -> None:
    """The same for what stands in an ini file, or in a flag."""
    value = alarm.replace("{0}", SECRET).replace("{}", SECRET)
    problems = examine(Sources(flags=(("alarm", value),)), {}).problems
    assert problems
    assert not any(trace in str(problem) for trace in TRACES for problem in problems)
