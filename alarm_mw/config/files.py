"""Reads a whole file, with a sentence for people when that cannot be done."""

from __future__ import annotations

from pathlib import Path


class UnreadableError(Exception):
    """A file cannot be read; the text says why."""


def read_bytes(file: str) -> bytes:
    """Return what is in a file; raise `UnreadableError`. Blocks as long as the file's system does."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except ValueError as error:
        raise UnreadableError("this cannot be the name of a file") from error


def read_text(file: str) -> str:
    """Do the same for text in UTF-8; bytes that are not become surrogates, as in file names."""
    return read_bytes(file).decode("utf-8", "surrogateescape")
