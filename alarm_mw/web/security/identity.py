"""Who makes a request, and what they may do: by session, token, proxy, or the control socket."""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection

from alarm_mw.config.tables.web import WebOptions, WebProxy
from alarm_mw.web.store import Session, Store

#: Names that always lead to this machine.
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})

_PORT = re.compile(r":[0-9]+$")


class Role(enum.StrEnum):
    """What somebody may do."""

    READ = enum.auto()
    ACT = enum.auto()


class Identity(msgspec.Struct, frozen=True):
    """Somebody who was let in."""

    name: str
    role: Role
    #: ``session``, ``token``, ``proxy`` or ``socket``.
    via: str
    #: What forms must bring back, where a browser sends its credentials by itself; empty for other callers.
    csrf: str = ""

    def may(self, role: Role) -> bool:
        """Return whether this role is enough for something that needs `role`."""
        return self.role is Role.ACT or role is Role.READ


class Authenticator:
    """Finds out who makes a request. Reads the store, which takes some microseconds."""

    def __init__(self, options: WebOptions, store: Store) -> None:
        self._options = options
        self._store = store
        self._users = {user.name: user for user in options.users}
        names = {urlsplit(options.base_url).hostname or "", *options.allowed_hosts}
        self._hosts = frozenset(name.lower() for name in names if name)

    @property
    def is_secure(self) -> bool:
        """Whether people reach the page by TLS alone."""
        return self._options.url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie: several servers of a machine share the cookies of its name."""
        own = str(self._store.path or self._options.listen)
        name = f"alarm_mw_{hashlib.blake2b(own.encode(), digest_size=4).hexdigest()}"
        return f"__Host-{name}" if self.is_secure else name

    def is_expected(self, host: str) -> bool:
        """Return whether a ``Host`` header is ours.

        A name that leads here by somebody else's DNS would let a foreign page speak to us (DNS rebinding); an address
        cannot.
        """
        name = _PORT.sub("", host.lower())
        return name in _LOCAL or name in self._hosts or _is_address(name)

    def identity(self, connection: HTTPConnection) -> Identity | None:
        """Return who makes the request, or None."""
        authorization = connection.headers.get("authorization", "")
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "bearer":
            return self._of_token(token.strip())
        if (proxy := self._options.proxy) is not None and _is_from(connection, proxy):
            name = connection.headers.get(proxy.user_header, "")
            if name:
                role = Role.ACT if name in proxy.act else Role(proxy.role)
                return Identity(name[:64], role, "proxy", self._store.sign("csrf", "proxy", name))
        return self._of_cookie(connection.cookies.get(self.cookie, ""))

    def _of_token(self, token: str) -> Identity | None:
        found = None
        for each in self._options.tokens:  # all of them, so that the time says nothing
            if hmac.compare_digest(each.token.encode(), token.encode("utf-8", "surrogateescape")):
                found = Identity(each.name, Role(each.role), "token")
        return found

    def _of_cookie(self, cookie: str) -> Identity | None:
        session = self._store.session(cookie) if cookie else None
        if session is None:
            return None
        csrf = self._store.sign("csrf", cookie)
        if session.password is None:
            return Identity(session.user, Role(session.role), "session", csrf)
        user = self._users.get(session.user)
        if user is None or session.password != _fingerprint(user.password):  # it was removed, or has another password
            return None
        return Identity(user.name, Role(user.role), "session", csrf)

    def session_of(self, user: str) -> Session | None:
        """Return the session that a configured user gets; None for a name that is none."""
        found = self._users.get(user)
        return None if found is None else Session(found.name, found.role, _fingerprint(found.password))


def _fingerprint(password: str) -> str:
    return hashlib.blake2b(password.encode(), digest_size=16).hexdigest()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _is_from(connection: HTTPConnection, proxy: WebProxy) -> bool:
    host = connection.client.host if connection.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a unix socket has the caller's name
        return "unix" in proxy.addresses
    networks = [ipaddress.ip_network(each, strict=False) for each in proxy.addresses if each != "unix"]
    return any(address in network for network in networks)


def is_same_origin(headers: Mapping[str, str], scheme: str) -> bool:
    """Return whether a page of ours has caused a request, as far as the browser says (``Origin``, Fetch Metadata)."""
    origin = headers.get("origin")
    if origin is not None:
        # Behind a proxy that ends TLS the scheme differs; the host does not.
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() and origin != "null" and scheme != ""
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
