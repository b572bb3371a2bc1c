"""Assembles the tracebacks that Python prints from the lines of a stream, also where several are printed at once.

Pure: lines and times come in, blocks come out. A pipe does not say who wrote a line. Lines of tracebacks that are
printed at the same time are separated by what Python can print next, by which frames have followed each other before,
and by the source text that names the next call. Tracebacks for which all of that fails become one block.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: What lines hold that may begin a block: headers, what stands above them, and a `SyntaxError` without a header.
#: No space ends one: where many words end in ``d``, searching for ``thread `` takes Hyperscan another 3 ns a line.
BEGINNINGS = (b"Traceback (most recent call last):", b"Exception in thread", b'  File "')

#: How many blocks may be open at once; of more, the oldest is closed.
MOST_OPEN = 64

#: How many lines without an indentation behind an exception may be its notes, or lines of its message.
MOST_NOTES = 10

#: How many frames are remembered with what has followed them.
MOST_LEARNED = 2000


class Kind(enum.Enum):
    """What a line is for a traceback, by itself."""

    HEADER = enum.auto()
    #: What Python prints above the header: a thread's name, for example.
    PREAMBLE = enum.auto()
    FRAME = enum.auto()
    #: A frame as it is printed for a `SyntaxError`: without a function.
    PLACE = enum.auto()
    SOURCE = enum.auto()
    MARKS = enum.auto()
    REPEATED = enum.auto()
    #: The exception.
    FINAL = enum.auto()
    #: What leads from one exception to the next.
    CHAIN = enum.auto()
    GROUP_HEADER = enum.auto()
    GROUP = enum.auto()
    BLANK = enum.auto()
    INDENTED = enum.auto()
    OTHER = enum.auto()


class Line(NamedTuple):
    """A line and where in the stream it begins."""

    start: int
    #: With its newline, without colors.
    text: bytes
    #: Where the next line begins.
    end: int

    @classmethod
    def printed(cls, start: int, text: bytes) -> Line:
        """Return a line as it was printed."""
        return cls(start, uncolored(text), start + len(text))


_COLOR = re.compile(rb"\x1b\[[0-9;]*m")
_FRAME = re.compile(rb'  File "[^"\n]*", line \d+(, in (.*))?$')
_CHAINS = (
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
)
_PREAMBLE = re.compile(rb"Exception in thread [^\n]*:$|Exception ignored in: ")
_GROUP_HEADER = re.compile(rb" +\+ Exception Group Traceback \(most recent call last\):$")
_GROUP = re.compile(rb" +(?:\| |\|$|\+-[+-])")
_MARKS = re.compile(rb" {4}[ ~^]*[~^][ ~^]*$")
_REPEATED = re.compile(rb"  \[Previous line repeated \d+ more times?\]$")
#: A class as Python names it, alone or with a message. Levels of logging are written like one.
_FINAL = re.compile(rb"((?:[A-Za-z_][\w<>]*\.)*[A-Za-z_]\w*)(?:: .*|:)?$")
_LEVEL = re.compile(rb"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL|[EDWI]):?$")
#: How lines of a log begin.
_LOG_LINE = re.compile(
    rb"\d{4}[-/]\d|\d{1,2}:\d\d|\[[\d ]|\[(?:TRACE|DEBUG|INFO|NOTICE|WARN|ERROR|CRITICAL|FATAL)|\{|<\d|"
    rb"\d{1,3}(?:\.\d{1,3}){3}|(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b"
)
_WORD = re.compile(rb"\w+")
_ID = re.compile(rb"[\w.-]*\d[\w.-]*")
_RAISE = re.compile(rb"raise (?:[\w.]*\.)?(\w+)")


def uncolored(text: bytes) -> bytes:
    """Return a line without the colors that Python 3.13 and later give to tracebacks on a terminal."""
    return _COLOR.sub(b"", text) if b"\x1b[" in text else text


def kind_of(text: bytes) -> Kind:
    """Return what an uncolored line is for a traceback."""
    line = text.rstrip(b"\r\n")
    if not line.strip():
        return Kind.BLANK
    return _indented(line) if line[:1] in b" \t" else _flush(line)


def _flush(line: bytes) -> Kind:
    if line == BEGINNINGS[0]:
        return Kind.HEADER
    if line in _CHAINS:
        return Kind.CHAIN
    if _PREAMBLE.match(line):
        return Kind.PREAMBLE
    return Kind.FINAL if _is_exception(line) else Kind.OTHER


def _is_exception(line: bytes) -> bool:
    """Return whether a line may name an exception: classes are written with a capital, or within a module."""
    found = _FINAL.match(line)
    if found is None or _LEVEL.match(line.split(b" ", 1)[0]):
        return False
    name = found[1].rpartition(b".")
    return bool(name[1]) or name[2][:1].isupper()


def _indented(line: bytes) -> Kind:
    found = _FRAME.match(line)
    if found is not None:
        return Kind.FRAME if found[1] else Kind.PLACE
    for pattern, kind in _INDENTED:
        if pattern.match(line):
            return kind
    return Kind.SOURCE if line.startswith(b"    ") else Kind.INDENTED


_INDENTED = (
    (_GROUP_HEADER, Kind.GROUP_HEADER),
    (_GROUP, Kind.GROUP),
    (_MARKS, Kind.MARKS),
    (_REPEATED, Kind.REPEATED),
)

_BODY = frozenset({Kind.FRAME, Kind.PLACE, Kind.REPEATED, Kind.FINAL})
_BELOW_SOURCE = _BODY | {Kind.MARKS, Kind.SOURCE}
_NEXT_EXCEPTION = frozenset({Kind.HEADER, Kind.GROUP_HEADER})

#: What may follow a line of each kind, wherever it stands.
_FOLLOWS: dict[Kind, frozenset[Kind]] = {
    Kind.PREAMBLE: _NEXT_EXCEPTION,
    Kind.HEADER: _BODY,
    Kind.FRAME: _BELOW_SOURCE - {Kind.MARKS},
    Kind.PLACE: _BELOW_SOURCE - {Kind.MARKS},
    Kind.SOURCE: _BELOW_SOURCE - {Kind.SOURCE},
    Kind.MARKS: _BODY,
    Kind.REPEATED: _BODY,
    Kind.FINAL: frozenset({Kind.CHAIN}),
    Kind.CHAIN: _NEXT_EXCEPTION,
    Kind.GROUP_HEADER: frozenset({Kind.GROUP}),
    Kind.GROUP: frozenset({Kind.GROUP, Kind.CHAIN}),
}
#: What may follow as well, but only at once.
_ADJACENT: dict[Kind, frozenset[Kind]] = {
    Kind.SOURCE: frozenset({Kind.SOURCE}),
    Kind.MARKS: frozenset({Kind.SOURCE, Kind.MARKS}),
    Kind.FINAL: frozenset({Kind.BLANK, Kind.INDENTED, Kind.SOURCE, Kind.MARKS, Kind.OTHER, Kind.FINAL}),
    Kind.CHAIN: frozenset({Kind.BLANK}),
    Kind.GROUP: frozenset({Kind.BLANK}),
}
#: Lines of these kinds leave open what may follow.
_TRANSPARENT = frozenset({Kind.BLANK, Kind.INDENTED, Kind.OTHER})


def _without_blanks(texts: list[bytes]) -> list[bytes]:
    """Return lines without blank ones at the end."""
    while len(texts) > 1 and not texts[-1].strip():
        texts = texts[:-1]
    return texts


class Block:
    """Lines that are one traceback, with all exceptions of its chain."""

    __slots__ = (
        "changed",
        "first_note",
        "frame",
        "held",
        "ids",
        "is_mixed",
        "last",
        "lines",
        "notes",
        "open_exceptions",
        "source",
        "tail_at",
    )

    def __init__(
        self, lines: Iterable[Line] = (), changed: float = 0.0, *, is_mixed: bool = False, held: int = 1
    ) -> None:
        self.lines: list[Line] = []
        #: When its last line came.
        self.changed = changed
        self.last = Kind.PREAMBLE
        #: Behind how many lines the exception begins that is not complete.
        self.tail_at = 0
        #: Its last frame, and the source text below that.
        self.frame = self.source = b""
        #: Words with digits in the messages of its exceptions.
        self.ids: set[bytes] = set()
        #: How many exceptions are not complete.
        self.open_exceptions = 0
        #: How many of the last lines are notes, as far as it is known, and the place of the first of them.
        self.notes = self.first_note = 0
        #: It is several tracebacks that could not be separated.
        self.is_mixed = is_mixed
        #: How many lines of the stream are counted when it is complete, rather than before.
        self.held = held
        for line in lines:
            self.add(line, kind_of(line.text))

    @property
    def start(self) -> int:
        """Where in the stream its first line begins."""
        return self.lines[0].start

    @property
    def text(self) -> bytes:
        """Its lines, without blank ones at the end; a stream's last line may lack its newline."""
        texts: list[bytes] = []
        for text in (line.text for line in self.lines):
            if text.rstrip() in _CHAINS:  # blank lines of something else that was printed in between
                texts = [*_without_blanks(texts), b"\n", text, b"\n"]
            elif text.strip() or texts[-1].strip():
                texts.append(text)
        return b"".join(_without_blanks(texts))

    def add(self, line: Line, kind: Kind) -> None:
        """Append a line that fits."""
        self.lines.append(line)
        if kind is Kind.FINAL and self.last is Kind.FINAL and not self.is_mixed:
            kind = Kind.OTHER
        if kind in _NEXT_EXCEPTION:
            self.open_exceptions += 1
            self.frame = self.source = b""
        elif kind is Kind.PLACE and not self.open_exceptions:
            self.open_exceptions = 1  # a `SyntaxError` without a header
        elif kind is Kind.FINAL and self.open_exceptions:
            self.open_exceptions -= 1
            self.ids |= _ids(line.text)
            self.tail_at = len(self.lines)
        elif kind is Kind.SOURCE:
            self.source = self.source or line.text
        if kind in {Kind.FRAME, Kind.PLACE}:
            self.frame, self.source = line.text, b""
        if kind is Kind.OTHER:
            self.first_note = self.first_note if self.notes else len(self.lines) - 1
            self.notes += 1
        elif kind is not Kind.BLANK:
            self.notes = 0
        if kind not in _TRANSPARENT and not (kind in {Kind.SOURCE, Kind.MARKS} and self.last is Kind.FINAL):
            self.last = kind

    def is_adjacent(self, line: Line) -> bool:
        """Return whether a line begins where the last one ends."""
        return self.lines[-1].end == line.start

    def takes(self, line: Line, kind: Kind) -> bool:
        """Return whether a line may be the next one of this block."""
        if self.is_mixed and self.open_exceptions and self.last is not Kind.CHAIN:
            return kind in _BELOW_SOURCE or kind is Kind.CHAIN
        return kind in _FOLLOWS[self.last] or (kind in _ADJACENT.get(self.last, ()) and self.is_adjacent(line))

    def drop_notes(self) -> None:
        """Take back the lines at the end that are too many for notes."""
        del self.lines[self.first_note :]
        self.notes = 0

    @property
    def tail(self) -> list[bytes]:
        """The lines of the exception that is not complete."""
        return [line.text for line in self.lines[self.tail_at :] if line.text.strip()]

    def swap_tails(self, other: Block) -> None:
        """Give the exception that is not complete to another block, and take that one's."""
        mine, theirs = self.lines[self.tail_at :], other.lines[other.tail_at :]
        self.lines[self.tail_at :], other.lines[other.tail_at :] = theirs, mine
        for name in ("last", "frame", "source", "open_exceptions", "notes"):
            first, second = getattr(self, name), getattr(other, name)
            setattr(self, name, second)
            setattr(other, name, first)

    def absorb(self, others: Iterable[Block]) -> None:
        """Become one block with others from which it cannot be distinguished."""
        for other in others:
            self.lines += other.lines
            self.open_exceptions += other.open_exceptions
            self.held += other.held
        self.lines.sort()
        self.is_mixed = True


