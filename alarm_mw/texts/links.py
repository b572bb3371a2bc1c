"""Links in messages: to an incident's page, and to the question whether to acknowledge it.

A link that acknowledges needs no login. It is signed (HMAC, RFC 2104) for one episode of one incident and ends after a
day; programs that only look at links see a question, and change nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from urllib.parse import quote

#: Seconds for which a link acknowledges.
VALID = 86_400.0

#: The name of the file with the key, in the state directory.
LINK_KEY = "web.key"

#: Bytes of a key, and characters of a signature.
_KEY = 32
_SIGNATURE = 32


def incident_link(url: str, incident: str) -> str:
    """Return the page of an incident; `url` is the page's, without a slash at its end."""
    return f"{url}/i/{quote(incident, safe='')}"


def ack_link(url: str, key: bytes, incident: str, episode: int, until: float) -> str:
    """Return the link that acknowledges an episode of an incident until a time, in seconds since the epoch."""
    name = quote(incident, safe="")
    return f"{url}/a/{name}/{episode}/{int(until)}/{_signature(key, incident, episode, int(until))}"


def is_signed(key: bytes, incident: str, episode: int, until: int, signature: str) -> bool:
    """Return whether a signature is ours. Whether its time is over is another question."""
    expected = _signature(key, incident, episode, until)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass"))


def _signature(key: bytes, incident: str, episode: int, until: int) -> str:
    text = f"ack\0{incident}\0{episode}\0{until}".encode("utf-8", "surrogatepass")
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:_SIGNATURE]


def read_key(path: Path) -> bytes:
    """Return the key in the file at `path`, which is made where it is missing; empty where it cannot be. May block."""
    try:
        if not path.exists():
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(_KEY))
            fresh.replace(path)
        return path.read_bytes()
    except OSError:
        return b""
