"""HTTP for actions: one request at a time to one URL. Only this module and its transport import `httpx`.

It takes 120 ms to import: import this module where a client is made, not at the top.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import html
import re
import ssl
import time
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote_to_bytes

import httpx

from alarm_mw.actions.curl.formats import answers
from alarm_mw.actions.curl.http_transport import MARK, KeptTransport
from alarm_mw.actions.curl.url import Content, Target
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.masking import mask, quoted, secrets_in
from alarm_mw.model.tls import client_context
from alarm_mw.model.types import Firing
from alarm_mw.transports.own_requests import mark, own_requests

#: Bytes of an answer that are read; a longer one costs the connection.
BODY_LIMIT = 65_536

#: Seconds that an idle connection is kept, as libcurl keeps it.
KEEP_ALIVE = 118.0

#: Maximum seconds of a Retry-After that are respected: a wrong one must not silence an alarm.
LONGEST_WAIT = 3600.0

#: RFC 9110, sections 15.3 and 15.4.
_SUCCESS = range(200, 300)
_REDIRECTION = range(300, 400)

#: Besides 5xx: Request Timeout, Too Early, Too Many Requests.
_TEMPORARY = {408, 425, 429}

#: Method Not Allowed, Not Implemented.
_NO_SUCH_METHOD = {405, 501}

#: Characters of an HTML page that an error quotes.
TITLE = 80

#: How a page begins, its title, what no reader sees of it, and tags.
_HTML = re.compile(r"\s*<(?:!doctype\s+html|html|head|body|title|h1|center)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title\b[^<>]*>\s*([^<\s][^<]*)", re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"<[^<>]*>?")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, its body cut after `BODY_LIMIT` bytes."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How a client reaches its server."""

    method: str = "POST"
    #: User name and password for the first request.
    auth: tuple[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Whether the server's certificate must be trusted.
    verify: bool = True
    #: A PEM file of the certificates to trust instead of the system's.
    ca_file: str = ""
    #: Secrets that a server may echo, in addition to those in `auth` and `headers`.
    secrets: tuple[str, ...] = field(default=(), repr=False)
    #: Seconds that a whole request may take; 0 is no limit.
    timeout: float = 4.0
    #: Seconds that connecting may take; 0 is no limit.
    conn_timeout: float = 4.0
    #: Whether an answer that says 2xx may say in its body that the message was not taken.
    checks_body: bool = False


@functools.lru_cache(maxsize=64)
def _url(url: str) -> httpx.URL:
    return httpx.URL(url)


class HttpClient:
    """Sends requests to one URL over a kept connection. Belongs to one event loop; `close` it at the end.

    It drives `httpx`'s transport, not its client, which would log every URL with whatever secret is in it. Proxies
    are taken from the environment, as libcurl takes them.
    """

    def __init__(
        self,
        target: Target,
        settings: HttpSettings,
        compose: Callable[[Firing], Content],
    ) -> None:
        """Prepare; nothing is connected yet. `compose` returns what is sent for a firing. Raises `OptionError`."""
        self._target = target
        self._method = settings.method
        self._compose = compose
        self._checks_body = settings.checks_body
        self._fields = _fields({"Accept": "*/*", **_authorization(settings.auth), **settings.headers})
        self._timeout = settings.timeout or None
        self._limits = f"timeout {settings.timeout:g} s, conn_timeout {settings.conn_timeout:g} s"
        self._extensions = {"timeout": {"connect": settings.conn_timeout or None}}
        self._transport = _transport(target, settings)
        self._is_here = False
        self._secrets = _worth_hiding(target, settings)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def send(self, firing: Firing) -> None:
        """Send a firing; return when the answer says 2xx. Raises `ActionError`.

        The firing's id lets the receiver recognize a retry, and, on this machine, our middleware its own alarm.
        """
        await self.post(firing.id, self._compose(firing))

    async def post(self, name: str, content: Content) -> Answer:
        """Send a request, and return its answer if it says 2xx. Raises `ActionError`.

        `name` lets the receiver recognize a retry.
        """
        target = content.target or self._target
        with _explained(self._target.origin, self._limits, self._secrets):
            request = self._request(name, target, {"Idempotency-Key": name, **content.headers}, content.body)
            if was_here := self._is_here:
                own_requests.add(self._method, target.resource)
            async with asyncio.timeout(self._timeout):
                response = await self._transport.handle_async_request(request)
                async with contextlib.aclosing(response):
                    self._is_here = _is_here(response)
                    if self._is_here and not was_here:
                        own_requests.add(self._method, target.resource)
                    answer = Answer(response.status_code, response.headers, await _start_of(response))
        self._check(answer)
        return answer

    def _check(self, answer: Answer) -> None:
        judge(self._target.origin, answer, time.time(), self._secrets, self._method)
        if self._checks_body and (wrong := answers.complaint(answers.read(answer.body), _text(answer))):
            text = f"{self._target.origin}: {quoted(wrong.text, self._secrets)}"
            raise ActionError(text, retry=wrong.retry, after=_granted(wrong.after))

    def _request(self, name: str, target: Target, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        url = _url(target.url)
        # Faster than what the constructor would do.
        host = {"Host": url.netloc.decode()} if "host" not in self._fields else {}
        fields = self._fields | _fields({**host, **headers, "Content-Length": str(len(body))})
        stream = httpx.ByteStream(body)
        path = unquote_to_bytes(url.raw_path.partition(b"?")[0])
        own_mark = functools.partial(mark, name, self._method, fields["host"][1].decode(), path)
        request = httpx.Request(
            self._method,
            url,
            headers=[*fields.values()],
            stream=stream,
            extensions={**self._extensions, MARK: own_mark},
        )
        request.method = self._method  # as configured; the constructor makes it upper case
        return request


def _fields(headers: Mapping[str, str]) -> dict[str, tuple[bytes, bytes]]:
    """Return headers as they are sent, by their names in lower case; of two that differ in nothing else, the last."""
    return {name.lower(): (name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()}


def _is_here(response: httpx.Response) -> bool:
    """Return whether the answer came from this machine: both ends of the connection have one address."""
    stream = response.extensions.get("network_stream")
    if stream is None:
        return False
    ours, theirs = stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
    return bool(ours and theirs and ours[0] == theirs[0])


async def _start_of(response: httpx.Response) -> bytes:
    body = bytearray()
    chunks = cast("AsyncGenerator[bytes]", aiter(cast("httpx.AsyncByteStream", response.stream)))
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            body += chunk
            if len(body) > BODY_LIMIT:
                break
    return bytes(body[:BODY_LIMIT])


@contextlib.contextmanager
def _explained(origin: str, limits: str, secrets: frozenset[str]) -> Iterator[None]:
    """Turn errors below HTTP into an `ActionError` that names the server, and nothing else of the URL."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ActionError(f"{origin}: no answer in time ({limits})", retry=True) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError) as error:
        raise ActionError(f"{origin}: the request cannot be made: {type(error).__name__}", retry=False) from None
    except httpx.RemoteProtocolError as error:
        # What it quotes of an answer may echo the request, encoded secrets included.
        raise ActionError(f"{origin}: {quoted(str(error), secrets)}", retry=True) from None
    except httpx.TransportError as error:
        # Includes bad certificates: most have expired and are renewed soon; nothing was sent to them.
        raise ActionError(f"{origin}: {quoted(_cause(error), secrets)}", retry=True) from error


def _cause(error: BaseException) -> str:
    """Return the innermost error of the operating system or TLS in a chain of errors."""
    deepest: BaseException | None = error
    while deepest is not None:
        if isinstance(deepest, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {deepest.verify_message}"
        if isinstance(deepest, OSError) and deepest.strerror:
            return deepest.strerror
        deepest = deepest.__cause__ or deepest.__context__
    return str(error) or type(error).__name__


def judge(origin: str, answer: Answer, now: float, secrets: frozenset[str], method: str = "") -> None:
    """Return where `answer` accepts the message; otherwise raise `ActionError`.

    2xx is delivered. 408, 425, 429 and 5xx may be tried again, after the seconds in Retry-After (RFC 9110, section
    10.2.3; `now` is the time in seconds since the epoch), or in a JSON body. A redirect is refused: it would send the
    message elsewhere than the configuration says. What the server wrote is quoted, with `secrets` masked.
    `method` is named where the server does not take it.
    """
    if answer.status in _SUCCESS:
        return
    retry = answer.status in _TEMPORARY or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    said = answers.read(answer.body)
    after = None
    if retry:
        after = retry_after(answer.headers.get("retry-after", ""), now)
        after = _granted(answers.wait(said)) if after is None else after
    refused = f" for {method}" if method and answer.status in _NO_SUCH_METHOD else ""
    plea = f", asks to be left alone for {after:.0f} seconds" if after else ""
    raise ActionError(
        f"{origin}: HTTP {answer.status}{refused}{plea}{_detail(answer, said, secrets)}", retry=retry, after=after
    )


def _detail(answer: Answer, said: object, secrets: frozenset[str]) -> str:
    location = answer.headers.get("location")
    if location and answer.status in _REDIRECTION:
        host = quoted(Target.host_of(location), secrets)
        return f", a redirect to {host or 'another path'}, is not followed"
    text = answers.explain(said) or _text(answer)
    if _HTML.match(text):
        text = _title(mask(text, secrets))
    return f": {quoted(text, secrets)}" if text else ""


def _title(page: str) -> str:
    """Return one short line of an HTML page: its title, or else the beginning of its text."""
    found = _TITLE.search(page)
    text = " ".join(html.unescape(_TAGS.sub(" ", found[1] if found else _UNSEEN.sub(" ", page))).split())
    return text if len(text) <= TITLE else f"{text[:TITLE]}…"


def _text(answer: Answer) -> str:
    return answer.body.strip().decode("utf-8", "surrogateescape")


def _granted(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, LONGEST_WAIT)


def retry_after(value: str, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, as a number or as a date; None for neither.

    More than `LONGEST_WAIT` is not granted.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - now), LONGEST_WAIT)
    except (ValueError, OverflowError):
        return None


def _authorization(auth: tuple[str, str] | None) -> dict[str, str]:
    return {"Authorization": f"Basic {_credentials(*auth)}"} if auth else {}


def _credentials(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()


def _worth_hiding(target: Target, settings: HttpSettings) -> frozenset[str]:
    """Return the secrets that a server may echo: passwords, tokens in headers and in the URL's path."""
    credentials = (settings.auth[1], _credentials(*settings.auth)) if settings.auth else ()
    return secrets_in(*credentials, *settings.headers.values(), *settings.secrets, target.resource, target.path)


def _transport(target: Target, settings: HttpSettings) -> httpx.AsyncBaseTransport:
    tls = client_context(ca_file=settings.ca_file, verify=settings.verify) if target.is_secure else None
    if (proxy := _proxy(target)) is None:
        return KeptTransport(tls, KEEP_ALIVE)
    limits = httpx.Limits(keepalive_expiry=KEEP_ALIVE)
    try:
        return httpx.AsyncHTTPTransport(verify=tls or False, limits=limits, proxy=proxy)
    except (ImportError, ValueError) as error:  # an unknown kind of proxy, or one that needs a further package
        raise OptionError(f"the proxy that the environment names cannot be used: {type(error).__name__}") from error


def _proxy(target: Target) -> str | None:
    """Return the proxy that the environment names for `target`: ``https_proxy``, ``all_proxy``, minus ``no_proxy``."""
    if urllib.request.proxy_bypass(target.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(target.scheme) or proxies.get("all")
