"""Makes one death of all that is seen of it: a dump in the output, the words of its parent, the kernel's report.

Pure: facts come in with the time at which they were seen, deaths come out. Times are those of `time.monotonic`,
which all processes share.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from alarm_mw.model.types import Death
from alarm_mw.monitors.segfault.crashdump import is_end, signal_in

#: Signals that `faulthandler` answers with a dump.
DUMPING = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})

#: Seconds without another line after which a dump without its last line is complete.
QUIET = 0.1
#: Seconds that a dump waits for its process to end, so that its number is known.
WAIT_FOR_PID = 0.6
#: Seconds that a process which has ended waits for its dump: the pipe may be slower than the kernel.
WAIT_FOR_DUMP = 0.3
#: The longest that any death is waited for, in seconds.
WAIT_MAX = 0.8
#: Seconds for which a second report of a death is recognized.
MEMORY = 10.0
#: How far apart the death of a process and that of a parent which ends in its way may be, in seconds.
IN_TURN = 2.0
#: How many lines of a dump are kept.
MAX_LINES = 2_000
#: How many deaths are known at a time: the oldest is forgotten first.
MAX_CASES = 500


@dataclass(slots=True)
class _Case:
    """What is known of one death."""

    key: str
    seen: float
    #: Since when more of it is waited for: since it was seen, or since a new master reads on.
    waited_since: float
    pid: int = 0
    command: str = ""
    returncode: int | None = None
    is_server: bool = False
    out_of_memory: bool = False
    lines: list[str] = field(default_factory=list)
    #: Where the dump begins; the same however often it is seen.
    dump_place: str = ""
    #: The stream of the dump, while lines of it may still come.
    open_stream: str = ""
    last_line: float = 0.0
    #: The offset in the stream of the dump's last line.
    last_offset: int = -1
    is_reported: bool = False

    @property
    def number(self) -> int:
        """The signal's number, 0 where there was none."""
        if self.returncode is not None:
            return max(-self.returncode, 0)
        return getattr(signal, signal_in("\n".join(self.lines[:1])), 0) if self.lines else 0

    def due(self) -> float | None:
        """Return when this is to be reported, whatever more may come; None for never."""
        if self.is_reported or (not self.lines and self.returncode is None):
            return None
        if not self.lines:
            return self.waited_since + WAIT_FOR_DUMP
        complete = self.last_line + QUIET if self.open_stream else self.last_line
        for_pid = 0.0 if self.pid else self.waited_since + WAIT_FOR_PID
        return min(max(complete, for_pid), self.waited_since + WAIT_MAX)

    def death(self) -> Death:
        returncode = self.returncode if self.returncode is not None else -self.number
        return Death(
            self.key, self.pid, self.command, returncode, self.is_server, self.out_of_memory, tuple(self.lines)
        )


