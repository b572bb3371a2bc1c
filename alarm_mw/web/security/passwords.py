"""Passwords as hashes by scrypt (RFC 7914) or argon2 (RFC 9106), and how often they may be tried."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

from alarm_mw.config.tables.web import ARGON2

#: Cost, block size and parallelism: 32 MiB and about a tenth of a second (OWASP's Password Storage Cheat Sheet).
_LOG_COST, _BLOCK, _PARALLEL = 15, 8, 2
_SALT = 16

#: The memory that scrypt may take, in bytes.
_MAX_MEMORY = 2**27

#: How many attempts may fail within how many seconds, for a name or an address.
ATTEMPTS = 5
WITHIN = 60.0

#: How many names and addresses are remembered.
_MAX_KEYS = 10_000


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Return what is written into the configuration for a password. Takes a tenth of a second."""
    salt = os.urandom(_SALT) if salt is None else salt
    digest = _scrypt(password, salt, _LOG_COST, _BLOCK, _PARALLEL)
    return "$".join(["scrypt", str(_LOG_COST), str(_BLOCK), str(_PARALLEL), _text(salt), _text(digest)])


def is_password(password: str, hashed: str) -> bool:
    """Return whether this is the password of a hash. Takes a tenth of a second, for a wrong one as well.

    For a hash by argon2, it takes as much time and memory as the hash says.
    """
    if hashed.startswith(ARGON2):
        return _is_argon2(password, hashed)
    _, cost, block, parallel, salt, digest = hashed.split("$")
    try:
        found = _scrypt(password, _bytes(salt), int(cost), int(block), int(parallel))
    except ValueError:  # more memory than is allowed
        return False
    return hmac.compare_digest(found, _bytes(digest))


def _is_argon2(password: str, hashed: str) -> bool:
    import argon2  # noqa: PLC0415  # an extra

    try:
        return argon2.PasswordHasher().verify(hashed, password.encode("utf-8", "surrogatepass"))
    except argon2.exceptions.Argon2Error:  # another password, or no memory
        return False


def _scrypt(password: str, salt: bytes, log_cost: int, block: int, parallel: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=2**log_cost, r=block, p=parallel, maxmem=_MAX_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


#: The hash of no password, for names that do not exist.
_NOBODY = "scrypt$15$8$2$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43


def decoy(hashes: Sequence[str]) -> str:
    """Return a hash that is tried for a name that does not exist, so that it takes as long as for one that does."""
    return next(iter(hashes), _NOBODY)


class AttemptLimiter:
    """Refuses further attempts for a key that has failed too often. Lives on one event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: dict[str, deque[float]] = {}

    def refuses(self, *keys: str) -> bool:
        """Return whether one of the keys has failed too often lately."""
        since = self._now() - WITHIN
        return any(self._count(key, since) >= ATTEMPTS for key in keys)

    def failed(self, *keys: str) -> None:
        """Note a failed attempt."""
        for key in keys:
            times = self._failures.pop(key, None) or deque(maxlen=ATTEMPTS)
            times.append(self._now())
            if len(self._failures) >= _MAX_KEYS:
                del self._failures[next(iter(self._failures))]
            self._failures[key] = times

    def succeeded(self, *keys: str) -> None:
        """Forget the last failure of each key: it was none."""
        for key in keys:
            if times := self._failures.get(key):
                times.pop()

    def _count(self, key: str, since: float) -> int:
        return sum(time > since for time in self._failures.get(key, ()))
