"""The engine decides: which rules match a record, which alarms fire, and why the others do not."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

from alarm_mw.engine.antiloop import LoopGuard, is_marked
from alarm_mw.engine.echo import EchoGuard
from alarm_mw.engine.limiters import HeldBack, SameMessage
from alarm_mw.engine.rules import CompiledRule
from alarm_mw.engine.screen import Screen
from alarm_mw.errors import RuleTimeout
from alarm_mw.types import Firing, Held, Reason, Record, Rule, Verdict

#: A rule that was cut off this many times is not tried any more.
MAX_TIMEOUTS = 10


class Engine:
    """Rules in order, and what holds their alarms back. Pure: `now` comes in, values come out."""

    def __init__(  # noqa: PLR0913  # what makes an engine
        self,
        rules: Sequence[CompiledRule],
        screen: Screen,
        alarms: Collection[str],
        *,
        left_out: Collection[str] = (),
        alarm_freq: float,
        alarm_msg_size: int,
    ) -> None:
        self._rules = tuple(rules)
        #: Tells which rules may match a line.
        self.screen = screen
        self._left_out = frozenset(left_out)
        self._alarms = self._left_out.union(alarms)
        self._msg_size = alarm_msg_size
        self._same_message = SameMessage(alarm_freq)
        self._held_back = HeldBack()
        self._loops = LoopGuard()
        self._echoes = EchoGuard()
        self._timeouts = [0] * len(self._rules)

    def evaluate(
        self,
        record: Record,
        now: float,
        candidates: Sequence[int] | None = None,
        certain: Container[int] = (),
    ) -> Verdict:
        """Put a record to the rules; `now` is in seconds of a clock that never goes back.

        `candidates` are the indexes of the rules that the screen left, ascending, and `certain` those of them that
        are known to match. Without them the record is screened here.
        """
        if is_marked(record.message):
            return Verdict(skipped=Reason.ALARM_MARK)
        if candidates is None:
            candidates = self.screen.candidates(record.message)
        matched, cut_off, excluded = self._scan(record, candidates, certain)
        if not matched:
            skipped = Reason.EXCLUDED if excluded else Reason.RULE_TIMEOUT if cut_off else None
            return Verdict(skipped=skipped, cut_off=cut_off)
        decisions = [self._decide(alarm, record, now, shown(rule.pattern)) for alarm, rule in matched.items()]
        return _verdict(tuple(matched), decisions, cut_off)

    def fire(self, alarm: str, record: Record, now: float) -> Verdict:
        """Fire an alarm past the rules; what holds firings back holds for it as well."""
        if alarm not in self._alarms:
            return Verdict(skipped=Reason.UNKNOWN_ALARM)
        return _verdict((alarm,), [self._decide(alarm, record, now, "")], ())

    def is_switched_off(self, index: int) -> bool:
        """Return whether a rule is not tried any more, because its regexp was cut off too often."""
        return self._timeouts[index] >= MAX_TIMEOUTS

    def rule(self, index: int) -> Rule:
        """Return the rule at `index`."""
        return self._rules[index].rule

    def _scan(
        self, record: Record, candidates: Sequence[int], certain: Container[int]
    ) -> tuple[dict[str, Rule], tuple[int, ...], bool]:
        """Return the alarms that match with the first rule of each, the rules cut off, and whether one excluded."""
        matched: dict[str, Rule] = {}
        cut_off: list[int] = []
        lines = _lines(record.message)
        for index in candidates:
            compiled = self._rules[index]
            if not _applies(compiled.rule, record):
                continue
            if index not in certain and not self._matches(index, record.message, lines, cut_off):
                continue
            if compiled.rule.excludes:
                return matched, tuple(cut_off), True
            for alarm in compiled.rule.alarms:
                matched.setdefault(alarm, compiled.rule)
        return matched, tuple(cut_off), False

    def _matches(self, index: int, message: bytes, lines: Sequence[bytes], cut_off: list[int]) -> bool:
        if self.is_switched_off(index):
            return False
        compiled = self._rules[index]
        try:
            return any(map(compiled.search, (message,) if compiled.rule.multiline else lines))
        except RuleTimeout:
            self._timeouts[index] += 1
            cut_off.append(index)
            return False

    def _decide(self, alarm: str, record: Record, now: float, rule: str) -> Firing | Held:
        message = cut(record.message, self._msg_size)
        reason = self._why_held(alarm, record, message, now)
        if reason is not None:
            if reason is not Reason.ECHO:  # of an echo the recipient has been told
                self._held_back.add(alarm, record.time)
            return Held(alarm, reason)
        self._same_message.fired(alarm, message, now)
        count, since = self._held_back.take(alarm)
        return Firing(f"{record.key}.{alarm}", alarm, message, record, record.time, rule, count, since)

    def _why_held(self, alarm: str, record: Record, message: bytes, now: float) -> Reason | None:
        if alarm in self._left_out:
            return Reason.UNAVAILABLE
        if self._echoes.is_echo(alarm, record, now):
            return Reason.ECHO
        if self._same_message.holds(alarm, message, now):
            return Reason.SAME_MESSAGE
        if self._loops.is_loop(alarm, record.message):
            return Reason.LOOP
        return None


def _lines(message: bytes) -> tuple[bytes, ...]:
    """Return the lines with their newlines; only LF ends a line, an empty message is one empty line."""
    if message.find(b"\n", 0, -1) < 0:
        return (message,)
    lines = tuple(line + b"\n" for line in message.removesuffix(b"\n").split(b"\n"))
    return lines if message.endswith(b"\n") else (*lines[:-1], lines[-1][:-1])


def _applies(rule: Rule, record: Record) -> bool:
    if rule.level is not None and (record.level is None or record.level < rule.level):
        return False
    return rule.logger is None or record.logger == rule.logger or record.logger.startswith(rule.logger + ".")


def _verdict(matched: tuple[str, ...], decisions: Sequence[Firing | Held], cut_off: tuple[int, ...]) -> Verdict:
    firings = tuple(decision for decision in decisions if isinstance(decision, Firing))
    held = tuple(decision for decision in decisions if isinstance(decision, Held))
    return Verdict(firings, held, matched, None, cut_off)


def shown(pattern: str) -> str:
    r"""Return a regexp as text that can be stored and sent: bytes of it that are no UTF-8 become ``\xNN``."""
    if pattern.isascii():
        return pattern
    return pattern.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def cut(message: bytes, size: int) -> bytes:
    """Return the message in at most `size` bytes; one that had to be cut says how long it was."""
    if len(message) <= size:
        return message
    newline = b"\n" if message.endswith(b"\n") else b""
    note = b" [cut: %d bytes]" % len(message) + newline
    if len(note) > size:
        note = b""
    kept = message[: size - len(note)]
    # A character of several bytes is not cut in two.
    return (kept.decode("utf-8", "ignore").encode() if _is_text(message) else kept) + note


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True
