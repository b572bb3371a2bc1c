"""``curl:URL;key=value…``: uploads the message to a web server, or sends it as mail."""

from __future__ import annotations

import importlib.util
import re
from typing import Annotated, ClassVar, Protocol, Self

from msgspec import Meta, field

from alarm_mw.actions.curl.url import Target
from alarm_mw.model import keyvalue
from alarm_mw.model.errors import MissingError
from alarm_mw.model.interfaces import SECRET, ActionContext, PluginOptions
from alarm_mw.model.keyvalue import check_ca_file
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off

MAIL_SCHEMES = frozenset({"smtp", "smtps"})
SCHEMES = frozenset({"http", "https"}) | MAIL_SCHEMES

#: A method or the name of a header (RFC 9110, section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: What the value of a header may hold.
_VALUE = re.compile(r"[\t\x20-\x7e]*")

#: How long the body is.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

#: What would end a line of a mail's header.
_LINE_END = re.compile(r"[\r\n\0]")

Seconds = Annotated[float, Meta(ge=0)]


class CurlOptions(PluginOptions, frozen=True, kw_only=True):
    """What the `curl` action can be told: uWSGI's keys, and `headers` and `ca_file`."""

    socket_timeouts: ClassVar[tuple[str, ...]] = ("timeout", "conn_timeout")

    url: Annotated[
        str, SECRET, Meta(description="where to: `http://`, `https://`, `smtp://`, `smtps://`, or another of curl's")
    ]
    method: Annotated[str, Meta(description="the HTTP method, sent as written")] = "PUT"
    auth_user: Annotated[str, Meta(description="user name; the URL's own if empty")] = ""
    auth_pass: Annotated[str, SECRET, Meta(description="password")] = ""
    timeout: Annotated[Seconds, Meta(description="seconds that a whole request may take; 0 is no limit")] = 4.0
    conn_timeout: Annotated[Seconds, Meta(description="seconds that connecting may take; 0 is no limit")] = 4.0
    ssl: Annotated[bool, Meta(description="mail, FTP: insist on STARTTLS")] = False
    ssl_insecure: Annotated[bool, Meta(description="accept any certificate")] = False
    ca_file: Annotated[str, Meta(description="PEM file of the certificates to trust instead of the system's")] = ""
    subject: Annotated[str, Meta(description="subject of the mail; over HTTP a `Subject:` line before the message")] = (
        ""
    )
    mail_from: Annotated[str, Meta(description="the mail's sender")] = ""
    mail_to: Annotated[
        tuple[str, ...], Meta(description="recipients of the mail; over HTTP a `To:` line before the message")
    ] = ()
    headers: Annotated[dict[str, str], SECRET, Meta(description="more HTTP headers")] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what would fail at the first alarm."""
        scheme = Target.parse(self.url).scheme
        if scheme not in SCHEMES:
            _check_libcurl(scheme)
        check_ca_file(self.ca_file)
        self._check_headers()
        if scheme in MAIL_SCHEMES:
            self._check_mail()

    def _check_headers(self) -> None:
        if not _TOKEN.fullmatch(self.method):
            raise ValueError("method is not an HTTP method")
        if not all(map(_TOKEN.fullmatch, self.headers)):
            raise ValueError("headers holds a name that is none")
        if _FRAMING & {name.lower() for name in self.headers}:
            raise ValueError("headers cannot hold Content-Length or Transfer-Encoding: the message decides them")
        if not all(map(_VALUE.fullmatch, self.headers.values())):
            raise ValueError("headers holds a value that is not printable ASCII")
        if any(map(_LINE_END.search, (self.subject, self.mail_from, *self.mail_to))):
            raise ValueError("subject, mail_from and mail_to cannot hold line ends or NUL characters")

    def _check_mail(self) -> None:
        if not self.mail_to:
            raise ValueError("a mail needs recipients: mail_to=someone@example.org")
        from alarm_mw.actions.curl.mail_message import check_header, default_sender  # noqa: PLC0415  # 20 ms, for mail alone

        check_header(self.mail_from or default_sender(self.auth_user), self.mail_to, self.subject)

    def warnings(self) -> tuple[str, ...]:
        """Return what is probably missing."""
        if "://" in self.url:
            return ()
        return (f"the URL has no scheme, and is sent to {self.target.origin} without encryption: write https://…",)

    @property
    def target(self) -> Target:
        """Return the URL taken apart."""
        return Target.parse(self.url)

    @property
    def auth(self) -> tuple[str, str] | None:
        """Return user name and password: those given as options before those in the URL."""
        target = self.target
        user, password = self.auth_user or target.user, self.auth_pass or target.password
        return (user, password) if user or password else None


def _check_libcurl(scheme: str) -> None:
    if importlib.util.find_spec("pycurl") is None:
        raise MissingError(
            f"sending to {scheme!r} URLs needs the package 'pycurl', which is not installed: "
            "pip install 'alarm-mw[pycurl]'"
        )
    from alarm_mw.actions.curl.libcurl import schemes  # noqa: PLC0415  # an extra, which may not be installed

    if scheme not in schemes():
        known = ", ".join(sorted({*SCHEMES, *schemes()}))
        raise ValueError(f"curl cannot send to {scheme!r} URLs; it can to {known}")


class Sender(Protocol):
    """Sends over one protocol."""

    async def send(self, firing: Firing) -> None:
        """Return when the firing is delivered; raise `ActionError`."""
        ...

    async def close(self) -> None:
        """Give up the connections."""
        ...


class CurlAction:
    """Sends the message with one request, PUT unless told otherwise, or with one mail; by libcurl whatever else it can.

    The firing's id goes with it, as ``Idempotency-Key`` or ``Message-ID``, so that a receiver can tell a retry.
    """

    Options: ClassVar[type[PluginOptions]] = CurlOptions
    concurrency: ClassVar[int] = 1

    def __init__(self, options: CurlOptions, context: ActionContext) -> None:
        self._options = options
        self._context = context
        self._sender: Sender | None = None

    @classmethod
    def from_uwsgi(cls, args: str) -> CurlOptions:
        """Return the options of ``curl:URL;key=value…``; a part without ``=`` is the URL, the last one counts."""
        return keyvalue.build(CurlOptions, keyvalue.split_url(args))

    async def __aenter__(self) -> Self:
        self._sender = _sender(self._options, self._context)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._sender:
            await self._sender.close()

    async def deliver(self, firing: Firing) -> None:
        """Send the message; raise `ActionError` when the server did not take it."""
        assert self._sender is not None, "deliver() belongs inside `async with action`"
        await self._sender.send(firing)


def _sender(options: CurlOptions, context: ActionContext) -> Sender:
    # Imported here: httpx takes 120 ms, and who sends mail only does not need it, nor who only checks a configuration.
    if options.target.scheme in MAIL_SCHEMES:
        with held_off():
            from alarm_mw.actions.curl.mail import MailSender  # noqa: PLC0415  # see above

        return MailSender(options, context)
    if options.target.scheme in SCHEMES:
        return WebSender(options)
    with held_off():
        from alarm_mw.actions.curl.libcurl import LibcurlSender  # noqa: PLC0415  # see above

    return LibcurlSender(options, head(options))


class WebSender:
    """Sends over HTTP."""

    def __init__(self, options: CurlOptions) -> None:
        with held_off():
            from alarm_mw.actions.curl.http import HttpClient, HttpSettings  # noqa: PLC0415  # takes 120 ms; see there

        self._method = options.method
        self._head = head(options)
        settings = HttpSettings(
            auth=options.auth,
            headers=options.headers,
            verify=not options.ssl_insecure,
            ca_file=options.ca_file,
            timeout=options.timeout,
            conn_timeout=options.conn_timeout,
        )
        self._client = HttpClient(options.target, settings)

    async def send(self, firing: Firing) -> None:
        """Upload the very bytes of the message."""
        await self._client.deliver(self._method, firing.id, self._head + firing.message)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def head(options: CurlOptions) -> bytes:
    """Return the lines that uWSGI puts before the message when it has recipients or a subject, over HTTP too."""
    lines = [f"To: {','.join(options.mail_to)}"] if options.mail_to else []
    lines += [f"Subject: {options.subject}"] if options.subject else []
    # A byte of an ini file that is no UTF-8 stays what it is.
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape") if lines else b""
