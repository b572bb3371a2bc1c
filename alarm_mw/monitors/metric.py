"""``metric-alarm = key=…,value=…,alarm=…``: waits for a metric to reach a value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.model.keyvalue import build, split_commas

#: Prefixes of the names of ledger columns.
LEDGER = ("source.", "alarm.")


class MetricOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `metric`."""

    not_of_incidents: ClassVar[Mapping[str, str]] = {
        "rate": "an incident is repeated by 'repeat_interval' in the table 'notify' of an alarm"
    }

    key: Annotated[str, msgspec.Meta(min_length=1, description="the metric's name")]
    value: Annotated[int, msgspec.Meta(description="fires when the metric reaches or exceeds this value")]
    msg: Annotated[
        str,
        msgspec.Meta(description="the message; `{value}` and `{rate}` (growth per second) are filled in"),
    ] = ""
    reset: Annotated[int | None, msgspec.Meta(description="value to which the application's metric is then set")] = None
    rate: Annotated[
        float,
        msgspec.Meta(ge=0, description="seconds after which it fires again while the value is reached; 0 means once"),
    ] = 0.0
    over: Annotated[
        str, msgspec.Meta(description="the message when the metric has come down by itself; no message if empty")
    ] = ""
    interval: Annotated[float, msgspec.Meta(ge=0.01, le=3600, description="seconds between two checks")] = 1.0

    def __post_init__(self) -> None:
        """Check that `reset` names a metric that can be set."""
        if self.reset is not None and self.key.startswith(LEDGER):
            raise ValueError(f"reset: {self.key!r} is a column of the ledger, which only grows")
        if self.reset is not None and self.reset >= self.value:
            raise ValueError("reset: expected a number below the value, or the alarm would never end")

    def knows_end(self) -> bool:
        """Return whether the metric comes down by itself."""
        return self.reset is None


class MetricMonitor:
    """Fires when a metric of the application or a column of the ledger reaches a value.

    Without `msg`, the message is the metric's name, as in uWSGI. With a `name`, this is an incident, which ends when
    the metric is below the value again.
    """

    Options: ClassVar[type[PluginOptions]] = MetricOptions

    def __init__(self, options: MetricOptions, context: MonitorContext) -> None:
        self._options = options
        self._context = context
        self._threshold = Threshold(options)

    @classmethod
    def from_uwsgi(cls, args: str) -> MetricOptions:
        """Return the options of ``key=…,value=…``, where the alarm's name has been taken out."""
        return build(MetricOptions, dict(split_commas(args)))

    async def run(self) -> None:
        """Check the metric periodically."""
        while True:
            found = self._context.metrics().get(self._options.key, 0)
            self._tell(found, (self._threshold.look(found, time.monotonic()) or "").encode("utf-8", "surrogateescape"))
            if self._threshold.is_reached and self._options.reset is not None:
                # Subtract the difference, so that concurrent counts are not lost.
                self._context.add_to_metric(self._options.key, self._options.reset - found)
                self._threshold.was_reset()
            await asyncio.sleep(self._options.interval)

    def _tell(self, value: int, text: bytes) -> None:
        if self._context.report is not None and self._options.knows_end():
            over = text or f"{self._options.key} is {value}".encode("utf-8", "surrogateescape")
            self._context.report({"": text} if self._threshold.is_reached else {}, {"": over})
        elif text:
            self._context.fire(text)


class Threshold:
    """Decides when a metric fires. Pure: value and time come in, messages come out."""

    def __init__(self, options: MetricOptions) -> None:
        self._options = options
        self._told: float | None = None
        self._before: tuple[int, float] | None = None
        #: Whether the metric had reached the value at the last check.
        self.is_reached = False

    def look(self, value: int, now: float) -> str | None:
        """Return the message that is due for `value` at `now` (seconds of a clock that never goes back), or None."""
        was_reached, self.is_reached = self.is_reached, value >= self._options.value
        rate = self._growth(value, now)
        if self.is_reached and self._is_due(now, is_new=not was_reached):
            self._told = now
            return self._filled(self._options.msg or self._options.key, value, rate)
        if was_reached and not self.is_reached and self._options.over:
            return self._filled(self._options.over, value, rate)
        return None

    def was_reset(self) -> None:
        """Record that the metric was reset, so that this does not count as recovery."""
        self.is_reached = False
        self._before = None

    def _is_due(self, now: float, *, is_new: bool) -> bool:
        if self._told is None or not self._options.rate:
            return is_new
        return now - self._told >= self._options.rate

    def _growth(self, value: int, now: float) -> float:
        before, self._before = self._before, (value, now)
        if before is None or now <= before[1]:
            return 0.0
        return (value - before[0]) / (now - before[1])

    @staticmethod
    def _filled(text: str, value: int, rate: float) -> str:
        return text.replace("{value}", str(value)).replace("{rate}", f"{rate:g}")
