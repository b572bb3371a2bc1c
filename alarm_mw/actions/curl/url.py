"""Where requests go: the parts of a URL, of which some are secret; and what is sent there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from msgspec import structs

#: Characters that no URL may hold: blanks and control characters.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


def _reason(error: str) -> str:
    """Return the error of `urlsplit` without the quoted part of the URL, which may be a password."""
    if error.startswith("Port could not be cast"):
        return "its port is no number; '/', '?', '#' and '@' in a password are written as %2F, %3F, %23 and %40"
    if error.startswith("Port out of range"):
        return "its port is not between 0 and 65535"
    if "IPv" in error or "address" in error:
        return "its brackets hold no IPv6 address, as in http://[::1]:8080/"
    return "its host holds characters that are not allowed there"


class Target(msgspec.Struct, frozen=True):
    """Where a message goes. Only `origin` may be shown: paths and queries of webhooks often hold a token."""

    scheme: str
    host: str
    port: int | None
    #: The URL without user name and password.
    url: str
    path: str
    #: Path and query.
    resource: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Target({self.origin!r})"

    @property
    def origin(self) -> str:
        """Return ``scheme://host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}"

    @property
    def is_secure(self) -> bool:
        """Return whether TLS comes first."""
        return self.scheme in {"https", "smtps"}

    def below(self, suffix: str) -> Target:
        """Return the target with something behind its path, and without its query."""
        base = self.url.partition("?")[0].rstrip("/")
        return structs.replace(Target.parse(f"{base}{suffix}"), user=self.user, password=self.password)

    def beside(self, name: str) -> Target:
        """Return the target with another name in place of the last one of its path."""
        return structs.replace(self, url=f"{self.url.rpartition('/')[0]}/{name}").below("")

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the parts of `url`, whose default scheme is ``http``, as for curl. Raises `ValueError`."""
        if _FORBIDDEN.search(url):
            raise ValueError("the URL holds a blank or a control character")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise ValueError(f"the URL is malformed: {_reason(str(error))}") from None
        if not parts.hostname and parts.scheme != "file":
            raise ValueError("the URL has no host")
        return cls._of(parts, parts.hostname or "", port)

    @classmethod
    def _of(cls, parts: SplitResult, host: str, port: int | None) -> Self:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
        return cls(
            scheme=parts.scheme.lower(),
            host=host,
            port=port,
            url=bare.geturl(),
            path=parts.path,
            resource=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    @staticmethod
    def host_of(url: str) -> str:
        """Return the host in `url`, or an empty string: for URLs of others."""
        try:
            return urlsplit(url).hostname or ""
        except ValueError:
            return ""


class Content(NamedTuple):
    """What is sent in one request."""

    headers: Mapping[str, str]
    body: bytes
    #: Where it is sent; None: to the client's URL.
    target: Target | None = None
