"""The thread that reads followed files: fairly, one block of each in turn, and no faster than the worker can judge.

What it has read is given to the worker with the position behind it, and the worker writes both in one transaction. So
whenever the master is killed, the next one goes on behind the last line that was judged.
"""

from __future__ import annotations

import fnmatch
import glob
import logging
import math
import os
import resource
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypedDict

from alarm_mw.config.settings import Follow
from alarm_mw.master.follow.bell import Bell
from alarm_mw.master.follow.intake import Assembly, BatchWorker, EndedError, FileIntake
from alarm_mw.master.follow.position import FILE, HEAD, FilePosition, decode, encode, new_id
from alarm_mw.master.follow.rotation import (
    Sibling,
    are_related,
    is_copy,
    is_there,
    may_be_copy,
    rest_of,
    same_content,
    siblings,
)
from alarm_mw.master.follow.tail import Compressed, Plain, RewrittenError, Tail, is_compressed, open_content
from alarm_mw.master.runtime.threads import CALL_TIMEOUT, start_thread
from alarm_mw.patterns.prefilter import Prefilter

log = logging.getLogger(__name__)

#: What the name of a row begins with that says that a pattern was followed before: what it matches now is new.
PATTERN = "pattern:"

#: Seconds between two looks at all files, though nothing was heard of them: a network's file system says nothing.
LOOK_EVERY = 1.0

#: Seconds between two searches for files that a pattern matches now, though nothing was heard of their directories.
SEARCH_EVERY = 2.0

#: Seconds for which the lines of busy files gather, so that a look finds many of them.
NAP = 0.03

#: A nap takes at least so many times as long as the look before it: looks at many files leave time for other work.
NAPS = 10

#: Seconds after which a file is closed that has lost its name, and that nothing was added to.
LET_GO = 60.0

#: How many files are followed at most; half of the descriptors that this process may have, if that is less.
MOST_FILES = 4096

#: By how many seconds the times of files may be behind the clock, and after how many a log that has gone is forgotten.
SLACK = 0.02
FORGET_PATHS = 86_400.0

#: How many positions of files that are not followed any more are remembered, and for how many seconds.
MOST_POSITIONS = 10_000
REMEMBER = 30 * 86_400.0

#: Seconds over which the speed is measured.
SPAN = 10.0


class FollowedFile(TypedDict):
    """A followed file, as ``alarm-mw status --json`` shows it."""

    path: str
    #: How many bytes have been judged, and how many there are.
    offset: int
    size: int
    #: Whether a followed name still leads to it.
    is_rotated: bool


class FollowedFiles(TypedDict):
    """All of them."""

    files: list[FollowedFile]
    #: Bytes that have not been read, and how many are read per second.
    behind: int
    rate: float
    #: Seconds until nothing is behind, if nothing is added; None where nothing is read.
    remaining: float | None
    #: What cannot be followed, a sentence each.
    problems: list[str]


class _Sample(NamedTuple):
    time: float
    read: int


