"""``curl:URL;key=value…``: uploads the message to a web server, or sends it as mail."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol, Self

import msgspec
from msgspec import Meta, field

from alarm_mw import texts
from alarm_mw.actions.curl.url import Target
from alarm_mw.model import keyvalue
from alarm_mw.model.errors import MissingError
from alarm_mw.model.interfaces import MASK, SECRET, ActionContext, PluginOptions
from alarm_mw.model.keyvalue import check_ca_file
from alarm_mw.model.masking import mask, secrets_in
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off
from alarm_mw.texts import uploaded

MAIL_SCHEMES = frozenset({"smtp", "smtps"})
WEB_SCHEMES = frozenset({"http", "https"})
SCHEMES = WEB_SCHEMES | MAIL_SCHEMES

#: The forms in which services want a message; empty: as it is.
Format = Literal[
    "",
    "text",
    "json",
    "slack",
    "discord",
    "teams",
    "mattermost",
    "googlechat",
    "pagerduty",
    "opsgenie",
    "alertmanager",
    "otlp",
    "cloudevents",
]

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
    """What the `curl` action can be told: uWSGI's keys, and `headers`, `ca_file`, `format`, `key` and `json`."""

    templates: ClassVar[tuple[str, ...]] = ("subject",)

    socket_timeouts: ClassVar[tuple[str, ...]] = ("timeout", "conn_timeout")

    url: Annotated[
        str, SECRET, Meta(description="where to: `http://`, `https://`, `smtp://`, `smtps://`, or another of curl's")
    ]
    method: Annotated[
        str, Meta(description="the HTTP method, sent as written; `PUT` if empty, `POST` with a `format`")
    ] = ""
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
    format: Annotated[Format, Meta(description="the form that the receiver wants")] = ""
    key: Annotated[str, SECRET, Meta(description="PagerDuty's routing key, or Opsgenie's API key")] = ""
    json: Annotated[
        dict[str, object] | list[object] | str,
        Meta(description="a JSON body of your own, whose strings are templates"),
    ] = ""

    def __post_init__(self) -> None:
        """Check what would fail at the first alarm."""
        scheme = Target.parse(self.url).scheme
        if scheme not in SCHEMES:
            _check_libcurl(scheme)
        check_ca_file(self.ca_file)
        self._check_headers()
        self._check_format(scheme)
        if scheme in MAIL_SCHEMES:
            self._check_mail()

    def _check_headers(self) -> None:
        if self.method and not _TOKEN.fullmatch(self.method):
            raise ValueError("method is not an HTTP method")
        if not all(map(_TOKEN.fullmatch, self.headers)):
            raise ValueError("headers holds a name that is none")
        if _FRAMING & {name.lower() for name in self.headers}:
            raise ValueError("headers cannot hold Content-Length or Transfer-Encoding: the message decides them")
        if not all(map(_VALUE.fullmatch, self.headers.values())):
            raise ValueError("headers holds a value that is not printable ASCII")
        if any(map(_LINE_END.search, (self.subject, self.mail_from, *self.mail_to))):
            raise ValueError("subject, mail_from and mail_to cannot hold line ends or NUL characters")

    def _check_format(self, scheme: str) -> None:
        if (self.format or self.json) and scheme not in WEB_SCHEMES:
            raise ValueError("format and json are for http:// and https:// URLs")
        if self.format == "pagerduty" and not self.key:
            raise ValueError('format = "pagerduty" needs the routing key of the service\'s integration: key = "…"')
        if self.format == "opsgenie" and not self.key and "authorization" not in map(str.lower, self.headers):
            raise ValueError('format = "opsgenie" needs the key of an API integration: key = "…"')
        if not _VALUE.fullmatch(self.key):
            raise ValueError("key is not printable ASCII")
        if self.json:
            from alarm_mw.actions.curl.formats import custom, requests  # noqa: PLC0415  # for bodies of one's own alone

            if self.format not in requests.ESCAPES:
                raise ValueError(f'json beside format = "{self.format}": expected one of them')
            custom.read(self.json)

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
    def http_method(self) -> str:
        """Return the method of the request."""
        return self.method or ("POST" if self.format or self.json else "PUT")

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

    def preview(self, firing: Firing) -> str:
        """Return the request, or the mail."""
        options, context = self._options, self._context
        scheme = options.target.scheme
        if scheme in MAIL_SCHEMES:
            from alarm_mw.actions.curl.mail import mail_of  # noqa: PLC0415  # for mail alone

            mail = mail_of(firing, options, context)
            head = "".join(f"{name}: {printable(value)}\n" for name, value in mail.items())
            return f"{options.target.origin}\n{head}\n{mail.get_content().rstrip()}"
        if scheme not in WEB_SCHEMES:
            return "\n".join([options.target.origin, "", *printable_lines(uploaded(firing, context))])
        body = web_body(firing, options, context)
        shown = {**body.headers, **dict.fromkeys(options.headers, MASK)}
        head = "".join(f"{name}: {MASK if name == 'Authorization' else value}\n" for name, value in shown.items())
        text = mask(_readable(body.data), secrets_in(options.key) if options.key else ())
        return f"{options.http_method} {options.target.origin}/{MASK}\n{head}\n{text}"

    async def deliver(self, firing: Firing) -> None:
        """Send the message; raise `ActionError` when the server did not take it."""
        assert self._sender is not None, "deliver() belongs inside `async with action`"
        await self._sender.send(firing)


def _readable(data: bytes) -> str:
    """Return a body for people: JSON in lines, anything else with hidden characters visible."""
    try:
        return msgspec.json.format(data, indent=2).decode()
    except msgspec.DecodeError:
        return "\n".join(printable_lines(data))


def _sender(options: CurlOptions, context: ActionContext) -> Sender:
    # Imported here: httpx takes 120 ms, and who sends mail only does not need it, nor who only checks a configuration.
    if options.target.scheme in MAIL_SCHEMES:
        with held_off():
            from alarm_mw.actions.curl.mail import MailSender  # noqa: PLC0415  # see above

        return MailSender(options, context)
    if options.target.scheme in SCHEMES:
        return WebSender(options, context)
    with held_off():
        from alarm_mw.actions.curl.libcurl import LibcurlSender  # noqa: PLC0415  # see above

    return LibcurlSender(options, head(options), context)


class WebSender:
    """Sends over HTTP."""

    def __init__(self, options: CurlOptions, context: ActionContext) -> None:
        with held_off():
            from alarm_mw.actions.curl.http import HttpClient, HttpSettings  # noqa: PLC0415  # takes 120 ms; see there

        self._options = options
        self._context = context
        settings = HttpSettings(
            auth=options.auth,
            headers=options.headers,
            verify=not options.ssl_insecure,
            ca_file=options.ca_file,
            secrets=(options.key,),
            timeout=options.timeout,
            conn_timeout=options.conn_timeout,
        )
        self._client = HttpClient(options.target, settings)

    async def send(self, firing: Firing) -> None:
        """Send the message in the form that the receiver wants."""
        body = web_body(firing, self._options, self._context)
        has_format = bool(self._options.format or self._options.json)
        method = self._options.http_method
        await self._client.deliver(method, firing.id, body.data, body.headers, is_judged_by_body=has_format)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


class WebBody(NamedTuple):
    """What is sent over HTTP."""

    headers: Mapping[str, str]
    data: bytes


def web_body(firing: Firing, options: CurlOptions, context: ActionContext) -> WebBody:
    """Return what is sent over HTTP: the very bytes of the message where nobody asks for a text for people."""
    if not (options.format or options.json) and context.texts is None:
        return WebBody({}, head(options) + firing.message)
    with held_off():
        from alarm_mw.actions.curl.formats.requests import body_of  # noqa: PLC0415  # 10 ms, for those who want a format

    # In an ini file a subject is no template.
    message = texts.message_for(firing, context, "" if context.texts is None else options.subject)
    body = body_of(message, options.format or ("" if options.json else "text"), options.key, options.json)
    is_given = "content-type" in {name.lower() for name in options.headers}
    return WebBody({**({} if is_given else {"Content-Type": body.content_type}), **body.headers}, body.data)


def head(options: CurlOptions) -> bytes:
    """Return the lines that uWSGI puts before the message when it has recipients or a subject, over HTTP too."""
    lines = [f"To: {','.join(options.mail_to)}"] if options.mail_to else []
    lines += [f"Subject: {options.subject}"] if options.subject else []
    # A byte of an ini file that is no UTF-8 stays what it is.
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape") if lines else b""
