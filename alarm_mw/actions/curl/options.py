"""The options of the action `curl`."""

from __future__ import annotations

import importlib.util
import re
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from alarm_mw.actions.curl.url import Target
from alarm_mw.model.errors import MissingError
from alarm_mw.model.interfaces import SECRET, PluginOptions
from alarm_mw.model.keyvalue import check_ca_file, did_you_mean

MAIL_SCHEMES = frozenset({"smtp", "smtps"})
WEB_SCHEMES = frozenset({"http", "https"})
SCHEMES = WEB_SCHEMES | MAIL_SCHEMES

#: Further schemes that some builds of libcurl know.
_OF_LIBCURL = (
    "dict|file|ftps?|gophers?|imaps?|ldaps?|mqtts?|pop3s?|rtmp(?:e|s|t|te|ts)?|rtsp|scp|sftp|smbs?|telnet|tftp|wss?"
)

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

#: The method of Slack's API that posts a message.
POST_MESSAGE = "/chat.postMessage"

#: Formats that are read by programs, which group what is equal.
FOR_PROGRAMS = frozenset({"json", "alertmanager", "otlp", "cloudevents"})

#: A method or the name of a header (RFC 9110, section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: The characters of a header's value.
_VALUE = re.compile(r"[\t\x20-\x7e]*")

#: Headers that state the length of the body.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

#: Characters that would end a line of a mail's header.
_LINE_END = re.compile(r"[\r\n\0]")

Seconds = Annotated[float, Meta(ge=0)]


class CurlOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `curl`: uWSGI's keys, and `headers`, `ca_file`, `format`, `key` and `json`."""

    templates: ClassVar[tuple[str, ...]] = ("subject",)

    socket_timeouts: ClassVar[tuple[str, ...]] = ("timeout", "conn_timeout")

    url: Annotated[
        str,
        SECRET,
        Meta(description="the receiver: `http://`, `https://`, `smtp://`, `smtps://`, or another scheme of curl"),
    ]
    method: Annotated[
        str, Meta(description="the HTTP method, sent as written; `PUT` if empty, `POST` with a `format`")
    ] = ""
    auth_user: Annotated[str, Meta(description="user name; if empty, the one in the URL")] = ""
    auth_pass: Annotated[str, SECRET, Meta(description="password")] = ""
    timeout: Annotated[Seconds, Meta(description="time limit of a request in seconds; 0 means no limit")] = 4.0
    conn_timeout: Annotated[Seconds, Meta(description="time limit of connecting in seconds; 0 means no limit")] = 4.0
    ssl: Annotated[bool, Meta(description="email and FTP: require STARTTLS")] = False
    ssl_insecure: Annotated[bool, Meta(description="accept any certificate")] = False
    ca_file: Annotated[str, Meta(description="PEM file of the certificates to trust instead of the system's")] = ""
    subject: Annotated[
        str, Meta(description="subject of the email; with HTTP a `Subject:` line before the message")
    ] = ""
    mail_from: Annotated[str, Meta(description="sender of the email")] = ""
    mail_to: Annotated[
        tuple[str, ...], Meta(description="recipients of the email; with HTTP a `To:` line before the message")
    ] = ()
    headers: Annotated[dict[str, str], SECRET, Meta(description="additional HTTP headers")] = field(
        default_factory=dict
    )
    format: Annotated[Format, Meta(description="the format that the receiver expects")] = ""
    key: Annotated[
        str, SECRET, Meta(description="PagerDuty's routing key, Opsgenie's API key, or the token of a bot of Slack")
    ] = ""
    channel: Annotated[
        str,
        Meta(description="Slack: the channel of a bot, such as `#alarms`; `url` then ends with `/chat.postMessage`"),
    ] = ""
    json: Annotated[
        dict[str, object] | list[object] | str,
        Meta(description="a JSON body of your own, whose strings are templates"),
    ] = ""

    def __post_init__(self) -> None:
        """Raise `ValueError` for what would fail at the first alarm."""
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
            raise ValueError("headers contains an invalid name")
        if _FRAMING & {name.lower() for name in self.headers}:
            raise ValueError("headers cannot hold Content-Length or Transfer-Encoding: the message decides them")
        if not all(map(_VALUE.fullmatch, self.headers.values())):
            raise ValueError("headers contains a value that is not printable ASCII")
        if any(map(_LINE_END.search, (self.subject, self.mail_from, *self.mail_to))):
            raise ValueError("subject, mail_from and mail_to cannot hold line ends or NUL characters")

    def _check_format(self, scheme: str) -> None:
        if (self.format or self.json) and scheme not in WEB_SCHEMES:
            raise ValueError("format and json are for http:// and https:// URLs")
        if self.format == "pagerduty" and not self.key:
            raise ValueError('format = "pagerduty" needs the routing key of the service\'s integration: key = "…"')
        if self.format == "opsgenie" and not self.key and "authorization" not in map(str.lower, self.headers):
            raise ValueError('format = "opsgenie" needs the key of an API integration: key = "…"')
        if self.channel:
            self._check_bot()
        if not _VALUE.fullmatch(self.key):
            raise ValueError("key is not printable ASCII")
        if self.json:
            from alarm_mw.actions.curl.formats import custom, requests  # noqa: PLC0415  # for bodies of one's own alone

            if self.format not in requests.ESCAPES:
                raise ValueError(f'json beside format = "{self.format}": expected one of them')
            custom.read(self.json)

    def _check_bot(self) -> None:
        if self.format != "slack":
            raise ValueError('channel is for format = "slack"')
        if not self.key:
            raise ValueError('channel needs the token of a bot: key = "xoxb-…"')
        if not self.target.path.endswith(POST_MESSAGE):
            raise ValueError('channel needs url = "https://slack.com/api/chat.postMessage"')

    def _check_mail(self) -> None:
        if not self.mail_to:
            raise ValueError("a mail needs recipients: mail_to=someone@example.org")
        from alarm_mw.actions.curl.mail_message import check_header, default_sender  # noqa: PLC0415  # 20 ms, for mail alone

        check_header(self.mail_from or default_sender(self.auth_user), self.mail_to, self.subject)

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about what is probably missing."""
        if "://" in self.url:
            return ()
        return (f"the URL has no scheme, and is sent to {self.target.origin} without encryption: write https://…",)

    @property
    def reaches_people(self) -> bool:
        """Whether a person reads it: not in formats for programs that group equal events themselves."""
        return self.format not in FOR_PROGRAMS

    @property
    def has_acknowledgements(self) -> bool:
        """Whether an alert can be acknowledged there."""
        return self.format in {"pagerduty", "opsgenie"} or self.is_slack_bot

    @property
    def refreshes(self) -> bool:
        """Whether open alerts are sent again: Alertmanager forgets those that are not."""
        return self.format == "alertmanager"

    @property
    def is_slack_bot(self) -> bool:
        """Whether messages are posted by a bot, which can change them later, rather than by an incoming webhook."""
        return self.format == "slack" and bool(self.channel)

    @property
    def http_method(self) -> str:
        """Return the method of the request."""
        return self.method or ("POST" if self.format or self.json else "PUT")

    @property
    def target(self) -> Target:
        """Return the parts of the URL."""
        return Target.parse(self.url)

    @property
    def auth(self) -> tuple[str, str] | None:
        """Return user name and password; options take precedence over the URL."""
        target = self.target
        user, password = self.auth_user or target.user, self.auth_pass or target.password
        return (user, password) if user or password else None


def _check_libcurl(scheme: str) -> None:
    if importlib.util.find_spec("pycurl") is None:
        if not re.fullmatch(_OF_LIBCURL, scheme):
            raise ValueError(f"unknown scheme {scheme!r}{did_you_mean(scheme, SCHEMES)}")
        raise MissingError(
            f"sending to {scheme!r} URLs needs the package 'pycurl', which is not installed: "
            "pip install 'alarm-mw[pycurl]'"
        )
    import pycurl  # noqa: PLC0415  # an extra, which may not be installed

    schemes = pycurl.version_info()[8]
    if scheme not in schemes:
        known = ", ".join(sorted({*SCHEMES, *schemes}))
        raise ValueError(f"unknown scheme {scheme!r}{did_you_mean(scheme, schemes)}; curl can send to {known}")