class Follower:
    """Follows files. `change`, `stop` and `status` are for other threads, the rest is for its own.

    `saved` are the positions of the master before; `own` are devices and inodes of files that the server's output goes
    to, whose lines are judged already.
    """

    def __init__(
        self,
        follows: Sequence[Follow],
        prefilter: Prefilter,
        worker: BatchWorker,
        saved: Mapping[str, bytes],
        *,
        longest: int,
        own: frozenset[tuple[int, int]] = frozenset(),
        assembly: Assembly = Assembly(),  # noqa: B008  # a constant
    ) -> None:
        self._intake = FileIntake(prefilter, worker, assembly)
        self._follows = follows
        self._longest = longest
        self._own = own
        self._bell = Bell()
        self._stopping = False
        #: Set when the files have been searched for which `change` waits.
        self._awaited: threading.Event | None = None
        #: By device and inode, of files whose names are followed, and of what was rotated.
        self._tails: dict[tuple[int, int], Tail] = {}
        #: What was compressed, or is read beside a file that is followed for itself.
        self._rests: list[Tail] = []
        #: Positions of the contents that are not open, by id.
        self._left: dict[str, FilePosition] = {}
        self._patterns = {name.removeprefix(PATTERN) for name in saved if name.startswith(PATTERN)}
        #: When logs were searched last, by this master or by the one before it, in seconds since the epoch.
        self._since: dict[str, float] = {}
        self._read_saved(saved)
        #: When files were searched last, in seconds since the epoch.
        self._searched_at = 0.0
        self._problems: dict[str, str] = {}
        self._samples: deque[_Sample] = deque()
        self._most = min(MOST_FILES, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2, 1))
        self._thread: threading.Thread | None = None

    def _read_saved(self, saved: Mapping[str, bytes]) -> None:
        for name, data in saved.items():
            if name.startswith(FILE):
                try:
                    position = decode(data)
                except ValueError as error:
                    log.error("the position of a followed file cannot be read, and is forgotten: %s", error)
                else:
                    self._left[position.id] = position
                    if self._is_followed(position.path):
                        self._since[position.path] = max(position.time, self._since.get(position.path, 0.0))

    # For other threads

    def start(self) -> None:
        """Start the thread."""
        self._thread = start_thread("follow", self._run)

    def change(self, follows: Sequence[Follow], prefilter: Prefilter, assembly: Assembly) -> None:
        """Follow these from now on; what both have in common goes on. Waits until their files are found."""
        self._follows = follows
        self._intake.change(prefilter, assembly, [*self._tails.values(), *self._rests])
        self._awaited = found = threading.Event()
        self._bell.ring()
        found.wait(CALL_TIMEOUT)

    def stop(self, timeout: float) -> None:
        """Read what is there already, for at most `timeout` seconds, and end."""
        self._intake.deadline = time.monotonic() + timeout
        self._stopping = True
        self._bell.ring()
        if self._thread is not None:
            self._thread.join(timeout + LOOK_EVERY)

    def status(self) -> FollowedFiles:
        """Return how far it is."""
        tails = [*self._tails.values(), *self._rests]
        files: list[FollowedFile] = [
            {
                "path": tail.path,
                "offset": tail.offset,
                "size": max(tail.size, tail.offset),
                "is_rotated": tail.lost_at is not None or tail.is_rest,
            }
            for tail in tails
            if tail.copied is None
        ]
        behind = sum(file["size"] - file["offset"] for file in files)
        samples = [*self._samples]
        rate = 0.0
        if len(samples) > 1 and samples[-1].time > samples[0].time:
            rate = (samples[-1].read - samples[0].read) / (samples[-1].time - samples[0].time)
        remaining = behind / rate if rate else (None if behind else 0.0)
        return {
            "files": sorted(files, key=lambda file: file["path"]),
            "behind": behind,
            "rate": rate,
            "remaining": remaining,
            "problems": [*self._problems.values()],
        }

    # The thread

    def _run(self) -> None:
        try:
            self._follow()
        except EndedError:
            log.warning("followed files are not read to their ends: the next start goes on there")
        for tail in [*self._tails.values(), *self._rests]:
            tail.close()
        self._bell.close()

    def _follow(self) -> None:
        self._search()
        self._recover_left()
        self._find_rotations()
        next_search = time.monotonic() + SEARCH_EVERY
        while not self._stopping:
            began = time.monotonic()
            has_more = self._look()
            now = time.monotonic()
            if not has_more:
                self._bell.wait(max(min(LOOK_EVERY, next_search - now, self._until_due(now)), 0.0))
                self._bell.doze(max(NAP, NAPS * (now - began)))
            if self._bell.heard_of_names() or self._awaited or time.monotonic() >= next_search:
                self._search()
                self._find_rotations()
                next_search = time.monotonic() + SEARCH_EVERY
        self._search()
        while self._look() or self._completes_soon():
            pass

    def _until_due(self, now: float) -> float:
        """Return the seconds until a record is complete to which nothing is added."""
        waits = (tail.blocks.wait(now) for tail in (*self._tails.values(), *self._rests) if tail.blocks is not None)
        return min((wait for wait in waits if wait is not None), default=math.inf)

    def _completes_soon(self) -> bool:
        """Wait until a record is complete, and return True; False where none is, or not before the time to end."""
        now = time.monotonic()
        wait = self._until_due(now)
        if now + wait >= self._intake.deadline:
            return False
        if wait < math.inf:
            time.sleep(max(wait, 0.0))
        return wait < math.inf

    def _look(self) -> bool:
        """Read a block of each file; return whether there is more than that in some."""
        has_more = False
        for tail in [*self._tails.values(), *self._rests]:
            try:
                has_more |= self._look_at(tail)
            except RewrittenError:
                if tail.is_rest:  # somebody has overwritten the rotated file
                    self._finish(tail)
                else:
                    self._begin_anew(tail)
                has_more = True
            except OSError as error:
                self._complain(tail.path, error.strerror or str(error))
                if tail.is_rest:
                    self._finish(tail)
        self._intake.submit_quiet()
        self._sample()
        return has_more

    def _look_at(self, tail: Tail) -> bool:
        if not tail.has_news():
            self._rest_at_end(tail)
            return False
        if (tail.is_undecided or tail.copied is not None) and not self._decide(tail):
            return False
        block = tail.read(self._longest)
        if block is None:
            self._rest_at_end(tail)
            return False
        self._intake.take(tail, block)
        return tail.behind > 0

    def _rest_at_end(self, tail: Tail) -> None:
        """Judge the records that have waited long enough for another line, and end where nobody writes any more."""
        self._intake.complete(tail)
        if self._is_over(tail):
            self._read_last(tail)

    def _is_over(self, tail: Tail) -> bool:
        """Return whether nothing is added to a file any more: a copy is complete, and to others somebody may write."""
        if tail.is_copy:
            return True
        if tail.lost_at is None and not tail.is_rest:
            return False
        since = max(tail.lost_at or 0.0, tail.read_at)
        return time.monotonic() - since >= LET_GO

    def _read_last(self, tail: Tail) -> None:
        """Judge a last line without a newline, and close the file."""
        block = tail.read(self._longest, at_end=True)
        if block is not None:
            self._intake.take(tail, block)
        else:
            self._finish(tail)

    def _finish(self, tail: Tail) -> None:
        """Close a file that nothing is added to any more."""
        self._intake.complete(tail, at_end=True)
        self._forget_tail(tail)
        position = tail.position(is_done=True)
        self._left[position.id] = position
        self._intake.moved[position.name] = encode(position)
        tail.close()

    def _forget_tail(self, tail: Tail) -> None:
        if tail in self._rests:
            self._rests.remove(tail)
        else:
            self._tails.pop((tail.content.device, tail.content.inode), None)

    def _sample(self) -> None:
        now = time.monotonic()
        if not self._samples or now - self._samples[-1].time >= LOOK_EVERY:
            self._samples.append(_Sample(now, self._intake.read))
            while now - self._samples[0].time > SPAN:
                self._samples.popleft()

    # Which files

    def _search(self) -> None:
        """Find files that are new, and note which have lost their names."""
        self._searched_at = time.time()
        awaited, self._awaited = self._awaited, None
        seen: set[tuple[int, int]] = set()
        folders: set[str] = set()
        for follow in self._follows:
            for pattern in follow.paths:
                folders.add(_folder(pattern))
                for path in _matches(pattern):
                    folders.add(os.path.dirname(path))
                    self._see(path, pattern, follow, seen)
                if pattern not in self._patterns:
                    self._patterns.add(pattern)
                    self._intake.moved[PATTERN + pattern] = b""
        now = time.monotonic()
        for place, tail in [*self._tails.items()]:
            tail.lost_at = None if place in seen else tail.lost_at or now
        for problem in self._bell.watch(folders):
            self._complain("inotify", problem)
        self._forget_old()
        if awaited is not None:
            awaited.set()

    def _see(self, path: str, pattern: str, follow: Follow, seen: set[tuple[int, int]]) -> None:
        try:
            facts = os.stat(path)  # noqa: PTH116  # for thousands of files
        except FileNotFoundError:
            return
        except OSError as error:
            self._complain(path, error.strerror or str(error))
            return
        place = (facts.st_dev, facts.st_ino)
        if place in seen:
            return
        if place in self._tails:
            seen.add(place)
            self._problems.pop(path, None)
            return
        if place in self._own:
            self._complain(path, "it is not followed: the server's output goes there, and is judged already")
        elif not stat.S_ISREG(facts.st_mode):
            self._complain(path, "it is not a regular file")
        elif len(self._tails) >= self._most:
            self._complain("limit", f"more than {self._most} files are matched, the others are not followed")
        else:
            self._begin(path, pattern, follow, seen)

    def _begin(self, path: str, pattern: str, follow: Follow, seen: set[tuple[int, int]]) -> None:
        """Follow a file that was not open before."""
        try:
            content = Plain(path)
            head = content.read(0, HEAD)
        except OSError as error:
            self._complain(path, error.strerror or str(error))
            return
        self._problems.pop(path, None)
        place = (content.device, content.inode)
        if is_compressed(head) or place in self._tails:
            content.close()
            return
        seen.add(place)
        position = self._known(path, content)
        if position is not None:
            del self._left[position.id]
            tail = Tail(position, content)
            tail.path = path
        else:
            is_new = pattern in self._patterns or follow.start == "beginning"
            tail = Tail.at(path, content, new_id(), 0 if is_new else content.size())
            tail.is_undecided = is_new
            self._intake.moved[tail.name] = encode(tail.position())
        self._tails[place] = tail

    def _known(self, path: str, content: Plain) -> FilePosition | None:
        """Return where the reading of a file ended before; the farthest place, of several."""
        places = [*self._left.values()]
        found = [each for each in places if _is_of(each, path, content) and same_content(each, content)]
        if not found:
            found = [
                each
                for each in places
                if each.offset and are_related(path, each.path) and same_content(each, content) and not is_there(each)
            ]
        # A log may begin like the one before it, which has been read to its end.
        return max(found, key=lambda position: (not position.is_done, position.offset), default=None)

    def _decide(self, tail: Tail) -> bool:
        """Return whether to read a new file: not while it is a copy of one that is followed."""
        content = tail.content
        if not isinstance(content, Plain) or not content.size():
            return False
        tail.copied = next(
            (
                other
                for other in self._tails.values()
                if other is not tail
                and other.copied is None
                and may_be_copy(tail.path, other.path)
                and is_copy(content, tail.size, other)
            ),
            None,
        )
        if tail.copied is not None:
            return False
        tail.is_undecided = False
        position = self._known(tail.path, content)
        if position is not None:
            del self._left[position.id]
            self._intake.moved[tail.name] = None
            tail.go_on(position)
        return True

    # Rotation

    def _begin_anew(self, tail: Tail) -> None:
        """Read a file from its beginning that was truncated or written anew, and its former content elsewhere."""
        former = tail.position()
        unread = tail.behind
        copy = next((other for other in self._tails.values() if other.copied is tail), None)
        tail.begin_anew(new_id())
        self._intake.moved[tail.name] = encode(tail.position())
        self._left[former.id] = former
        if copy is not None and isinstance(copy.content, Plain) and same_content(former, copy.content):
            del self._left[former.id]
            self._intake.moved[copy.name] = None
            copy.go_on(former)
        else:
            self._recover(former, unread)

    def _recover_left(self) -> None:
        """Go on with what was rotated while no master was running."""
        for position in [*self._left.values()]:
            if not position.is_done and self._is_followed(position.path):
                self._recover(position, 0)

    def _is_followed(self, path: str) -> bool:
        return any(fnmatch.fnmatch(path, pattern) for follow in self._follows for pattern in follow.paths)

    def _recover(self, former: FilePosition, unread: int) -> None:
        """Read the rest of a content that is not in its file any more."""
        taken = {(rest.content.device, rest.content.inode) for rest in self._rests}
        found = rest_of(former, taken | self._tails.keys(), self._left.values())
        if found is not None:
            content, _ = found
            del self._left[former.id]
            self._rests.append(self._rest(former, content))
        else:
            text = "%s: the file was truncated or deleted; if anything was added behind byte %d, it is lost"
            log.warning(text, former.path, former.offset)
            self._intake.count("lost_bytes", unread)
            self._intake.complete_kept(former)
            self._left[former.id] = former.done()
            self._intake.moved[former.name] = encode(former.done())

    def _find_rotations(self) -> None:
        """Read what followed logs were rotated into unseen: while no master was running, or twice within a moment."""
        followed = {tail.path for tail in self._tails.values() if not tail.is_rest}
        for path, since in [*self._since.items()]:
            for sibling in siblings(path):
                if sibling.is_rotation and sibling.size and sibling.time >= since - SLACK:
                    self._read_later(path, sibling)
            if path not in followed and since < self._searched_at - FORGET_PATHS:
                del self._since[path]
        self._since |= dict.fromkeys(followed, self._searched_at)

    def _read_later(self, path: str, later: Sibling) -> None:
        """Read a log from its beginning that was rotated before anybody could see it."""
        place = (later.device, later.inode)
        if place in self._tails or any((rest.content.device, rest.content.inode) == place for rest in self._rests):
            return
        try:
            content = open_content(later.path)
            if content is None:
                return
            if self._is_read(content):
                content.close()
                return
        except OSError as error:
            self._complain(later.path, error.strerror or str(error))
            return
        position = FilePosition(new_id(), path, *place, 0, b"", b"", time.time())
        self._intake.moved[position.name] = encode(position)
        self._rests.append(self._rest(position, content))

    @staticmethod
    def _rest(position: FilePosition, content: Plain | Compressed) -> Tail:
        """Return what a log was rotated into: unless it is a copy or old, its writer may not know yet."""
        is_itself = (position.device, position.inode) == (content.device, content.inode)
        is_open = isinstance(content, Plain) and is_itself and time.time() - content.time() < LET_GO
        return Tail(position, content, is_rest=True, is_copy=not is_open)

    def _is_read(self, content: Plain | Compressed) -> bool:
        """Return whether a file is a copy of what was read, or of the first part of that."""
        head = content.read(0, HEAD)
        known = [*self._left.values(), *(tail.position() for tail in (*self._tails.values(), *self._rests))]
        return any(
            min(len(head), len(each.head))
            and head[: len(each.head)] == each.head[: len(head)]
            and each.before.startswith(content.read(each.offset - len(each.before), len(each.before)))
            for each in known
        )

    def _forget_old(self) -> None:
        """Forget positions of files that have gone long ago."""
        before = time.time() - REMEMBER
        old = sorted(self._left.values(), key=lambda position: position.time)
        surplus = max(len(old) - MOST_POSITIONS, 0)
        for n, position in enumerate(old):
            if n >= surplus and position.time >= before:
                break
            del self._left[position.id]
            self._intake.moved[position.name] = None

    def _complain(self, key: str, text: str) -> None:
        """Log a problem once."""
        text = text if key == text else f"{key}: {text}"
        if self._problems.get(key) != text:
            self._problems[key] = text
            log.warning("follow: %s", text)


def _is_of(position: FilePosition, path: str, content: Plain) -> bool:
    """Return whether a position is that of a file; the numbers of devices may change with a restart of the machine."""
    return position.inode == content.inode and (position.device == content.device or position.path == path)


def _matches(pattern: str) -> Iterator[str]:
    if glob.has_magic(pattern):
        yield from sorted(glob.iglob(pattern, recursive=True))  # noqa: PTH207  # thousands of files
    else:
        yield pattern


def _folder(pattern: str) -> str:
    """Return the directory in which a pattern's first names appear."""
    folder = os.path.dirname(pattern)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder
