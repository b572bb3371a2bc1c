"""``airbrake:URL;apikey=KEY;…``: reports to Airbrake, Errbit and compatible services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self
from urllib.parse import parse_qs, quote, urlsplit

from msgspec import Meta

from alarm_mw.actions.airbrake.notice import System, as_json, notice_of, xml
from alarm_mw.actions.curl.url import Content, Target
from alarm_mw.model import keyvalue
from alarm_mw.model.interfaces import SECRET, ActionContext, PluginOptions
from alarm_mw.model.keyvalue import check_ca_file
from alarm_mw.model.types import Firing
from alarm_mw.system.forks import held_off

if TYPE_CHECKING:
    from alarm_mw.actions.curl.http import HttpClient

#: The part of a URL's path that means the JSON interface.
V3 = "/api/v3/"

Seconds = Annotated[float, Meta(ge=0)]


class AirbrakeOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `airbrake`: uWSGI's keys, and `api`, `ssl_insecure` and `ca_file`."""

    socket_timeouts: ClassVar[tuple[str, ...]] = ("timeout", "conn_timeout")
    has_texts: ClassVar[bool] = False
    #: It groups equal errors itself, and counts them.
    for_humans: ClassVar[bool] = False

    url: Annotated[str, SECRET, Meta(description="the receiver of notices: `http://` or `https://`")]
    apikey: Annotated[
        str, SECRET, Meta(description="the project's key; with v3 it may be the parameter `key` of the URL")
    ] = ""
    env: Annotated[str, Meta(description="name of the environment, such as `production`; the version if empty")] = ""
    subject: Annotated[str, Meta(description="the error's message if the line has no backtrace")] = ""
    api: Annotated[
        Literal["", "v2", "v3"], Meta(description="`v2` is XML, `v3` is JSON; if empty, a URL with `/api/v3/` is v3")
    ] = ""
    timeout: Annotated[Seconds, Meta(description="time limit of a request in seconds; 0 means no limit")] = 4.0
    conn_timeout: Annotated[Seconds, Meta(description="time limit of connecting in seconds; 0 means no limit")] = 4.0
    ssl: Annotated[bool, Meta(description="accepted as in uWSGI, without effect; an `https://` URL selects TLS")] = (
        False
    )
    ssl_insecure: Annotated[bool, Meta(description="accept any certificate")] = False
    ca_file: Annotated[str, Meta(description="PEM file of the certificates to trust instead of the system's")] = ""

    def __post_init__(self) -> None:
        """Raise an error for what would fail at the first alarm."""
        if Target.parse(self.url).scheme not in {"http", "https"}:
            raise ValueError("airbrake needs an http:// or https:// URL")
        if not self.apikey and not (self.is_v3 and parse_qs(urlsplit(self.url).query).get("key")):
            raise ValueError("airbrake needs the project's key: apikey=…")
        check_ca_file(self.ca_file)

    @property
    def is_v3(self) -> bool:
        """Return whether notices are JSON."""
        return self.api == "v3" or (not self.api and V3 in urlsplit(self.url).path)

    @property
    def target(self) -> Target:
        """Return where notices go, for v3 with the key in the query."""
        has_key = "key" in parse_qs(urlsplit(self.url).query)
        if not self.is_v3 or has_key:
            return Target.parse(self.url)
        mark = "&" if urlsplit(self.url).query else "?"
        return Target.parse(f"{self.url.partition('#')[0]}{mark}key={quote(self.apikey, safe='')}")


class AirbrakeAction:
    """Reports the message as an error, with the frames of its backtrace.

    Crashes of C code, Python tracebacks and dumps of `faulthandler` are recognized.
    """

    Options: ClassVar[type[PluginOptions]] = AirbrakeOptions
    concurrency: ClassVar[int] = 1

    def __init__(self, options: AirbrakeOptions, context: ActionContext) -> None:  # noqa: ARG002  # an Action's
        self._options = options
        self._target = options.target
        self._system = System.here()
        self._client: HttpClient | None = None

    @classmethod
    def from_uwsgi(cls, args: str) -> AirbrakeOptions:
        """Return the options of ``airbrake:URL;key=value…``; a part without ``=`` is the URL, the last one counts."""
        return keyvalue.build(AirbrakeOptions, keyvalue.split_url(args))

    async def __aenter__(self) -> Self:
        with held_off():
            from alarm_mw.actions.curl.http import HttpClient, HttpSettings  # noqa: PLC0415  # takes 120 ms; see there

        settings = HttpSettings(
            auth=(self._target.user, self._target.password) if self._target.user else None,
            secrets=(self._options.apikey, *parse_qs(urlsplit(self._target.url).query).get("key", [])),
            verify=not self._options.ssl_insecure,
            ca_file=self._options.ca_file,
            timeout=self._options.timeout,
            conn_timeout=self._options.conn_timeout,
        )
        self._client = HttpClient(self._target, settings, self._notice)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._client:
            await self._client.close()

    async def deliver(self, firing: Firing) -> None:
        """Report it; raise `ActionError` when the server did not take it."""
        assert self._client is not None, "deliver() belongs inside `async with action`"
        await self._client.send(firing)

    def _notice(self, firing: Firing) -> Content:
        """Return the notice, with the header for its type."""
        notice = notice_of(firing, self._options.subject, self._options.env, self._system)
        if self._options.is_v3:
            return Content({"Content-Type": "application/json"}, as_json(notice, firing.record.fields))
        return Content({"Content-Type": "text/xml; charset=utf-8"}, xml(notice, self._options.apikey))
