"""``curl:URL;key=value…``: uploads the message to a web server, or sends it as mail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol, Self

import msgspec

from alarm_mw import texts
from alarm_mw.actions.curl.options import MAIL_SCHEMES, SCHEMES, WEB_SCHEMES, CurlOptions
from alarm_mw.actions.curl.url import Content
from alarm_mw.model import keyvalue
from alarm_mw.model.interfaces import MASK, ActionContext, PluginOptions
from alarm_mw.model.masking import mask, secrets_in
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off
from alarm_mw.texts import uploaded


class Sender(Protocol):
    """Sends over one protocol."""

    async def send(self, firing: Firing) -> None:
        """Return when the firing is delivered; raise `ActionError`."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class CurlAction:
    """Calls a webhook, sends an email, or uses any other protocol that libcurl supports.

    The firing's id is sent as ``Idempotency-Key`` or ``Message-ID``, so that a receiver can recognize a retry.
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
        """Send the message; raise `ActionError` when the server refuses it."""
        assert self._sender is not None, "deliver() belongs inside `async with action`"
        await self._sender.send(firing)


def _readable(data: bytes) -> str:
    """Return a body for people: JSON in lines, anything else with hidden characters visible."""
    try:
        return msgspec.json.format(data, indent=2).decode()
    except msgspec.DecodeError:
        return "\n".join(printable_lines(data))


def _sender(options: CurlOptions, context: ActionContext) -> Sender:
    # Imported here: httpx takes 120 ms, which neither mail nor a check of the configuration needs.
    if options.target.scheme in MAIL_SCHEMES:
        with held_off():
            from alarm_mw.actions.curl.mail import MailSender  # noqa: PLC0415  # see above

        return MailSender(options, context)
    if options.target.scheme in SCHEMES:
        return _web_client(options, context)
    with held_off():
        from alarm_mw.actions.curl.libcurl import LibcurlSender  # noqa: PLC0415  # see above

    return LibcurlSender(options, head(options), context)


def _web_client(options: CurlOptions, context: ActionContext) -> Sender:
    with held_off():
        from alarm_mw.actions.curl.http import HttpClient, HttpSettings  # noqa: PLC0415  # takes 120 ms; see there

    settings = HttpSettings(
        method=options.http_method,
        auth=options.auth,
        headers=options.headers,
        verify=not options.ssl_insecure,
        ca_file=options.ca_file,
        secrets=(options.key,),
        timeout=options.timeout,
        conn_timeout=options.conn_timeout,
        checks_body=bool(options.format or options.json),
    )
    target = options.target

    def compose(firing: Firing) -> Content:
        headers, data, suffix = web_body(firing, options, context)
        return Content(headers, data, target.below(suffix) if suffix else None)

    client = HttpClient(target, settings, compose)
    if options.refreshes:
        with held_off():
            from alarm_mw.actions.curl.open_alerts import OpenAlerts  # noqa: PLC0415  # for Alertmanager alone

        return OpenAlerts(client, context)
    if options.is_slack_bot:
        with held_off():
            from alarm_mw.actions.curl.slack_bot import SlackBot  # noqa: PLC0415  # for bots alone

        return SlackBot(client, options, context)
    return client


class WebBody(NamedTuple):
    """The alarm's part of an HTTP request."""

    headers: Mapping[str, str]
    data: bytes
    #: What stands behind the path of the URL.
    suffix: str = ""


def web_body(firing: Firing, options: CurlOptions, context: ActionContext) -> WebBody:
    """Return the headers and body of the request: the exact message, unless a format or text is configured."""
    if not (options.format or options.json) and context.texts is None:
        return WebBody({}, head(options) + texts.said(firing))
    with held_off():
        from alarm_mw.actions.curl.formats.requests import body_of  # noqa: PLC0415  # 10 ms, for those who want a format

    # In an ini file a subject is no template.
    message = texts.message_for(firing, context, "" if context.texts is None else options.subject)
    body = body_of(message, options.format or ("" if options.json else "text"), options.key, options.json)
    is_given = "content-type" in {name.lower() for name in options.headers}
    headers = {**({} if is_given else {"Content-Type": body.content_type}), **body.headers}
    return WebBody(headers, body.data, body.suffix)


def head(options: CurlOptions) -> bytes:
    """Return the lines that uWSGI puts before the message when it has recipients or a subject, over HTTP too."""
    lines = [f"To: {','.join(options.mail_to)}"] if options.mail_to else []
    lines += [f"Subject: {options.subject}"] if options.subject else []
    # A byte of an ini file that is not UTF-8 is kept.
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape") if lines else b""
