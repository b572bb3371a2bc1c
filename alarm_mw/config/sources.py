"""The files and flags of a configuration, and how its files are read: whole, and within limits."""

from __future__ import annotations

import os
import re
import select
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import structs

from alarm_mw.model.types import Where

#: Maximum size of a file in bytes.
MAX_FILE = 4 * 1024 * 1024

#: Seconds in which a file that is not regular, such as the output of a command, must end.
PATIENCE = 1.0

#: Limits of a configuration with all includes, loops and references: files, keys, and bytes of text.
MAX_FILES = 1000
MAX_KEYS = 50_000
MAX_TEXT = 8 * 1024 * 1024

_PART = 64 * 1024

_noted: ContextVar[dict[str, str] | None] = ContextVar("alarm_mw_files", default=None)


class UnreadableError(Exception):
    """A file cannot be read; the text says why."""


class TooMuchError(Exception):
    """A configuration exceeds a limit of its size; `where` is the place."""

    def __init__(self, where: Where, limit: str) -> None:
        super().__init__(f"the configuration with its includes, loops and references exceeds {limit}")
        self.where = where


class Budget(msgspec.Struct):
    """What remains of the limits of a configuration."""

    files: int = MAX_FILES
    keys: int = MAX_KEYS
    text: int = MAX_TEXT

    def spend(self, where: Where, *, files: int = 0, keys: int = 0, text: int = 0) -> None:
        """Subtract these amounts; raise `TooMuchError` if a limit is exceeded."""
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
    """Return the content of a file; raise `UnreadableError`, also if it is too large or does not end in time.

    For regular files, blocks as long as the file system does; for others at most `PATIENCE` seconds.
    """
    noted = _noted.get()
    if noted is not None:
        noted.setdefault(file, fingerprint(file))  # before it is read, so that a change in between is noticed
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
    """Return a file's text; bytes that are not UTF-8 become surrogates, as in file names."""
    return read_bytes(file).decode("utf-8", "surrogateescape")


def fingerprint(file: str) -> str:
    """Return a value that changes with a file's content; empty for a file that is not accessible."""
    try:
        facts = Path(file).stat()
    except (OSError, ValueError):
        return ""
    return f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"


@contextmanager
def noted() -> Iterator[dict[str, str]]:
    """Record every file that is read inside the block, with its fingerprint, even if reading failed."""
    files: dict[str, str] = {}
    token = _noted.set(files)
    try:
        yield files
    finally:
        _noted.reset(token)
        if (outer := _noted.get()) is not None:
            outer.update(files | outer)


#: The environment variable that names the files, separated by commas.
CONFIG_VARIABLE: Final = "ALARM_MW_CONFIG"

#: The files that are searched in the working directory by default.
DEFAULT_FILES: Final = ("alarm-mw.toml", "uwsgi.ini")

_UWSGI_SECTION = rb"(?m)^[ \t]*\[uwsgi[^\]\n]*\][ \t\r]*$"


class Sources(msgspec.Struct, frozen=True):
    """The files and flags of a configuration, in the order in which they apply: TOML, ini, flags."""

    toml_files: tuple[str, ...] = ()
    #: Each may end in ``:section``.
    ini_files: tuple[str, ...] = ()
    #: Name without dashes and value: ``("log-alarm", "jabber ^TERRIBLE")``, as they stand on the command line.
    flags: tuple[tuple[str, str], ...] = ()
    #: Mistakes that uWSGI tolerates are errors: an unknown alarm in a rule, no alarm at all, …
    is_strict: bool = False
    #: The files were not named, but found in the working directory.
    is_found: bool = False
    #: Logs to follow, as they stand on the command line, and whether new ones are read from the beginning.
    follow: tuple[str, ...] = ()
    follows_from_beginning: bool = False

    @classmethod
    def found(cls, environ: Mapping[str, str], folder: str = "", *, is_strict: bool = False) -> Self:
        """Return the default files, in `folder` if they are relative.

        They are those that the environment names, else the first of `DEFAULT_FILES` that is there.
        """
        if named := environ.get(CONFIG_VARIABLE):
            files = [str(Path(folder, name)) for name in map(str.strip, named.split(",")) if name]
            return cls.of_files(files, is_strict=is_strict)
        paths = (str(Path(folder, name)) for name in DEFAULT_FILES)
        files = [*filter(os.path.isfile, paths)][:1]
        return structs.replace(cls.of_files(files, is_strict=is_strict), is_found=True)

    @classmethod
    def of_files(cls, files: Iterable[str], flags: Iterable[tuple[str, str]] = (), *, is_strict: bool = False) -> Self:
        """Sort the files into ini and TOML by their names, else by their content, which is then read."""
        names = [*files]
        ini = [is_ini(name) for name in names]
        return cls(
            tuple(name for name, answer in zip(names, ini, strict=True) if not answer),
            tuple(name for name, answer in zip(names, ini, strict=True) if answer),
            tuple(flags),
            is_strict,
        )


def is_ini(file: str) -> bool:
    """Return whether a file is uWSGI's, in any of its formats; one that cannot be read counts as TOML."""
    name = file.rpartition("/")[2].lower()
    if re.search(r"\.(ini|ya?ml|js(on)?|xml)(:[^:]*)?$", name):
        return True
    if name.endswith(".toml"):
        return False
    try:
        return re.search(_UWSGI_SECTION, read_bytes(file)) is not None
    except UnreadableError:
        return False


def split_section(file: str) -> tuple[str, str]:
    """Return the file and the section of ``file:section``; the section is empty where none is named."""
    name, colon, section = file.rpartition(":")
    return (name, section) if colon and "/" not in section else (file, "")