_LEARNED = frozenset({Kind.SOURCE, Kind.FRAME, Kind.FINAL, Kind.CHAIN})


#: How little a line fits that has not followed there before.
_UNUSUAL = {Kind.SOURCE: -4, Kind.FRAME: 0, Kind.FINAL: -1, Kind.CHAIN: -1}


class _Learned:
    """What has followed frames where that was certain: their source texts, the next frames, and the exceptions."""

    def __init__(self) -> None:
        self._after: dict[bytes, set[bytes]] = {}

    def note(self, block: Block, kind: Kind, text: bytes) -> None:
        """Note a line before it is added to the block that it belongs to."""
        if kind in _LEARNED:
            if len(self._after) >= MOST_LEARNED:
                self._after.clear()
            followers = self._after.setdefault(self._key(block, kind), set())
            if len(followers) < MOST_OPEN:
                followers.add(self._what(kind, text))

    def knows(self, block: Block, kind: Kind, text: bytes) -> bool | None:
        """Return whether such a line has followed there before; None where nothing is known."""
        followers = self._after.get(self._key(block, kind))
        return None if followers is None else self._what(kind, text) in followers

    @staticmethod
    def _key(block: Block, kind: Kind) -> bytes:
        # Below the header it matters whether that is of a chain's second exception.
        before = block.frame or (b"chain" if len(block.lines) > 1 else b"")
        return b"%b\0%b" % (kind.name.encode(), before)

    @staticmethod
    def _what(kind: Kind, text: bytes) -> bytes:
        return text.partition(b":")[0].strip() if kind is Kind.FINAL else text


class Tracebacks:
    """The tracebacks of one stream that are not complete yet."""

    def __init__(self, max_lines: int, max_wait: float) -> None:
        self._max_lines, self._max_wait = max_lines, max_wait
        self.open: list[Block] = []
        self._learned = _Learned()
        #: The first words of other lines that came between those of tracebacks.
        self._foreign: set[bytes] = set()
        #: Closed before their time: they are too long, or too many.
        self._cut_short: list[Block] = []

    def take(self, line: Line, now: float, *, is_wanted: bool = False) -> bool:
        """Return whether a line belongs to a traceback, and keep it if it does; `is_wanted`: it has its own hit."""
        kind = kind_of(line.text)
        candidates = [block for block in self.open if block.takes(line, kind)]
        if kind in {Kind.OTHER, Kind.FINAL}:
            candidates = [block for block in candidates if self._may_have(block, line, is_wanted=is_wanted)]
        if kind is Kind.CHAIN:  # an exception that never led to another one is not likely to begin with that
            candidates = [block for block in candidates if self._fit(block, line, kind) >= 0]
        if not candidates:
            return self._begin(line, kind, now) or self._pass_by(line, kind, now)
        block = self._choose(candidates, line, kind)
        block.add(line, kind)
        block.changed = now
        if len(block.lines) >= self._max_lines:
            self._close(block)
        return True

    def _pass_by(self, line: Line, kind: Kind, now: float) -> bool:
        """Remember how the stream's other lines begin: such lines are no notes, now and later."""
        at = line.text.find(BEGINNINGS[0])
        if at > 0 and line.text[at:].rstrip() == BEGINNINGS[0]:
            # Somebody has written a line without its end, and what follows it is a header all the same.
            self._begin(Line(line.end - len(line.text) + at, line.text[at:], line.end), Kind.HEADER, now)
        if kind in {Kind.OTHER, Kind.FINAL} and self.open:
            word = _first_word(line.text)
            if len(self._foreign) >= MOST_LEARNED:
                self._foreign.clear()
            self._foreign.add(word)
            for block in self.open:
                if block.notes and any(_first_word(note.text) == word for note in block.lines[block.first_note :]):
                    block.drop_notes()
        return False

    def resume(self, block: Block) -> None:
        """Go on with a block that another process has begun."""
        self.open.append(block)

    def due(self, now: float) -> list[Block]:
        """Return the blocks that have waited long enough for another line, in order."""
        return self._ended([block for block in self.open if now - block.changed >= self._max_wait])

    def rest(self) -> list[Block]:
        """Return all blocks that are left: the stream has ended."""
        return self._ended(list(self.open))

    def next_due(self) -> float | None:
        """Return when `due` has something to return; None where nothing is open."""
        if self._cut_short:
            return 0.0
        return min((block.changed + self._max_wait for block in self.open), default=None)

    @property
    def held(self) -> int:
        """How many lines are counted with blocks that are not complete."""
        return sum(block.held for block in (*self.open, *self._cut_short))

    def close_oldest(self) -> None:
        """Let the oldest block be complete."""
        self._close(self.open[0])

    def _ended(self, ended: Sequence[Block]) -> list[Block]:
        self.open = [block for block in self.open if block not in ended]
        for block in ended:
            self._learned.note(block, Kind.CHAIN, b"")
        found, self._cut_short = [*self._cut_short, *ended], []
        return sorted(found, key=lambda block: block.start)

    def _begin(self, line: Line, kind: Kind, now: float) -> bool:
        if kind not in {Kind.HEADER, Kind.PREAMBLE, Kind.GROUP_HEADER, Kind.PLACE}:
            return False
        self.open.append(Block([line], now))
        if len(self.open) > MOST_OPEN:
            self.close_oldest()
        return True

    def _close(self, block: Block) -> None:
        self.open.remove(block)
        self._cut_short.append(block)

    def _may_have(self, block: Block, line: Line, *, is_wanted: bool) -> bool:
        """Return whether a line without an indentation belongs to a block that takes it.

        Behind the exception it may be a note. No line of a log is one, nor one that a rule may match by itself.
        """
        if block.last is not Kind.FINAL or block.is_mixed:
            return True
        is_foreign = _LOG_LINE.match(line.text) is not None or _first_word(line.text) in self._foreign
        if is_wanted or is_foreign or len(self.open) > 1:
            return False
        if block.notes == MOST_NOTES:
            block.drop_notes()
        return block.notes > 0 or block.is_adjacent(line)

    # Several at once

    def _choose(self, candidates: Sequence[Block], line: Line, kind: Kind) -> Block:
        """Return the block that a line belongs to; blocks that cannot be distinguished become one."""
        best = list(candidates)
        if len(best) > 1:
            fits = [self._fit(block, line, kind) for block in best]
            best = [block for block, fit in zip(best, fits, strict=True) if fit == max(fits)]
        first, *others = best
        if kind is Kind.FINAL and (owner := self._owner(first, line)) is not None:
            first.swap_tails(owner)
            return owner
        if all(_is_alike(first, other, kind) for other in others):
            self._learned.note(first, kind, line.text)
        else:
            first.absorb(others)
            self.open = [block for block in self.open if block not in others]
        return first

    def _owner(self, block: Block, line: Line) -> Block | None:
        """Return the block that an exception belongs to by its words, where its lines went to another one before.

        Both stood at the same frames, so that these could not be distinguished.
        """
        ids, tail = _ids(line.text), block.tail
        if block.is_mixed or not block.ids or block.ids & ids or not tail:
            return None
        others = (each for each in self.open if each.ids & ids and not each.is_mixed and each is not block)
        return next((each for each in others if tail[: len(each.tail)] == each.tail), None)

    def _fit(self, block: Block, line: Line, kind: Kind) -> int:
        """Return how well a line follows a block's last one: the higher, the better."""
        if block.is_mixed:
            return 0
        fit = int(block.is_adjacent(line) and kind not in {Kind.FRAME, Kind.FINAL})
        known = self._learned.knows(block, kind, line.text)
        if known is not None:
            fit += 4 if known else _UNUSUAL[kind]
        raised = _RAISE.match(block.source.strip())
        if kind is Kind.FRAME:
            fit += -2 if raised else 2 if _calls(block.source, line.text) else -bool(block.source)
        elif kind is Kind.FINAL and raised:
            fit += 1 if raised[1].islower() else 4 if raised[1] == _class(line.text) else -4
        if kind is Kind.FINAL:
            fit += 2 * bool(_ids(line.text) & block.ids)
        return fit


def _is_alike(one: Block, other: Block, kind: Kind) -> bool:
    """Return whether a line does not distinguish two blocks: what may follow it is the same for both.

    An exception's message does, unless all lines before it are the same.
    """
    if one.is_mixed or other.is_mixed:
        return False
    if kind is Kind.FINAL:
        return [line.text for line in one.lines] == [line.text for line in other.lines]
    return kind in _NEXT_EXCEPTION or (one.last, one.frame, one.source) == (
        other.last,
        other.frame,
        other.source,
    )


def _first_word(text: bytes) -> bytes:
    return text.strip().partition(b" ")[0]


def _ids(text: bytes) -> set[bytes]:
    """Return the words of an exception's line that have a digit: of an order, for example."""
    return set(_ID.findall(text))


def _class(text: bytes) -> bytes:
    """Return the name of an exception's class without its module."""
    return text.partition(b":")[0].strip().rpartition(b".")[2]


def _calls(source: bytes, frame: bytes) -> bool:
    """Return whether a source text names the function of the next frame."""
    found = _FRAME.match(frame.rstrip())
    name = (found[2] or b"").rpartition(b".")[2] if found else b""
    return bool(name) and name in _WORD.findall(source)
