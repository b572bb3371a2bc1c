"""Reads a configuration's files whole, within limits, with a sentence for people when that cannot be done."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import msgspec

from alarm_mw.model.types import Where

#: Bytes that a file may have.
MAX_FILE = 4 * 1024 * 1024

#: Seconds that what is no regular file, as the output of another command, may take to its end.
PATIENCE = 1.0

#: What all includes, loops and references of a configuration may make together: files, keys, and bytes of text.
MAX_FILES = 1000
MAX_KEYS = 50_000
MAX_TEXT = 8 * 1024 * 1024

_PART = 64 * 1024

_noted: ContextVar[dict[str, str] | None] = ContextVar("alarm_mw_files", default=None)


class UnreadableError(Exception):
    """A file cannot be read; the text says why."""


class TooMuchError(Exception):
    """A configuration becomes larger than any that is meant; `where` is the place at which it does."""

    def __init__(self, where: Where, limit: str) -> None:
        super().__init__(f"what is included, repeated and referred to up to here makes more than {limit}")
        self.where = where


class Budget(msgspec.Struct):
    """What a configuration may still become."""

    files: int = MAX_FILES
    keys: int = MAX_KEYS
    text: int = MAX_TEXT

    def spend(self, where: Where, *, files: int = 0, keys: int = 0, text: int = 0) -> None:
        """Take so much off; raise `TooMuchError` where it is not there."""
        self.files -= files
        self.keys -= keys
        self.text -= text
        if self.files < 0:
            raise TooMuchError(where, f"{MAX_FILES} files")
        if self.keys < 0:
            raise TooMuchError(where, f"{MAX_KEYS} keys")
        if self.text < 0:
            raise TooMuchError(where, f"{MAX_TEXT // 1024**2} MiB of text")


def read_bytes(file: str) -> bytes:
    """Return what is in a file; raise `UnreadableError`, also for one that is too large or does not end in time.

    Of regular files, blocks as long as the file's system does; of all others for `PATIENCE` seconds.
    """
    noted = _noted.get()
    if noted is not None:
        noted.setdefault(file, fingerprint(file))  # before it is read: what changes meanwhile is a change
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except ValueError as error:
        raise UnreadableError("this cannot be the name of a file") from error
    try:
        return _read(descriptor)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    deadline = time.monotonic() + PATIENCE
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    data = bytearray()
    while is_regular or poll.poll(max(deadline - time.monotonic(), 0.0) * 1000):
        part = os.read(descriptor, _PART)
        if not part:
            return bytes(data)
        data += part
        if len(data) > MAX_FILE:
            raise UnreadableError(f"it has more than {MAX_FILE // 1024**2} MiB")
    raise UnreadableError(f"it has no end within {PATIENCE:.0f} second")


def read_text(file: str) -> str:
    """Do the same for text in UTF-8; bytes that are not become surrogates, as in file names."""
    return read_bytes(file).decode("utf-8", "surrogateescape")


def fingerprint(file: str) -> str:
    """Return what changes with a file's content; empty for a file that cannot be looked at."""
    try:
        facts = Path(file).stat()
    except (OSError, ValueError):
        return ""
    return f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"


@contextmanager
def noted() -> Iterator[dict[str, str]]:
    """Note every file that is read meanwhile, with its fingerprint; those that could not be read as well."""
    files: dict[str, str] = {}
    token = _noted.set(files)
    try:
        yield files
    finally:
        _noted.reset(token)
        if (outer := _noted.get()) is not None:
            outer.update(files | outer)
