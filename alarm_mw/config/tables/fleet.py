"""The table ``[fleet]``: masters on several machines that share their alarms."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

import msgspec

from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.interfaces import SECRET, PluginOptions
from alarm_mw.model.keyvalue import did_you_mean

#: How the URL of a store may begin.
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "unix")

_EXPECTED = "expected redis://, rediss://, redis+sentinel:// or unix://"

#: What a fleet, and a machine in it, may be called: the names become parts of keys.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:-]{0,127}")

#: A host's name or address, and its port.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")

_LAST_PORT = 65535

#: What else may be wrong, since a URL ends its parts at these characters.
_ESCAPES = "; in a password, / ? # @ are written as %2F %3F %23 %40"

#: The options of a URL that are paths of files: of authorities, and a certificate of this machine with its key.
_FILES = frozenset({"ca_file", "ssl_certfile", "ssl_keyfile"})

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

    @property
    def host(self) -> str:
        """The name of this machine."""
        return self.machine or os.uname().nodename

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
    """Return the seconds of a time, which may be 0. Raises `ValueError`, which names the key."""
    try:
        seconds = 0.0 if given == 0 else read_duration(given)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if key == "group_wait" and seconds > _LONGEST_WAIT:
        raise ValueError(f"{key}: expected at most {_LONGEST_WAIT:g} seconds, got {given!r}")
    return seconds


def mistakes(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the values of ``[fleet]``, each with its key. No text contains a secret.

    `given` has the values that are there, all of the right type.
    """
    url = str(given.get("url", ""))
    mistake = next(_wrong_url(url), "") if "url" in given else ""
    if mistake:
        yield "url", f"url: {mistake}"
    for key, what in (("name", "the name of a fleet"), ("machine", "the name of this machine")):
        name = given.get(key, "default")
        if not name:
            yield key, f"{key}: expected {what}, got ''"
        elif not _NAME.fullmatch(name):
            yield key, f"{key}: expected letters, digits and any of _.@:-, at most 128, got {name!r}"
    for key in ("group_wait", "repeat_after"):
        try:
            _seconds(key, given.get(key, 0))
        except ValueError as error:
            yield key, str(error)
    secrets = [key for key in ("password", "password_file") if given.get(key)]
    if len(secrets) > 1:
        yield "password_file", "both 'password' and 'password_file', expected one of them"
    elif secrets and not mistake and _has_password(url):
        yield secrets[0], "a password beside the one in 'url', expected one of them"


def unreadable_files(url: str) -> Iterator[str]:
    """Yield what is wrong with the files that a URL names. Opens them, and so may block."""
    for key, file in parse_qsl(urlsplit(url).query):
        if key in _FILES:
            try:
                Path(file).open("rb").close()
            except OSError as error:
                yield f"url: {key}: {file} cannot be read: {error.strerror}"


def _has_password(url: str) -> bool:
    return ":" in urlsplit(url).netloc.rpartition("@")[0]


def _wrong_url(url: str) -> Iterator[str]:
    """Yield what is wrong with the URL of a store; it may hold a password, so no other part of it is shown."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as a bracket that is not closed
        yield f"{_EXPECTED}, got no URL"
    else:
        if parts.scheme not in SCHEMES:
            yield f"{_EXPECTED}, got {f'{parts.scheme}://' if parts.scheme else 'no scheme'}"
        yield from _wrong_place(parts)
        if parts.fragment:
            yield f"expected nothing after '#'{_ESCAPES}"
        yield from _wrong_options(parts)


def _wrong_place(parts: SplitResult) -> Iterator[str]:
    """Yield what is wrong with hosts, service and database."""
    scheme, place, path = parts.scheme, parts.netloc.rpartition("@")[2], parts.path.strip("/")
    if scheme == "unix":
        if place or not path:
            yield "expected the path of a socket, such as unix:///run/redis/redis.sock"
        return
    has_sentinels = scheme.endswith("+sentinel")
    if not place:
        yield f"expected {scheme}://HOST, got no host"
    if not all(map(_is_host, place.split(",") if has_sentinels else [place])):
        yield f"expected {scheme}://HOST:PORT with a port from 1 to 65535{_ESCAPES}"
    service, _, database = path.partition("/") if has_sentinels else ("", "", path)
    if has_sentinels and not service:
        yield f"expected {scheme}://HOST:PORT/SERVICE, got no name of a service"
    if database and not _is_number(database):
        yield f"expected the number of a database as its path{_ESCAPES}"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text.strip())
    return found is not None and (found[1] is None or 1 <= int(found[1]) <= _LAST_PORT)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _wrong_options(parts: SplitResult) -> Iterator[str]:
    known = {"db"}
    if parts.scheme.startswith("rediss"):
        known |= {*_FILES, "ssl_check_hostname"}
    if parts.scheme.endswith("+sentinel"):
        known |= {"sentinel_username", "sentinel_password"}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in _FILES and key not in known:
            yield f"{key} is for TLS: expected rediss://, got {parts.scheme}://"
        elif key not in known:
            named = f" {key!r}{did_you_mean(key, sorted(known))}" if key.isidentifier() else ""
            yield f"unknown option{named}; there are: {', '.join(sorted(known))}{'' if named else _ESCAPES}"
        elif key == "db" and not _is_number(value):
            yield "db: expected the number of a database"
        elif not value:
            yield f"{key}: expected a value, got ''"
