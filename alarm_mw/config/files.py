"""Reads a whole file, with a sentence for people when that cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_noted: ContextVar[dict[str, str] | None] = ContextVar("alarm_mw_files", default=None)


class UnreadableError(Exception):
    """A file cannot be read; the text says why."""


def read_bytes(file: str) -> bytes:
    """Return what is in a file; raise `UnreadableError`. Blocks as long as the file's system does."""
    noted = _noted.get()
    if noted is not None:
        noted.setdefault(file, fingerprint(file))  # before it is read: what changes meanwhile is a change
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except ValueError as error:
        raise UnreadableError("this cannot be the name of a file") from error


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
