"""``apprise``: sends the message by Apprise to any of the services that it knows."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from msgspec import Meta

from alarm_mw import texts
from alarm_mw.model import keyvalue
from alarm_mw.model.errors import ActionError, MissingError
from alarm_mw.model.interfaces import SECRET, ActionContext, PluginOptions
from alarm_mw.model.masking import mask, quoted, secrets_in
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off
from alarm_mw.texts.human import shorten

if TYPE_CHECKING:
    from apprise import NotifyBase

#: Maximum number of characters of the title; each service shortens it further if needed.
_TITLE = 250

#: The beginning of a mention in Slack, Discord, Mattermost or Telegram.
_MENTION = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|(?<!\w)@(?=\w)|<(?=[@!#])")

#: Apprise's names for severities.
_KINDS = {"critical": "failure", "error": "failure", "warning": "warning"}


class AppriseOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `apprise`."""

    url: Annotated[
        tuple[str, ...] | str, SECRET, Meta(description="an Apprise URL or a list of them: `ntfy://…`, `tgram://…`, …")
    ]

    def __post_init__(self) -> None:
        """Raise an error for what would fail at the first alarm, `MissingError` where Apprise is missing."""
        if not self.urls:
            raise ValueError("apprise needs a URL")
        for number, url in enumerate(self.urls, 1):
            if _service(url) is None:
                scheme = url.partition("://")[0] if "://" in url else ""
                raise ValueError(f"url {number} ({scheme or 'without a scheme'}) is not a URL that Apprise can read")

    @property
    def urls(self) -> tuple[str, ...]:
        """Return the URLs."""
        return (self.url,) if isinstance(self.url, str) else self.url

    def about(self) -> str:
        """Return which services the URLs are, for people."""
        return ", ".join(f"{service.service_name}" for url in self.urls if (service := _service(url)) is not None)


def _service(url: str) -> NotifyBase | None:
    """Return the service of a URL; None where Apprise knows none."""
    with held_off():
        try:
            from apprise import Apprise  # noqa: PLC0415  # an extra, which takes 160 ms
        except ImportError:
            raise MissingError(
                "the action 'apprise' needs the package 'apprise', which is not installed: "
                "pip install 'alarm-mw[apprise]'"
            ) from None

    logging.getLogger("apprise").propagate = False  # `_Heard` reports its messages
    return Apprise.instantiate(url, suppress_exceptions=True)


class AppriseAction:
    """Sends the message to services with Apprise. After a failure, only the services that failed are tried again."""

    Options: ClassVar[type[PluginOptions]] = AppriseOptions
    concurrency: ClassVar[int] = 1

    def __init__(self, options: AppriseOptions, context: ActionContext) -> None:
        self._options = options
        self._context = context
        self._services = [service for url in options.urls if (service := _service(url)) is not None]
        #: The id of the last firing, and the services that have taken it.
        self._firing = ""
        self._done: set[int] = set()

    @classmethod
    def from_uwsgi(cls, args: str) -> AppriseOptions:
        """Return the options of ``apprise:URL``."""
        return keyvalue.made(AppriseOptions, {"url": args})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def preview(self, firing: Firing) -> str:
        """Return the services, the title and the text."""
        title, text, _ = self._message(firing)
        return f"to {self._options.about()}\n{title}\n\n{text}"

    def deliver(self, firing: Firing) -> None:
        """Send to each service that has not taken it yet; raise `ActionError` where one fails."""
        if firing.id != self._firing or len(self._done) == len(self._services):
            self._firing, self._done = firing.id, set()
        title, text, kind = self._message(firing)
        failed: list[str] = []
        for number, service in enumerate(self._services):
            if number not in self._done:
                if error := _send(service, title, text, kind):
                    failed.append(f"{service.service_name}: {error}")
                else:
                    self._done.add(number)
        if failed:
            secrets = secrets_in(*self._options.urls)
            raise ActionError(mask("; ".join(failed), secrets), retry=True)

    def _message(self, firing: Firing) -> tuple[str, str, str]:
        message = texts.message_for(firing, self._context)
        kind = "success" if message.facts.status == "resolved" else _KINDS.get(message.facts.severity, "info")
        return message.short_title(_TITLE), message.below(_TITLE) or message.title(), kind


class _Heard(logging.Handler):
    """The last error that Apprise logged in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if threading.get_ident() == self._thread:
            self.text = record.getMessage()


def _harmless(text: str) -> str:
    """Break up what services would treat as a mention."""
    return _MENTION.sub("\\g<0>\u200b", text)


def _send(service: NotifyBase, title: str, text: str, kind: str) -> str:
    """Return the error; empty for none."""
    from apprise import NotifyFormat, NotifyType  # noqa: PLC0415  # see `_service`

    said = _Heard()
    logger = logging.getLogger("apprise")
    logger.addHandler(said)
    try:
        taken = service.notify(
            body=_harmless(shorten(text, service.body_maxlen)),
            title=_harmless(title),
            notify_type=NotifyType(kind),
            body_format=NotifyFormat.TEXT,
        )
    except Exception as error:  # noqa: BLE001  # code of others may raise anything
        return type(error).__name__
    finally:
        logger.removeHandler(said)
    return "" if taken else quoted(said.text or "not delivered")
