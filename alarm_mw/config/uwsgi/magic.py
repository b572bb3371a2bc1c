"""uWSGI's magic variables: ``%d``, ``%n``, … anywhere in the text of a configuration file.

They are replaced in the whole text before it is split into lines. A ``%`` before any other character is removed
together with it (``%%`` is one percent sign, ``%(`` stays for placeholders).
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

Table = Mapping[str, str]

#: The release of uWSGI whose configuration language is read here, for ``%V``.
UWSGI_VERSION = "2.0.31"
#: The letters for the file that is being read; in upper case, for the file that included it.
_FILE_LETTERS = "odspcenxij"
_HASH_START = 5381
_DIRECTORIES = 10


class MagicLine(msgspec.Struct, frozen=True):
    """A line after replacement."""

    number: int
    text: str
    #: The line as written in the file.
    source: str
    #: What was removed because it names no variable: ``%Z``; a ``%`` at the end also removes the line end.
    removed: tuple[str, ...] = ()


def host_table() -> dict[str, str]:
    """Return the variables that are the same for every file: host, directory, user, time."""
    now = time.time()
    uid, gid = os.getuid(), os.getgid()
    return {
        "%": "%",
        "(": "%(",
        "[": "\033",
        "b": sys.executable,
        "v": _working_directory(),
        "V": UWSGI_VERSION,
        "h": socket.gethostname(),
        "t": str(int(now)),
        "T": str(int(now * 1_000_000)),
        "k": str(os.cpu_count() or 1),
        "u": str(uid),
        "U": _name(lambda: pwd.getpwuid(uid).pw_name, uid),
        "g": str(gid),
        "G": _name(lambda: grp.getgrgid(gid).gr_name, gid),
    }


def _working_directory() -> str:
    """Return the working directory; empty if it was deleted, like an old release of the application."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def _name(look_up: Callable[[], str], number: int) -> str:
    """Return the name of a user or group, or its number where it has none (usual in containers)."""
    try:
        return look_up()
    except KeyError:
        return str(number)


def file_table(file: str, section: str, outer: Table) -> dict[str, str]:
    """Return `outer` with the variables of `file` added; the first file sets the upper-case ones too."""
    path = Path(file).absolute()
    full = str(path if path.is_symlink() else path.resolve())
    directory, _, name = full.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    folders = [folder for folder in directory.split("/") if folder][:_DIRECTORIES]
    table = {
        "o": file,
        "p": full,
        "s": name,
        "d": directory + "/",
        "c": directory.rpartition("/")[2],
        "n": stem if dot else name,
        "e": extension if dot else "",
        "x": section,
        "i": _inode(path),
        "j": _hash(full),
        **{str(digit): "" for digit in range(_DIRECTORIES)},
        **{str(digit): folder for digit, folder in enumerate(folders)},
    }
    upper = {letter.upper(): outer.get(letter.upper(), table[letter]) for letter in _FILE_LETTERS}
    return {**outer, **table, **upper}


def _inode(path: Path) -> str:
    try:
        return str(path.lstat().st_ino)
    except OSError:
        return ""


def _hash(full: str) -> str:
    """Return uWSGI's hash of a path (Bernstein's, with exclusive or) as it lies in memory, in hex."""
    value = _HASH_START
    for byte in os.fsencode(full):
        value = (value * 33 ^ byte) & 0xFFFF_FFFF
    return value.to_bytes(4, "little").hex().upper()


def magic_lines(text: str, table: Table) -> Iterator[MagicLine]:
    """Yield the lines of `text` with their variables replaced.

    A single ``%`` at the end of a line removes the newline, so the next line is joined, as in uWSGI.
    """
    start, done, removed = 1, "", []
    sources = text.split("\n")
    for number, source in enumerate(sources, 1):
        replaced, gone, joins = _replace(source, table)
        done += replaced
        removed += gone
        if joins and number < len(sources):
            continue
        yield MagicLine(start, done, sources[start - 1] if start == number else "", tuple(removed))
        start, done, removed = number + 1, "", []


def _replace(line: str, table: Table) -> tuple[str, list[str], bool]:
    """Return the line, what was removed from it, and whether it ends in a lone ``%``."""
    first, *parts = line.split("%") if "%" in line else [line]
    out, removed = [first], []
    index = 0
    while index < len(parts):
        part = parts[index]
        if part:
            known = part[0] in table
            out += [table.get(part[0], ""), part[1:]]
            removed += [] if known else ["%" + part[0]]
        elif index + 1 < len(parts):
            index += 1
            out += ["%", parts[index]]
        else:
            return "".join(out), [*removed, "%"], True
        index += 1
    return "".join(out), removed, False
