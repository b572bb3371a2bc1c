"""Where a log goes on that was rotated: in a file with another name, in a copy, or compressed."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Collection, Container
from typing import NamedTuple

from alarm_mw.master.follow.position import BEFORE, HEAD, FilePosition
from alarm_mw.master.follow.tail import Compressed, Plain, Tail, open_content

#: What logrotate and others add to a name: a number or a date behind it, or a date before its suffix; and how the file
#: is compressed. A number before the suffix may be that of another log.
_DATE = r"[\d:T_.-]{5,}"
_MORE = r"[\dT:_.-]*(?:\.(?:gz|bz2|xz|zst))?"
#: What somebody may add by hand: then the content decides.
_BY_HAND = re.compile(r"\d|old|bak|prev|orig|copy|save")


class Sibling(NamedTuple):
    """A file beside a log that may be what the log was rotated into."""

    path: str
    device: int
    inode: int
    size: int
    #: When it was written to last, in seconds since the epoch.
    time: float
    #: Its name is one that a program has made: a number or a date.
    is_rotation: bool


def siblings(path: str) -> list[Sibling]:
    """Return what a log may have been rotated into, the oldest first."""
    folder, base = os.path.split(path)
    stem, _ = os.path.splitext(base)  # noqa: PTH122  # as below, names alone
    found: list[Sibling] = []
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            name = entry.name
            if name == base or not name.startswith(stem) or not _BY_HAND.search(name[len(stem) :]):
                continue
            with contextlib.suppress(OSError):
                facts = entry.stat()
                if entry.is_file():
                    known = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime)
                    found.append(Sibling(entry.path, *known, _is_rotation(name, base)))
    return sorted(found, key=lambda sibling: sibling.time)


def _is_rotation(name: str, base: str) -> bool:
    """Return whether a program has made a name of another one by a number or a date."""
    return _rotations(base).fullmatch(name) is not None


@functools.lru_cache(maxsize=1000)
def _rotations(base: str) -> re.Pattern[str]:
    stem, suffix = os.path.splitext(base)  # noqa: PTH122  # as above
    return re.compile(rf"(?:{re.escape(base)}[.-]\d|{re.escape(stem)}[.-]\d{_DATE}{re.escape(suffix)}){_MORE}")


def are_related(path: str, other: str) -> bool:
    """Return whether two names are those of one log: the same, or one a rotation of the other or of the same one."""
    (folder, base), (other_folder, other_base) = os.path.split(path), os.path.split(other)
    if folder != other_folder:
        return False
    return _plain(base) == _plain(other_base) or _is_rotation(base, other_base) or _is_rotation(other_base, base)


def may_be_copy(path: str, other: str) -> bool:
    """Return whether a file's name is one that a copy of another file may have: that one's name and more."""
    (folder, base), (other_folder, other_base) = os.path.split(path), os.path.split(other)
    return (
        folder == other_folder
        and base != other_base
        and (base.startswith(other_base) or _is_rotation(base, other_base))
    )


def _plain(base: str) -> str:
    """Return a name without the number or the date of a rotation."""
    return re.sub(rf"[.-]\d(?:{_MORE})$", "", base) or base


def is_there(position: FilePosition) -> bool:
    """Return whether the very file of a position still is in its directory, under whatever name of its log."""
    place = (position.device, position.inode)
    found = [sibling.path for sibling in siblings(position.path) if (sibling.device, sibling.inode) == place]
    for path in (*found, position.path):
        with contextlib.suppress(OSError):
            content = open_content(path)
            if content is not None:
                try:
                    if (content.device, content.inode) == place and same_content(position, content):
                        return True
                finally:
                    content.close()
    return False


def same_content(position: FilePosition, content: Plain | Compressed) -> bool:
    """Return whether a file contains what was read up to a position. Raises `OSError`."""
    if content.read(0, len(position.head)) != position.head:
        return False
    n = len(position.before)
    return content.read(position.offset - n, n) == position.before


def is_copy(content: Plain, size: int, tail: Tail) -> bool:
    """Return whether a file is a copy, perhaps one that is being made, of what is followed already. Raises `OSError`.

    What was copied may have been truncated since: then it is compared with what was read of it.
    """
    if not size or not isinstance(tail.content, Plain):
        return False
    head = content.read(0, HEAD)
    if head == tail.content.read(0, len(head)):
        place = max(min(size, tail.content.size()) - BEFORE, 0)
        return content.read(place, BEFORE) == tail.content.read(place, BEFORE)[: size - place]
    position = tail.position()
    if not position.offset or head[: len(position.head)] != position.head[: len(head)]:
        return False
    return size < position.offset or same_content(position, content)


def rest_of(
    position: FilePosition, known: Container[tuple[int, int]], others: Collection[FilePosition]
) -> tuple[Plain | Compressed, Sibling] | None:
    """Return the file in which a log goes on from a position, opened; None where there is none.

    `known` are devices and inodes of files that are followed for themselves, and `others` all positions: a file that
    one of them is in is that one's, however alike their contents are. A compressed file is looked at last: it may not
    be complete, and then the file that it is made of is still there.
    """
    newest_first = reversed(siblings(position.path))
    opened = [(sibling, content) for sibling in newest_first if (content := _opened(sibling)) is not None]
    # Logs may consist of the same lines again and again: the file itself comes before those that look the same.
    opened.sort(key=lambda each: (not _is_file_of(position, each[0]), isinstance(each[1], Compressed)))
    found: tuple[Plain | Compressed, Sibling] | None = None
    for sibling, content in opened:
        if (
            found is None
            and (sibling.device, sibling.inode) not in known
            and _goes_on(position, sibling, content, others)
        ):
            found = content, sibling
        else:
            content.close()
    return found


def _is_file_of(position: FilePosition, sibling: Sibling) -> bool:
    return (sibling.device, sibling.inode) == (position.device, position.inode)


def _opened(sibling: Sibling) -> Plain | Compressed | None:
    try:
        return open_content(sibling.path)
    except OSError:
        return None


def _goes_on(
    position: FilePosition, sibling: Sibling, content: Plain | Compressed, others: Collection[FilePosition]
) -> bool:
    """Return whether a file has a content that was read up to a position; of one that was not read: is that file."""
    is_itself = _is_file_of(position, sibling)
    owners = [] if is_itself else [other for other in others if other.offset and _is_file_of(other, sibling)]
    try:
        return (
            (is_itself or position.offset > 0)
            and same_content(position, content)
            and not any(same_content(owner, content) for owner in owners if owner.id != position.id)
        )
    except OSError:
        return False
