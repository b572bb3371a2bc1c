"""The table ``[fleet]``: masters on several machines that share their alarms."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.interfaces import SECRET, PluginOptions

#: How the URL of a store may begin.
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "unix")

#: What a fleet, and a machine in it, may be called: the names become parts of keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:-]{0,127}")

#: Seconds for which the owner of a message waits for other machines at most.
_LONGEST_WAIT = 60.0

#: With whom a rule or an alarm is shared.
SCOPES = ("fleet", "machine")


class FleetOptions(PluginOptions, frozen=True, kw_only=True):
    """The table ``[fleet]``."""

    url: Annotated[
        str,
        SECRET,
        msgspec.Meta(
            description="URL of the Redis or Valkey server that the machines share: `redis://HOST:PORT/DB`, "
            "`rediss://` for TLS (with `?ca_file=PATH` for an authority of your own), "
            "`redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB`, or `unix:///PATH?db=DB`"
        ),
    ]
    name: Annotated[
        str, msgspec.Meta(description="name of the fleet: masters with the same name share their alarms")
    ] = "default"
    machine: Annotated[
        str,
        msgspec.Meta(description="name of this machine, unique in the fleet; by default the host's name"),
    ] = ""
    group_wait: Annotated[
        str | float,
        msgspec.Meta(
            description="how long the machine that sends a message waits for others that have the same to say: "
            "seconds, or a time such as `5s`, at most a minute"
        ),
    ] = "5s"
    repeat_after: Annotated[
        str | float,
        msgspec.Meta(
            description="seconds, or a time such as `10m`, in which no two machines send the same message of an alarm "
            "without a `repeat_after` of its own"
        ),
    ] = "60s"
    password: Annotated[
        str, SECRET, msgspec.Meta(description="password, if it is not part of the URL, such as `${REDIS_PASSWORD}`")
    ] = ""
    password_file: Annotated[str, msgspec.Meta(description="path of a file that contains the password")] = ""
    last_lines: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=10,
            description="how many of the server's last lines of output are sent to the fleet with each heartbeat, to "
            "be shown if the machine falls silent; by default no line leaves the machine except in messages",
        ),
    ] = 0
    hub: Annotated[
        bool,
        msgspec.Meta(description="deliver what other machines leave to the hub by the action `hub` (`alarm-mw hub`)"),
    ] = False
    #: Names and values that are shown with the machine.
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: The alarms that fire if a machine falls silent; none: the alarms for what is wrong with the program itself.
    alarms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that are wrong, or do not go together."""
        _check_url(self.url)
        for key, name in (("name", self.name), ("machine", self.machine)):
            if name and not _NAME.fullmatch(name):
                raise ValueError(f"{key}: expected letters, digits and any of _.@:-, at most 128, got {name!r}")
        if not self.name:
            raise ValueError("name: expected the name of a fleet, got ''")
        if not 0 <= _seconds("group_wait", self.group_wait) <= _LONGEST_WAIT:
            raise ValueError(f"group_wait: expected at most {_LONGEST_WAIT:g} seconds, got {self.group_wait!r}")
        _seconds("repeat_after", self.repeat_after)
        if self.password and self.password_file:
            raise ValueError("both 'password' and 'password_file', expected one of them")
        if (self.password or self.password_file) and _has_password(self.url):
            raise ValueError("a password beside the one in 'url', expected one of them")

    @property
    def host(self) -> str:
        """The name of this machine."""
        return self.machine or socket.gethostname()

    @property
    def wait(self) -> float:
        """The seconds of `group_wait`."""
        return _seconds("group_wait", self.group_wait)

    @property
    def repeat(self) -> float:
        """The seconds of `repeat_after`."""
        return _seconds("repeat_after", self.repeat_after)

    @property
    def full_url(self) -> str:
        """The URL with the password."""
        if not self.password:
            return self.url
        parts = urlsplit(self.url)
        user, at, place = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user if at else ''}:{quote(self.password, safe='')}@{place}"))


def _seconds(key: str, given: str | float) -> float:
    if given == 0:
        return 0.0
    try:
        return read_duration(given)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _has_password(url: str) -> bool:
    return ":" in urlsplit(url).netloc.rpartition("@")[0]


def _check_url(url: str) -> None:
    """Raise `ValueError` for a URL of no store; the URL is not shown, since it may hold a password."""
    expected = "url: expected redis://, rediss://, redis+sentinel:// or unix://"
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{expected}, got {f'{parts.scheme}://' if parts.scheme else 'no scheme'}")
    place = parts.netloc.rpartition("@")[2]
    if parts.scheme == "unix" and (place or not parts.path.strip("/")):
        raise ValueError("url: expected the path of a socket, such as unix:///run/redis/redis.sock")
    if parts.scheme != "unix" and not place:
        raise ValueError(f"url: expected {parts.scheme}://HOST, got no host")
    if parts.scheme.endswith("+sentinel") and not parts.path.strip("/"):
        raise ValueError(f"url: expected {parts.scheme}://HOST:PORT/SERVICE, got no name of a service")
