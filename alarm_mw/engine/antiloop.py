"""Loop protection: lines written by alarm code are skipped, and text that keeps coming back is held back.

See also `model.origin` (records of alarm code) and `transports.own_requests` (access log lines of an action's
requests).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container

#: The prefix of lines written by uWSGI's alarm plugins, and by ours.
ALARM_MARK = b"[uwsgi-alarm"

#: How often a message may come back wrapped into a longer one before its alarm is held back.
MAX_DEPTH = 10

#: How many messages of an alarm are remembered.
MEMORY = 16


def is_marked(message: bytes) -> bool:
    """Return whether alarm code wrote this line."""
    return message.startswith(ALARM_MARK)


class LoopGuard:
    """Finds an alarm whose own output raises it again.

    Such output contains the message that was fired, with a prefix (`… - ALARM: MESSAGE`); it fires again and comes back
    longer still. The nesting depth distinguishes a loop from an application with similar messages. Messages that only
    grow at their end (`failed: a`, `failed: a, b`) are not a loop.
    """

    def __init__(self, recent: dict[str, list[tuple[bytes, int]]] | None = None) -> None:
        self._recent = {alarm: deque(seen, MEMORY) for alarm, seen in (recent or {}).items()}

    def keep_only(self, alarms: Container[str]) -> None:
        """Forget all other alarms."""
        self._recent = {alarm: seen for alarm, seen in self._recent.items() if alarm in alarms}

    def dump(self) -> dict[str, list[tuple[bytes, int]]]:
        """Return what `__init__` takes."""
        return {alarm: list(seen) for alarm, seen in self._recent.items()}

    def is_loop(self, alarm: str, message: bytes) -> bool:
        """Record that `alarm` is about to fire with `message`; return True if it must not fire."""
        text = message.strip()
        recent = self._recent.setdefault(alarm, deque(maxlen=MEMORY))
        depth = 1 + max((depth for seen, depth in recent if text.find(seen, 1) > 0), default=-1)
        if text:
            recent.append((text, min(depth, MAX_DEPTH)))
        return depth >= MAX_DEPTH
