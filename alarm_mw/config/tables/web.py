"""The table ``[web]``: where the page is served, and who may see it."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from alarm_mw.model.interfaces import SECRET, PluginOptions

#: What begins the address of a unix socket.
UNIX = "unix:"

#: TCP's highest port.
MAX_PORT = 65535

#: Characters of the shortest token that is accepted: what is shorter can be guessed.
TOKEN_LENGTH = 16

_PORT = "[1-9][0-9]{0,4}"
_NAME = r"[\w.@+-]{1,64}"

#: A hash by scrypt, as `alarm-mw web --add-user` prints it: cost, salt and hash.
_HASH = r"scrypt\$[0-9]{1,2}\$[0-9]{1,2}\$[0-9]{1,2}\$[A-Za-z0-9_-]{16,64}\$[A-Za-z0-9_-]{43}"

#: A hash by argon2 in the PHC string format, and what it begins with. Its memory is in KiB, at most a GiB.
ARGON2 = "$argon2"
_ARGON2_HASH = (
    r"\$argon2(?:id|i|d)\$v=19\$m=([0-9]{1,7}),t=[0-9]{1,2},p=[0-9]{1,2}\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}"
)
MAX_ARGON2_MEMORY = 2**20

Role = Annotated[
    Literal["read", "act"],
    msgspec.Meta(description="`read` sees everything; `act` acknowledges, silences, resolves and retries as well"),
]


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of ``host:port``, IPv6 in brackets; raise `ValueError`."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not re.fullmatch(_PORT, port) or int(port) > MAX_PORT:
        raise ValueError(f"listen: expected 'host:port', got {address!r}")
    return host, int(port)


#: What is wrong with a page that `is_exposed`.
EXPOSED = (
    "other machines reach the page by plain HTTP, which shows passwords on the way: set certfile in [web], or base_url "
    "to the https:// URL of a proxy in front of it"
)


class WebUser(PluginOptions, frozen=True, kw_only=True):
    """A table of ``[[web.users]]``."""

    name: Annotated[str, msgspec.Meta(description="name, as it is shown with what the user does")]
    password: Annotated[
        str,
        SECRET,
        msgspec.Meta(
            description="hash of the password, as `alarm-mw web --add-user NAME` prints it (scrypt); with the extra "
            "`argon2`, also one by argon2"
        ),
    ]
    role: Role = "act"

    def __post_init__(self) -> None:
        """Raise `ValueError` for a name or a hash that is none."""
        _check_name(self.name)
        if self.password.startswith(ARGON2):
            _check_argon2(self.password)
        elif not re.fullmatch(_HASH, self.password):
            raise ValueError("password: expected a hash, as `alarm-mw web --add-user NAME` prints it")


class WebToken(PluginOptions, frozen=True, kw_only=True):
    """A table of ``[[web.tokens]]``."""

    name: Annotated[str, msgspec.Meta(description="name, as it is shown with what is done by it")]
    token: Annotated[
        str,
        SECRET,
        msgspec.Meta(description="what a program sends as `Authorization: Bearer TOKEN`; at least 16 characters"),
    ]
    role: Role = "read"

    def __post_init__(self) -> None:
        """Raise `ValueError` for a name that is none, and a token that can be guessed."""
        _check_name(self.name)
        if len(self.token) < TOKEN_LENGTH or not self.token.isascii() or " " in self.token:
            raise ValueError(f"token: expected at least {TOKEN_LENGTH} ASCII characters without spaces")


class WebProxy(PluginOptions, frozen=True, kw_only=True):
    """The table ``[web.proxy]``."""

    addresses: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="addresses or networks of the proxy that logs users in, and `unix` for any process that can "
            "reach the unix socket of `listen`; from others the header is ignored"
        ),
    ]
    user_header: Annotated[str, msgspec.Meta(description="the header in which it names the user")] = "X-Remote-User"
    role: Role = "read"
    act: Annotated[tuple[str, ...], msgspec.Meta(description="users who have the role `act`")] = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` for what is no address, and no header."""
        for address in self.addresses:
            if address != "unix":
                try:
                    ipaddress.ip_network(address, strict=False)
                except ValueError:
                    raise ValueError(f"addresses: expected an address, a network or 'unix', got {address!r}") from None
        if not re.fullmatch("[A-Za-z0-9-]+", self.user_header):
            raise ValueError(f"user_header: expected the name of a header, got {self.user_header!r}")


class WebOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``[web]``."""

    listen: Annotated[
        str,
        msgspec.Meta(
            description='Address of the page, such as `"127.0.0.1:8420"` or `"unix:/run/alarms.sock"`. By default it '
            "is not served"
        ),
    ] = ""
    base_url: Annotated[
        str,
        msgspec.Meta(
            description='URL at which people reach the page, such as `"https://alarms.example.org"`: messages link to '
            "it. By default that of `listen`"
        ),
    ] = ""
    allowed_hosts: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="Other names under which the page may be asked for, beside that of `base_url`, `localhost` and "
            "addresses; a request for any other host is refused"
        ),
    ] = ()
    certfile: Annotated[str, msgspec.Meta(description="Certificate chain, in PEM: the page is served by TLS")] = ""
    keyfile: Annotated[str, msgspec.Meta(description="Its private key, in PEM, unless `certfile` holds it")] = ""
    users: tuple[WebUser, ...] = ()
    tokens: tuple[WebToken, ...] = ()
    proxy: WebProxy | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that are wrong, or do not go together."""
        if self.listen and not self.path:
            host_and_port(self.listen)
        if self.listen.startswith(UNIX) and not self.path.startswith("/"):
            raise ValueError(f"listen: expected 'unix:/PATH', got {self.listen!r}")
        if self.base_url:
            _check_url(self.base_url)
        if self.keyfile and not self.certfile:
            raise ValueError("keyfile without 'certfile', which holds the certificate")
        for kind in (self.users, self.tokens):
            names = [each.name for each in kind]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"the name {twice!r} is given twice")

    @property
    def path(self) -> str:
        """The path of the unix socket; empty for TCP."""
        return self.listen.removeprefix(UNIX) if self.listen.startswith(UNIX) else ""

    @property
    def url(self) -> str:
        """The URL of the page, without a slash at the end; empty where none is known."""
        if self.base_url:
            return self.base_url.rstrip("/")
        if not self.listen or self.path:
            return ""
        host, port = host_and_port(self.listen)
        host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104  # listens at all, links to one
        return f"http{'s' if self.certfile else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def is_exposed(options: WebOptions) -> bool:
    """Return whether other machines reach the page by plain HTTP: nothing says that a proxy with TLS is before it."""
    if not options.listen or options.path or options.certfile or options.base_url.startswith("https:"):
        return False
    host = host_and_port(options.listen)[0]
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def unusable_certificate(options: WebOptions) -> tuple[str, str] | None:
    """Return the key and a sentence where the page cannot be served with the certificate. Reads its files."""
    for key in ("certfile", "keyfile"):
        if path := getattr(options, key):
            try:
                Path(path).read_bytes()
            except OSError as error:
                return key, f"{path!r} cannot be read: {error.strerror}"
    if not options.certfile:
        return None
    import ssl  # noqa: PLC0415  # few configurations have a certificate

    try:
        # An encrypted key would ask for its password at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            options.certfile, options.keyfile or None, password=lambda: ""
        )
    except ssl.SSLError as error:
        files = " and ".join(repr(path) for path in (options.certfile, options.keyfile) if path)
        reason = (error.reason or "no certificate and key in PEM").lower().replace("_", " ")
        return "certfile", f"{files} cannot be used: {reason}"
    return None


def _check_argon2(hashed: str) -> None:
    found = re.fullmatch(_ARGON2_HASH, hashed)
    if found is None or int(found[1]) > MAX_ARGON2_MEMORY:
        raise ValueError("password: expected a hash by argon2 as '$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH'")
    if importlib.util.find_spec("argon2") is None:
        raise ValueError("password: a hash by argon2 needs 'argon2-cffi': pip install 'alarm-mw[argon2]'")


def _check_name(name: str) -> None:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"name: expected letters, digits and any of ._@+-, got {name!r}")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.path.strip("/"):
        raise ValueError(f"base_url: expected 'http://HOST' or 'https://HOST[:PORT]', got {url!r}")