class Deaths:
    """Everything that was seen lately. `run_id` begins the keys."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._cases: list[_Case] = []

    def is_idle(self) -> bool:
        """Return whether nothing is known that is worth keeping."""
        return not self._cases

    def is_open(self, stream: str) -> bool:
        """Return whether lines of a dump may come in a stream."""
        return any(case.open_stream == stream for case in self._cases)

    def begin_dump(self, stream: str, offset: int, line: str, now: float) -> None:
        """Take a line that begins a dump in a stream; the same one seen again changes nothing."""
        place = f"{stream}.{offset}"
        if any(case.dump_place == place for case in self._cases):
            return
        self._close(stream)
        case = self._orphan(signal_in(line), now)
        if case is None:
            case = self._add(place, now)
        case.lines.append(line)
        case.dump_place = place
        case.open_stream, case.last_line, case.last_offset = stream, now, offset

    def add_line(self, stream: str, offset: int, line: str, now: float) -> None:
        """Take a line for the dump that was begun last in a stream."""
        for case in self._cases:
            if case.open_stream == stream and offset > case.last_offset:
                case.last_line, case.last_offset = now, offset
                if len(case.lines) < MAX_LINES:
                    case.lines.append(line)
                if is_end(line.encode()):
                    case.open_stream = ""

    def end(
        self,
        pid: int,
        returncode: int | None,
        now: float,
        *,
        command: str = "",
        is_server: bool = False,
        out_of_memory: bool = False,
    ) -> None:
        """Take the end of a process; `returncode` None: nobody knows how it ended, or it is about to."""
        case = self._in_turn(pid, returncode, now)
        if case is None:
            case = self._of(pid, returncode, now) or self._add(
                f"server.{pid}" if is_server else f"{pid}.{now:.3f}", now
            )
            case.pid, case.command = pid, case.command or command
            case.returncode = case.returncode if returncode is None else returncode
            case.out_of_memory |= out_of_memory
        case.is_server |= is_server

    def lacks_pid(self) -> bool:
        """Return whether a dump waits for its process to be found."""
        return any(case.lines and not case.pid and not case.is_reported for case in self._cases)

    def next_due(self) -> float | None:
        """Return when the next death is to be reported, or something to be forgotten; None for never."""
        times = (case.due() or (None if case.is_server else case.seen + MEMORY) for case in self._cases)
        return min((time for time in times if time is not None), default=None)

    def ripe(self, now: float, *, at_once: bool = False) -> list[Death]:
        """Return the deaths that are to be reported now, each once; `at_once`, all of them."""
        self._forget(now)
        ripe = [case for case in self._cases if (due := case.due()) is not None and (at_once or due <= now)]
        return [case.death() for case in ripe]

    def wait_again(self, now: float) -> None:
        """Wait from now on for what is not reported yet: while there was no master the rest lay in the pipe."""
        for case in self._cases:
            case.waited_since = now
            if case.open_stream:
                case.last_line = now

    def mark_reported(self, key: str) -> None:
        """Note that a death was reported: it is not ripe again."""
        for case in self._cases:
            if case.key == key:
                case.is_reported, case.open_stream = True, ""

    def reported_since(self, when: float) -> list[Death]:
        """Return the deaths seen since `when` that were reported."""
        return [case.death() for case in self._cases if case.is_reported and case.seen >= when]

    def _add(self, key: str, now: float) -> _Case:
        case = _Case(self._key(key), now, now)
        self._cases = [*self._cases[-MAX_CASES + 1 :], case]
        return case

    def _key(self, key: str) -> str:
        return f"{self._run_id}.death.{key}"

    def _close(self, stream: str) -> None:
        for case in self._cases:
            if case.open_stream == stream:
                case.open_stream = ""

    def _orphan(self, name: str, now: float) -> _Case | None:
        """Return the death without a dump that a dump of this signal belongs to."""
        number = getattr(signal, name, 0)
        for case in self._cases:
            is_waiting = not case.is_reported and not case.lines and case.waited_since > now - WAIT_MAX
            if is_waiting and _may_be(case.returncode, number):
                return case
        return None

    def _of(self, pid: int, returncode: int | None, now: float) -> _Case | None:
        """Return the case of a process: its own, else the first dump that nobody has claimed."""
        for case in reversed(self._cases):
            if case.pid == pid:
                return case
        for case in self._cases:
            is_unclaimed = case.lines and not case.pid and case.seen > now - MEMORY
            if is_unclaimed and (returncode is None or returncode == -case.number):
                return case
        return None

    def _in_turn(self, pid: int, returncode: int | None, now: float) -> _Case | None:
        """Return the death of a child in whose way this process has ended."""
        if returncode is None or returncode <= 0:
            return None
        for case in reversed(self._cases):
            is_recent = case.number in DUMPING and case.seen > now - IN_TURN
            if is_recent and case.pid != pid and _may_be(returncode, case.number):
                return case
        return None

    def _forget(self, now: float) -> None:
        # Every master gets the end of the server reported, however much later.
        self._cases = [case for case in self._cases if case.is_server or case.seen > now - MEMORY]


def _may_be(returncode: int | None, number: int) -> bool:
    """Return whether a process that ended so may have been killed by this signal, or have waited for one that was.

    A shell ends with 128 + N after a child that was killed by signal N, and ``sys.exit(-N)`` with 256 - N.
    """
    return returncode is None or returncode in {-number, 128 + number, 256 - number}
