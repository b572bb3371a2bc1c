"""What the page keeps over restarts, in a file of its own: sessions, login URLs, a key, and samples of the ledger.

Not in the outbox, so that nothing here can hold up a firing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

#: Seconds for which a session lasts after it was used last.
SESSION = 7 * 86_400.0

#: Seconds for which a login URL can be used.
LOGIN_URL = 60.0

#: How many sessions there may be; those that were used longest ago are ended.
MAX_SESSIONS = 1000

#: Seconds after which the use of a session is noted again.
_TOUCH_EVERY = 600.0

#: Minutes for which samples are kept, and how many there may be.
KEPT_MINUTES = 14 * 24 * 60
MAX_SAMPLES = 2_000_000

#: What is counted: its kind, and the name of an alarm, a rule or an incident; empty for all.
Sample = tuple[str, str]

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    id BLOB PRIMARY KEY, user TEXT NOT NULL, role TEXT NOT NULL, password TEXT, used REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logins (
    id BLOB PRIMARY KEY, user TEXT NOT NULL, role TEXT NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    kind TEXT NOT NULL, name TEXT NOT NULL, minute INTEGER NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (kind, name, minute)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_minute ON samples (minute);
"""


class Session(msgspec.Struct, frozen=True):
    """A user who has logged in."""

    user: str
    role: str
    #: A fingerprint of the hash of the user's password; None where a login URL was used.
    password: str | None = None


class Store:
    """The file at `path`; memory for None, and where it cannot be used, which is logged. From any thread."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._database = _opened(path)
        self._key = self._read_key()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    # Secrets

    def sign(self, *parts: str) -> str:
        """Return a signature of these words, which nobody else can make."""
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:40]

    def _read_key(self) -> bytes:
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO keys VALUES ('hmac', ?)", (os.urandom(32),))
            ((key,),) = database.execute("SELECT value FROM keys WHERE name = 'hmac'")
        assert isinstance(key, bytes)
        return key

    # Sessions

    def begin_session(self, session: Session) -> str:
        """Begin a session, and return what the browser keeps of it."""
        cookie = secrets.token_urlsafe(32)
        row = (_hashed(cookie), session.user, session.role, session.password, time.time())
        with self._transaction() as database:
            database.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM sessions WHERE used < ? OR id IN"
                " (SELECT id FROM sessions ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (time.time() - SESSION, MAX_SESSIONS),
            )
        return cookie

    def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None where it has ended."""
        with self._lock:
            found = self._database.execute(
                "SELECT user, role, password, used FROM sessions WHERE id = ?", (_hashed(cookie),)
            ).fetchone()
        if found is None or found[3] < time.time() - SESSION:
            return None
        if found[3] < time.time() - _TOUCH_EVERY:
            with self._transaction() as database:
                database.execute("UPDATE sessions SET used = ? WHERE id = ?", (time.time(), _hashed(cookie)))
        return Session(*found[:3])

    def end_session(self, cookie: str) -> None:
        """End a session."""
        with self._transaction() as database:
            database.execute("DELETE FROM sessions WHERE id = ?", (_hashed(cookie),))

    # Login URLs

    def offer_login(self, user: str, role: str) -> str:
        """Return the last part of a URL by which somebody can log in, once, for `LOGIN_URL` seconds."""
        token = secrets.token_urlsafe(24)
        with self._transaction() as database:
            database.execute("DELETE FROM logins WHERE until < ?", (time.time(),))
            database.execute(
                "INSERT INTO logins VALUES (?, ?, ?, ?)", (_hashed(token), user, role, time.time() + LOGIN_URL)
            )
        return token

    def offered(self, token: str) -> Session | None:
        """Return who can log in by a login URL; None where it was used, or is too old. Does not use it up."""
        with self._lock:
            query = "SELECT user, role FROM logins WHERE id = ? AND until >= ?"
            found = self._database.execute(query, (_hashed(token), time.time())).fetchone()
        return None if found is None else Session(*found)

    def log_in(self, token: str) -> Session | None:
        """Use a login URL up, and return who logs in; None where it was used, or is too old."""
        with self._transaction() as database:
            rows = database.execute(
                "DELETE FROM logins WHERE id = ? RETURNING user, role, until", (_hashed(token),)
            ).fetchall()
        return next((Session(user, role) for user, role, until in rows if until >= time.time()), None)

    # Samples

    def add_samples(self, minute: int, counts: Mapping[Sample, int]) -> None:
        """Add what was counted in a minute since the epoch; forget what is too old, or too much."""
        rows = [(kind, name, minute, n) for (kind, name), n in counts.items() if n > 0]
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO samples VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n", rows
            )
            database.execute("DELETE FROM samples WHERE minute < ?", (minute - KEPT_MINUTES,))
            ((total,),) = database.execute("SELECT COUNT(*) FROM samples")
            if total > MAX_SAMPLES:
                database.execute(
                    "DELETE FROM samples WHERE minute <= (SELECT minute FROM samples ORDER BY minute LIMIT 1 OFFSET ?)",
                    (total - MAX_SAMPLES,),
                )

    def series(self, kind: str, names: Iterable[str], since: int, step: int, n: int) -> dict[str, list[int]]:
        """Return `n` sums of `step` minutes each from the minute `since` on, for each of the names."""
        found = {name: [0] * n for name in names}
        marks = ", ".join("?" * len(found))
        query = (
            f"SELECT name, (minute - ?) / ?, SUM(n) FROM samples WHERE kind = ? AND name IN ({marks})"  # noqa: S608  # marks
            " AND minute >= ? AND minute < ? GROUP BY 1, 2"
        )
        with self._lock:
            rows = self._database.execute(query, (since, step, kind, *found, since, since + step * n)).fetchall()
        for name, place, total in rows:
            found[name][place] = total
        return found

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def _opened(path: Path | None) -> sqlite3.Connection:
    if path is None:
        return _connected(":memory:")
    try:
        path.touch(mode=0o600)
        return _connected(str(path))
    except (OSError, sqlite3.Error) as error:
        log.error("the page cannot use %s: %s; sessions end with this master", path, error)
        return _connected(":memory:")


def _connected(name: str) -> sqlite3.Connection:
    database = sqlite3.connect(name, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _hashed(secret: str) -> bytes:
    """Return the hash that is stored of a secret: it cannot be used in the secret's place."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
