"""``curl:smtp://…``, with a real SMTP server."""

from __future__ import annotations

import asyncio
import contextlib
import email
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from typing import Any, Protocol

import pytest
import smtp_server
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.recipients import Recipients, Refusal
from alarm_mw.model.types import Firing

Make = Callable[..., Firing]

# The library warns of a server that takes passwords without TLS, as this one is meant to.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


class Log(Protocol):
    @property
    def text(self) -> bytes: ...


@dataclass
class MailServer:
    """What an SMTP server got, and what it is to refuse."""

    port: int = 0
    mails: list[Envelope] = field(default_factory=list)
    #: The answer to each recipient that is refused.
    refusals: dict[str, str] = field(default_factory=dict)
    #: The answer to the data.
    verdict: str = "250 OK"
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    #: As whom clients have greeted it.
    greetings: list[str] = field(default_factory=list)
    #: Whether it never answers that somebody leaves.
    holds_fast: bool = False

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        self.greetings.append(str(session.host_name))
        self.mails.append(envelope)
        return self.verdict

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:
        if self.holds_fast:
            await asyncio.Event().wait()
        return "221 Bye"

    def login(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2", handled=False)


def last_mail(server: MailServer) -> EmailMessage:
    """Return the last mail that the server got, parsed."""
    content = server.mails[-1].original_content
    assert content is not None
    mail = email.message_from_bytes(content, policy=default)
    assert isinstance(mail, EmailMessage)
    return mail


@contextlib.contextmanager
def serving(*, first: ssl.SSLContext | None = None, **options: Any) -> Iterator[MailServer]:
    """Run an SMTP server; TLS comes first with the context `first`."""
    server = MailServer()
    options |= {"authenticator": server.login, "auth_require_tls": False, "hostname": "mx"}
    with smtp_server.serving(lambda: SMTP(server, **options), first) as server.port:
        yield server


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with serving() as server:
        yield server


Deliver = Callable[..., None]


def test_a_mail_is_correct(mail_server: MailServer, deliver: Deliver, make_firing: Make) -> None:
    """It has everything that a mail needs, which uWSGI's has not."""
    options = f"smtp://127.0.0.1:{mail_server.port};mail_to=a@example.org,b@example.org;mail_from=uwsgi@example.org"
    deliver(f"{options};subject=alarm from uWSGI !!!", make_firing(b"TERRIBLE ALARM\n", time=0.0))
    mail = last_mail(mail_server)
    assert mail["From"] == "uwsgi@example.org"
    assert mail["To"] == "a@example.org, b@example.org"
    assert mail["Subject"] == "alarm from uWSGI !!!"
    assert mail["Date"] == "Thu, 01 Jan 1970 00:00:00 +0000"
    assert mail["Message-ID"] == "<firing-1@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == ["TERRIBLE ALARM"]
    assert mail_server.mails[0].mail_from == "uwsgi@example.org"
    assert mail_server.mails[0].rcpt_tos == ["a@example.org", "b@example.org"]


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        (b".\n..\nQUIT\n", [".", "..", "QUIT"]),
        (b"x" * 5_000, ["x" * 5_000]),
        ("caf\u00e9 \u2713".encode(), ["caf\u00e9 \u2713"]),
        (b"\x00\x1b[31m\xff", ["\\x00\\x1b[31m\\xff"]),
        (b"Subject: forged\r\nBcc: all@example.org\r\n\r\n", ["Subject: forged", "Bcc: all@example.org", ""]),
        (b"", []),
    ],
)
def test_any_message_survives(
    message: bytes, lines: list[str], mail_server: MailServer, deliver: Deliver, make_firing: Make
) -> None:
    """Lone dots, long lines, other languages and hostile bytes arrive as text; a line never becomes a header."""
    deliver(f"smtp://127.0.0.1:{mail_server.port};mail_to=a@example.org;mail_from=b@example.org", make_firing(message))
    content = mail_server.mails[0].original_content
    assert content is not None
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert content.isascii()
    mail = last_mail(mail_server)
    assert mail.get_content().splitlines() == (lines or [""])
    ours = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"}
    assert set(mail.keys()) == ours | {"MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
    assert mail["Subject"] == "alarm test"


def test_names_stand_beside_addresses(mail_server: MailServer, deliver: Deliver, make_firing: Make) -> None:
    """Name and address in the header, the address alone in the envelope."""
    options = CurlOptions(
        url=f"smtp://127.0.0.1:{mail_server.port}",
        mail_from="App <app@example.org>",
        mail_to=("J\u00f6 <jo@example.org>",),
    )
    deliver(options, make_firing())
    assert str(last_mail(mail_server)["To"]) == "J\u00f6 <jo@example.org>"
    assert mail_server.mails[0].rcpt_tos == ["jo@example.org"]
    assert mail_server.mails[0].mail_from == "app@example.org"


def test_login(mail_server: MailServer, deliver: Deliver, make_firing: Make) -> None:
    """The account's own address is the sender when no other is given."""
    deliver(
        f"smtp://127.0.0.1:{mail_server.port};mail_to=a@example.org;auth_user=u@example.org;auth_pass=hunter2",
        make_firing(),
    )
    assert mail_server.logins == [(b"u@example.org", b"hunter2")]
    assert last_mail(mail_server)["From"] == "u@example.org"


def test_a_refused_login_is_no_use_to_retry(mail_server: MailServer, deliver: Deliver, make_firing: Make) -> None:
    """The error says so and does not show the password."""
    with pytest.raises(ActionError, match="535") as caught:
        deliver(f"smtp://u:wrong-secret@127.0.0.1:{mail_server.port};mail_to=a@example.org", make_firing())
    assert not caught.value.retry
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(("verdict", "retry"), [("554 no", False), ("451 later", True)])
def test_the_servers_answer_decides_about_a_retry(
    verdict: str,
    retry: bool,
    mail_server: MailServer,
    deliver: Deliver,
    make_firing: Make,
) -> None:
    """4xx may be better later, 5xx not."""
    mail_server.verdict = verdict
    with pytest.raises(ActionError, match=verdict) as caught:
        deliver(f"smtp://127.0.0.1:{mail_server.port};mail_to=a@example.org;mail_from=b@example.org", make_firing())
    assert caught.value.retry is retry


def test_one_refused_recipient_does_not_keep_it_from_the_others(
    mail_server: MailServer, deliver: Deliver, make_firing: Make, log: Log
) -> None:
    """The others get it, and the log names who did not."""
    mail_server.refusals["a@example.org"] = "550 no such user"
    url = f"smtp://127.0.0.1:{mail_server.port};mail_from=c@example.org"
    deliver(f"{url};mail_to=a@example.org,b@example.org", make_firing())
    assert mail_server.mails[0].rcpt_tos == ["b@example.org"]
    assert log.text == b"[uwsgi-alarm-curl] a@example.org: 550 no such user\n"
    with pytest.raises(ActionError, match=r"a@example\.org: 550 no such user") as caught:
        deliver(f"{url};mail_to=a@example.org", make_firing())
    assert not caught.value.retry


def test_who_got_it_does_not_get_it_again(mail_server: MailServer, context: ActionContext, make_firing: Make) -> None:
    """A retry goes to those only who were refused for now."""
    mail_server.refusals["a@example.org"] = "450 greylisted"
    options = CurlOptions(
        url=f"smtp://127.0.0.1:{mail_server.port}",
        mail_from="c@example.org",
        mail_to=("a@example.org", "b@example.org"),
    )

    async def attempt() -> None:
        firing = make_firing()
        async with CurlAction(options, context) as action:
            with pytest.raises(ActionError, match=r"a@example\.org: 450 greylisted") as caught:
                await action.deliver(firing)
            assert caught.value.retry
            mail_server.refusals.clear()
            await action.deliver(firing)
            await action.deliver(make_firing())

    asyncio.run(attempt())
    both = ["a@example.org", "b@example.org"]
    assert [mail.rcpt_tos for mail in mail_server.mails] == [["b@example.org"], ["a@example.org"], both]


def test_a_dead_letter_that_is_put_back_is_sent_again(
    mail_server: MailServer, context: ActionContext, make_firing: Make
) -> None:
    """Whom everybody refused for good gets the same firing when somebody has mended that: it is not delivered yet."""
    mail_server.refusals["a@example.org"] = "550 no such user"
    url = f"smtp://127.0.0.1:{mail_server.port}"
    options = CurlOptions(url=url, mail_from="c@example.org", mail_to=("a@example.org",))

    async def attempt() -> None:
        firing = make_firing()
        async with CurlAction(options, context) as action:
            with pytest.raises(ActionError, match="550 no such user") as caught:
                await action.deliver(firing)
            assert not caught.value.retry
            mail_server.refusals.clear()
            await action.deliver(firing)

    asyncio.run(attempt())
    assert [mail.rcpt_tos for mail in mail_server.mails] == [["a@example.org"]]


def test_a_late_refusal_of_the_last_is_told_to_the_log(make_firing: Make) -> None:
    """Who is refused at first for now and then for good does not make a failure of what others got."""
    notes: list[bytes] = []
    recipients = Recipients(("a", "b"), "curl", notes.append)
    firing = make_firing()
    assert recipients.left(firing) == ("a", "b")
    with pytest.raises(ActionError):
        recipients.settle({"a": Refusal("busy", retry=True)})
    assert recipients.left(firing) == ("a",)
    recipients.settle({"a": Refusal("gone", retry=False)})
    assert notes == [b"[uwsgi-alarm-curl] a: gone\n"]


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_starttls_is_insisted_on(
    server_tls: ssl.SSLContext, ca_file: str, mail_server: MailServer, deliver: Deliver, make_firing: Make
) -> None:
    """`ssl=true` sends nothing without it."""
    options = "mail_to=a@example.org;mail_from=b@example.org;ssl=true"
    with serving(tls_context=server_tls, require_starttls=True) as server:
        deliver(f"smtp://127.0.0.1:{server.port};{options};ca_file={ca_file}", make_firing())
        assert len(server.mails) == 1
        with pytest.raises(ActionError, match="certificate"):
            deliver(f"smtp://127.0.0.1:{server.port};{options}", make_firing())
        assert len(server.mails) == 1
    with pytest.raises(ActionError, match="STARTTLS"):
        deliver(f"smtp://127.0.0.1:{mail_server.port};{options}", make_firing())
    assert not mail_server.mails


def test_tls_comes_first_with_smtps(
    server_tls: ssl.SSLContext, ca_file: str, deliver: Deliver, make_firing: Make
) -> None:
    """`smtps://` speaks TLS from the first byte, and trusts whom it is told to."""
    with serving(first=server_tls) as server:
        options = f"smtps://127.0.0.1:{server.port};mail_to=a@example.org;mail_from=b@example.org"
        deliver(f"{options};ca_file={ca_file}", make_firing())
        deliver(f"{options};ssl_insecure=true", make_firing())
        with pytest.raises(ActionError, match="certificate") as caught:
            deliver(options, make_firing())
        assert caught.value.retry
        assert len(server.mails) == 2


def test_a_server_that_lets_nobody_go_has_the_mail(
    mail_server: MailServer, deliver: Deliver, make_firing: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has taken is not sent again, whatever comes then."""
    monkeypatch.setattr("alarm_mw.actions.curl.mail.QUIT_PATIENCE", 0.1)
    mail_server.holds_fast = True
    deliver(
        f"smtp://127.0.0.1:{mail_server.port};mail_to=a@example.org;mail_from=b@example.org;timeout=5", make_firing()
    )
    assert len(mail_server.mails) == 1


def test_nobody_at_the_port_is_worth_a_retry(deliver: Deliver, make_firing: Make) -> None:
    """A mail server that is away comes back."""
    with serving() as server:
        port = server.port
    with pytest.raises(ActionError) as caught:
        deliver(f"smtp://127.0.0.1:{port};mail_to=a@example.org;mail_from=b@example.org", make_firing())
    assert caught.value.retry


def test_a_server_that_says_nothing_is_given_up(web_server: Any, deliver: Deliver, make_firing: Make) -> None:
    """After `timeout` seconds in all."""
    with pytest.raises(ActionError, match=r"no answer in time \(timeout 0\.1 s, conn_timeout 4 s\)") as caught:
        deliver(f"smtp://127.0.0.1:{web_server.port};mail_to=a@example.org;timeout=0.1", make_firing())
    assert caught.value.retry


@pytest.mark.parametrize(
    ("names", "greeting"),
    [
        (("web-3", "web-3.example.org"), "web-3.example.org"),
        (("web-3.example.org", "localhost"), "web-3.example.org"),
        (("web-3", "localhost.localdomain"), "web-3"),
    ],
)
def test_servers_are_greeted_by_this_hosts_full_name(
    mail_server: MailServer,
    deliver: Deliver,
    make_firing: Make,
    monkeypatch: pytest.MonkeyPatch,
    *,
    names: tuple[str, str],
    greeting: str,
) -> None:
    """Mail servers refuse who calls himself localhost."""
    monkeypatch.setattr("socket.gethostname", lambda: names[0])
    monkeypatch.setattr("socket.getfqdn", lambda *_: names[1])
    deliver(f"smtp://127.0.0.1:{mail_server.port};mail_to=a@example.org;mail_from=b@example.org", make_firing())
    assert mail_server.greetings == [greeting]
