"""The limiters of flood control. Their state belongs to a `Memory`; the limits are passed with each call.

`now` is in seconds of the memory's clock, which never goes back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Container

from alarm_mw.engine.flood_control.limits import MOST, Rate

#: How many messages of an alarm are remembered for ``repeat_after``.
REPEATS = 10_000

#: The name under which `Rates` counts the firings of all alarms together.
ALL = ""


class SameMessage:
    """uWSGI's ``alarm-freq``: an alarm does not fire again with the same message within a number of seconds.

    As in uWSGI, only the last message of an alarm is compared, repeats do not extend the time, and 0 turns it off.
    """

    def __init__(self, last: dict[str, tuple[bytes, float]] | None = None) -> None:
        #: The last message of each alarm, and when it was fired.
        self.last: dict[str, tuple[bytes, float]] = {} if last is None else last

    def holds(self, alarm: str, message: bytes, freq: float, now: float) -> bool:
        """Return whether to hold this firing back."""
        return (held := self.held(alarm, freq, now)) is not None and held == message

    def held(self, alarm: str, freq: float, now: float) -> bytes | None:
        """Return the message that is currently held back."""
        last = self.last.get(alarm)
        return last[0] if last is not None and now - last[1] < freq else None

    def fired(self, alarm: str, message: bytes, now: float) -> None:
        """Record a firing."""
        self.last[alarm] = (message, now)


class Repeats:
    """``repeat_after``: no message with the same fingerprint fires for a time, whatever fired in between.

    Repeats do not extend the time. The fingerprints of the last `REPEATS` messages of each alarm are remembered.
    """

    def __init__(self, fired: dict[str, dict[bytes, float]] | None = None) -> None:
        self._fired = {alarm: OrderedDict(times) for alarm, times in (fired or {}).items()}

    def holds(self, alarm: str, fingerprint: bytes, repeat_after: float, now: float) -> bool:
        """Return whether to hold this firing back."""
        times = self._fired.get(alarm)
        time = None if times is None else times.get(fingerprint)
        return time is not None and now - time < repeat_after

    def fired(self, alarm: str, fingerprint: bytes, repeat_after: float, now: float) -> None:
        """Record a firing, and forget those that no longer hold anything back."""
        times = self._fired.setdefault(alarm, OrderedDict())
        times.pop(fingerprint, None)
        times[fingerprint] = now
        while len(times) > REPEATS or now - next(iter(times.values())) >= repeat_after:
            times.popitem(last=False)

    def keep_only(self, alarms: Container[str]) -> None:
        """Forget all other alarms."""
        self._fired = {alarm: times for alarm, times in self._fired.items() if alarm in alarms}

    def dump(self) -> dict[str, dict[bytes, float]]:
        """Return what `__init__` takes."""
        return {alarm: dict(times) for alarm, times in self._fired.items()}


class Rates:
    """``rate`` and ``alarm_rate``: the maximum number of firings per sliding interval.

    Every firing of the last interval is remembered, so the limit is exact.
    """

    def __init__(self, times: dict[str, list[float]] | None = None) -> None:
        #: The times of firings, by alarm or under `ALL`.
        self.times: dict[str, list[float]] = {} if times is None else times

    def full_until(self, name: str, rate: Rate, now: float) -> float | None:
        """Return when the next firing is allowed; None if it is allowed now."""
        times = self.times.get(name, ())
        if len(times) < rate.count:
            return None
        until = times[-rate.count] + rate.window
        return until if until > now else None

    def fired(self, name: str, now: float) -> None:
        """Record a firing."""
        times = self.times.setdefault(name, [])
        times.append(now)
        if len(times) > MOST:
            del times[0]

    def count_undelivered(self, name: str, n: int, now: float) -> None:
        """Record that the last `n` firings are sent only now."""
        if n:
            self.times.setdefault(name, [])[-n:] = [now] * min(n, MOST)


class Thresholds:
    """``count`` and ``within``: a rule fires at its Nth match within an interval, and then restarts at zero."""

    def __init__(self, times: dict[str, list[float]] | None = None) -> None:
        #: The matches of each rule since it last fired, by the rule's text.
        self.times: dict[str, list[float]] = {} if times is None else times

    def reached(self, rule: str, count: int, within: float, now: float) -> bool:
        """Record a match, and return whether it fires."""
        times = self.times.setdefault(rule, [])
        del times[: bisect_left(times, now - within)]
        times.append(now)
        if len(times) < count:
            return False
        del self.times[rule]
        return True
