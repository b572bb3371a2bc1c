"""Connections to Redis by URL."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

#: Seconds for an answer of a sentinel.
_SENTINEL_TIMEOUT = 1.0

_SENTINEL_PORT = 26379

#: Not tried again here: a member decides what follows from a failure, and how long it waits for an answer.
_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": None,
    "socket_timeout": None,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}


class Address(NamedTuple):
    """Where a fleet's state is."""

    #: For `Redis.from_url`; without a host where sentinels know it.
    url: str
    sentinels: tuple[tuple[str, int], ...] = ()
    #: The name that sentinels know it by.
    service: str = ""
    #: A file with the certificates of authorities that sign the server's.
    ca_file: str = ""
    #: Of the sentinels, where they have any.
    sentinel_username: str = ""
    sentinel_password: str = ""

    async def connect(self, node: tuple[str, int] | None = None) -> Redis:
        """Return a client that has no connection yet, and no time limits. Raises `redis.RedisError`.

        `node` is the one of a cluster that has the state, where that is known.
        """
        options = dict(_OPTIONS)
        if self.ca_file:
            options["ssl_ca_certs"] = self.ca_file
        if node is None and self.sentinels:
            node = await self._master()
        if node is None:
            return Redis.from_url(self.url, **options)
        host, port = node
        scheme, netloc, *rest = urlsplit(self.url)
        user = netloc.rpartition("@")[0]
        name = f"[{host}]" if ":" in host else host
        return Redis.from_url(
            urlunsplit((scheme, f"{user}@{name}:{port}" if user else f"{name}:{port}", *rest)), **options
        )

    async def _master(self) -> tuple[str, int]:
        """Ask the sentinels, one after the other."""
        known = {"username": self.sentinel_username, "password": self.sentinel_password}
        options = {**_OPTIONS, "socket_timeout": _SENTINEL_TIMEOUT, "socket_connect_timeout": _SENTINEL_TIMEOUT}
        options |= {name: value for name, value in known.items() if value}
        if self.url.startswith("rediss"):
            options |= {"ssl": True} | ({"ssl_ca_certs": self.ca_file} if self.ca_file else {})
        sentinel: Any = Sentinel(list(self.sentinels), sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        try:
            host, port = await sentinel.discover_master(self.service)
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return str(host), int(port)


def address_of(url: str) -> Address:
    """Read a URL: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``rediss+sentinel://``.

    ``?ca_file=`` names the file of authorities. Sentinels are named as ``host:port,host:port/service/db``, with
    ``?sentinel_username=`` and ``?sentinel_password=``. Raises `ValueError`, without the password.
    """
    scheme, netloc, path, query, _ = urlsplit(url)
    options = dict(parse_qsl(query))
    ca_file = options.pop("ca_file", "")
    if scheme in ("redis", "rediss", "unix"):
        return Address(urlunsplit((scheme, netloc, path, urlencode(options), "")), ca_file=ca_file)
    if scheme not in ("redis+sentinel", "rediss+sentinel"):
        raise ValueError(
            f"unknown scheme {scheme!r}: expected redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
        )
    username, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    user, _, hosts = netloc.rpartition("@")
    service, _, database = path.strip("/").partition("/")
    if not service:
        raise ValueError("the service is missing: redis+sentinel://host:port,host:port/SERVICE/0")
    plain = urlunsplit(
        (scheme.partition("+")[0], f"{user}@" if user else "", f"/{database or 0}", urlencode(options), "")
    )
    return Address(
        plain, tuple(_host(each) for each in hosts.split(",")), unquote(service), ca_file, username, password
    )


def _host(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([^]]+)]|([^:\[\]]+))(?::([0-9]{1,5}))?", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no host and port of a sentinel")
    return found[1] or found[2], int(found[3] or _SENTINEL_PORT)
