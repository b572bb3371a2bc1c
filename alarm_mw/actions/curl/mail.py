"""Mail for the `curl` action, sent over SMTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterator, Sequence
from email.message import EmailMessage

import aiosmtplib

from alarm_mw import texts
from alarm_mw.actions.curl.mail_message import bare, compose, default_sender, own_name
from alarm_mw.actions.curl.options import CurlOptions
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.masking import quoted, secrets_in
from alarm_mw.model.printable import printable_lines
from alarm_mw.model.recipients import Recipients, Refusal
from alarm_mw.model.tls import client_context
from alarm_mw.model.types import Firing

#: Maximum number of characters of the first line a subject shows.
MAX_SUBJECT = 200

#: Seconds to wait for the server's answer to QUIT.
QUIT_PATIENCE = 2.0

#: RFC 5321, section 4.2.1.
_TEMPORARY = range(400, 500)


class MailSender:
    """Sends each firing as a mail, over a connection of its own, since mail servers close idle ones soon."""

    def __init__(self, options: CurlOptions, context: ActionContext) -> None:
        self._options = options
        self._context = context
        self._sender = sender_of(options)
        self._recipients = Recipients(list(map(bare, options.mail_to)), "curl", context.write_log)
        #: The name in its greeting.
        self._own_name = ""
        self._tls = client_context(ca_file=options.ca_file, verify=not options.ssl_insecure)

    async def send(self, firing: Firing) -> None:
        """Send the mail. Raises `ActionError`."""
        left = self._recipients.left(firing)
        mail = mail_of(firing, self._options, self._context)
        client, transport = await self._client(), None
        try:
            with _explained(self._options):
                async with asyncio.timeout(self._options.timeout or None):
                    async with asyncio.timeout(self._options.conn_timeout or None):
                        await client.connect()
                    transport = client.transport
                    refused = await self._transmit(client, mail, left)
            await _quit(client)
        finally:
            client.close()
            if isinstance(transport, asyncio.Transport):
                transport.abort()  # the end of TLS would wait for an answer
        self._recipients.settle({one: self._refusal(*response) for one, response in refused.items()})

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _transmit(
        self, client: aiosmtplib.SMTP, mail: EmailMessage, to: Sequence[str]
    ) -> dict[str, tuple[int, str]]:
        """Return the refused recipients, with the server's code and text."""
        try:
            refused, _ = await client.send_message(mail, sender=bare(self._sender), recipients=to)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: (one.code, one.message) for one in error.recipients}
        return {one: (response.code, response.message) for one, response in refused.items()}

    async def _client(self) -> aiosmtplib.SMTP:
        self._own_name = self._own_name or await asyncio.to_thread(own_name)  # which may ask a name server
        target, (user, password) = self._options.target, self._options.auth or (None, None)
        return aiosmtplib.SMTP(
            hostname=target.host,
            port=target.port,
            username=user,
            password=password,
            use_tls=target.is_secure,
            start_tls=self._options.ssl and not target.is_secure,
            tls_context=self._tls,
            local_hostname=self._own_name,
            timeout=None,
        )

    def _refusal(self, code: int, text: str) -> Refusal:
        return Refusal(_quoted(f"{code} {text}", self._options), _is_temporary(code))


def sender_of(options: CurlOptions) -> str:
    """Return the sender of the mails."""
    return options.mail_from or default_sender(options.auth_user)


def mail_of(firing: Firing, options: CurlOptions, context: ActionContext) -> EmailMessage:
    """Return the mail for a firing."""
    if context.texts is None:
        subject, text = options.subject or f"alarm {firing.alarm}", "\n".join(printable_lines(texts.said(firing)))
    else:
        message = texts.message_for(firing, context, options.subject)
        subject, text = message.short_title(MAX_SUBJECT), message.below(MAX_SUBJECT)
        if message.facts.status == "resolved":
            subject = f"[RESOLVED] {subject.removeprefix('RESOLVED ')}"
    return compose(firing, sender_of(options), options.mail_to, subject, text)


async def _quit(client: aiosmtplib.SMTP) -> None:
    """Send QUIT; the mail is delivered regardless of the answer."""
    with contextlib.suppress(aiosmtplib.SMTPException, TimeoutError):
        async with asyncio.timeout(QUIT_PATIENCE):
            await client.quit()


def _is_temporary(code: int) -> bool:
    return code in _TEMPORARY


@contextlib.contextmanager
def _explained(options: CurlOptions) -> Iterator[None]:
    """Turn errors of a mail server into an `ActionError`."""
    origin = options.target.origin
    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        said = _quoted(f"{error.code} {error.message}", options)
        raise ActionError(f"{origin}: {said}", retry=_is_temporary(error.code)) from None
    except (TimeoutError, aiosmtplib.SMTPTimeoutError):
        limits = f"timeout {options.timeout:g} s, conn_timeout {options.conn_timeout:g} s"
        raise ActionError(f"{origin}: no answer in time ({limits})", retry=True) from None
    except (aiosmtplib.SMTPNotSupported, ValueError) as error:
        raise ActionError(f"{origin}: {_quoted(str(error), options)}", retry=False) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        # A bad certificate too: see `http.py`.
        raise ActionError(f"{origin}: {_quoted(str(error), options)}", retry=True) from None


def _quoted(text: str, options: CurlOptions) -> str:
    user, password = options.auth or ("", "")
    # The login as it is sent (RFC 4616) is the password too.
    login = base64.b64encode(f"\0{user}\0{password}".encode("utf-8", "surrogateescape")).decode()
    return quoted(text, secrets_in(password, login) if password else ())
