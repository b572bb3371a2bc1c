"""A firing as a mail: a valid message (RFC 5322) for any text."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr

from alarm_mw.model.types import Firing, Record

#: Long lines and non-ASCII text are encoded, so that no server on the way has to support them.
_POLICY = SMTP.clone(cte_type="7bit")

_SAMPLE = Firing("id", "a", b"", Record(b"", "api", 0.0, "key"), 0.0)
_ADDRESS = "a@example.org"


def compose(firing: Firing, sender: str, recipients: Sequence[str], subject: str, text: str) -> EmailMessage:
    """Return the mail (RFC 5322) for `firing`. Subject and text are `printable`, so that no value makes a header.

    ``Message-ID`` comes from the firing's id, so that a retry is the same mail; ``Auto-Submitted`` (RFC 3834) keeps
    holiday notices from answering; ``References`` puts the mails about one episode of an incident into one thread.
    """
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = subject
    mail["Date"] = datetime.fromtimestamp(firing.time, UTC)
    mail["Message-ID"] = f"<{firing.id}@{bare(sender).rpartition('@')[2]}>"
    if firing.trigger is not None and firing.trigger.incident is not None:
        # No mail has this id: all of an episode hang below it.
        mail["References"] = f"<{firing.trigger.incident.thread}@{bare(sender).rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(f"{text}\n")
    return mail


def bare(address: str) -> str:
    """Return the address in ``Name <address>``."""
    return parseaddr(address)[1] or address


def default_sender(user: str) -> str:
    """Return the sender where none is named, for the user name of the login."""
    return user if "@" in user else f"alarm-mw@{socket.gethostname()}"


def own_name() -> str:
    """Return this host's full name (RFC 5321, section 4.1.1.1), never ``localhost`` where it has another; may block."""
    host, full = socket.gethostname(), socket.getfqdn()
    return host if "." in host or full.partition(".")[0] == "localhost" else full


def check_header(sender: str, recipients: Sequence[str], subject: str) -> None:
    """Raise `ValueError` for what cannot stand in the header of a mail."""
    _check("mail_from", sender, sender, _ADDRESS, "")
    _check("subject", subject, _ADDRESS, _ADDRESS, subject)
    for recipient in recipients:
        _check("mail_to", recipient, _ADDRESS, recipient, "")


def _check(key: str, value: str, sender: str, recipient: str, subject: str) -> None:
    try:
        compose(_SAMPLE, sender, [recipient], subject, "").as_bytes()
    except Exception as error:  # the standard library raises various errors
        raise ValueError(f"{key}: {value!r} cannot stand in the header of a mail") from error
