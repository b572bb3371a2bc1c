"""Alarms in a test: fired by the real rules, in this process, and delivered to nobody."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TextIO, cast

from msgspec import structs

from alarm_mw import signals
from alarm_mw.app import current_master
from alarm_mw.app.capture.tee import Tee
from alarm_mw.app.local_master import LocalClient
from alarm_mw.config.load import from_keywords
from alarm_mw.config.settings import Alarm, Settings, limits_of
from alarm_mw.engine.flood_control.limits import Limits, read_duration
from alarm_mw.model.keyvalue import comma_list, did_you_mean
from alarm_mw.model.types import Firing, Reason, Record
from alarm_mw.testing.incidents import IncidentHandle, Time
from alarm_mw.testing.recorder import NoOptions, Recorder

#: Seconds in which the worker evaluates what was submitted.
PATIENCE = 10.0

#: Number of firings that are shown if an assertion fails.
SHOWN = 10


class Firings(list[Firing]):
    """Firings in their order; if there are none, its `repr` shows what happened instead."""

    def __init__(self, firings: Iterable[Firing], instead: str) -> None:
        super().__init__(firings)
        self._instead = instead

    def __repr__(self) -> str:
        return f"<{_listed(self)}>" if self else f"<{self._instead}>"


class Alarms:
    """What an application fires, as a context manager; the pytest fixture ``alarms`` is one.

    Uses the alarms and rules of `config`, a TOML or uWSGI ini file, and those of `log_alarms`, as in `alarm_mw.init`,
    with `alarms` for further names. Without any of these, it uses what the application passes to `init`. In each case
    the actions are replaced, nothing is sent, and of the monitors only `heartbeat` runs. Inside the block, `init` and
    `shutdown` have no other effect. Forked children fire nothing. Raises `ConfigError`, as `init` does.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | None = None,
        *,
        alarms: Iterable[str] = (),
        log_alarms: Sequence[str] = (),
        not_log_alarms: Sequence[str] = (),
        alarm_freq: float | None = None,
        alarm_msg_size: int | None = None,
        alarm_rate: str | None = None,
    ) -> None:
        names = [*alarms, *(name for rule in log_alarms for name in comma_list(rule.partition(" ")[0]))]
        declared = _declared(config) if names else set()
        self._undeclared = [name for name in names if name not in declared]
        self._settings = from_keywords(
            config,
            # `log` is not for humans by default, and limits for humans would not apply.
            alarms={name: {"action": "log", "limits": {"for_humans": True}} for name in self._undeclared},
            log_alarms=log_alarms,
            not_log_alarms=not_log_alarms,
            alarm_freq=alarm_freq,
            alarm_msg_size=alarm_msg_size,
            alarm_rate=alarm_rate,
        )
        self._takes_init = config is None and not names
        self._client: _Client | None = None
        self._before: current_master.Process | None = None
        self._firings: list[Firing] = []
        self._held_back: Counter[tuple[str, Reason]] = Counter()
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        signals.fired.connect(self._note)
        signals.held_back.connect(self._note_held)
        self._before = current_master.stand_in(self._configure)
        self._start(self._settings)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._before is not None
        current_master.put_back(self._before)
        if self._client is not None:
            self._client.shutdown(PATIENCE)
        signals.fired.disconnect(self._note)
        signals.held_back.disconnect(self._note_held)

    def __repr__(self) -> str:
        return "alarms"

    def fired(self, name: str | None = None, *, match: str | None = None, status: str | None = None) -> Firings:
        """Return the firings so far of the alarm `name`, or of all, whose text has a match of the regexp `match`.

        With `status`, only messages about incidents with this status: ``firing``, ``reminder``, ``escalated``,
        ``flapping`` or ``resolved``.

        Waits until the rules have been applied to everything that was logged, printed or fired before this call. Raises
        `TimeoutError` if that takes more than `PATIENCE` seconds.
        """
        self._settle()
        with self._changed:
            return self._chosen(name, match, status)

    def incident(self, rule: str, /, **key: str) -> IncidentHandle:
        """Return the incident of a rule, or of a monitor with this name, that has these values of the rule's key.

        Raises `LookupError` for a rule that has no incidents, or another key.
        """
        assert self._client is not None
        return IncidentHandle(self._client.runtime, self._settle, rule, _key_of(self._client.settings, rule, key))

    def advance(self, seconds: str | float) -> None:
        """Let time pass for the rules, in seconds or as a text such as ``"15m"``; returns at once.

        Reminders, escalations, and the ends of incidents, silences and limits come as they would, in their order. The
        clocks of the application are not changed.
        """
        assert self._client is not None
        self._settle()
        self._client.time.advance(self._client.runtime, read_duration(seconds))

    def wait_for(self, name: str | None = None, *, match: str | None = None, timeout: float = 5.0) -> Firings:
        """Wait for firings and return them as `fired` does: for what another thread or process is about to log.

        Returns an empty list after `timeout` seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._chosen(name, match), timeout)
            return self._chosen(name, match)

    def clear(self) -> None:
        """Forget what has been fired so far."""
        self._settle()
        with self._changed:
            self._firings.clear()
            self._held_back.clear()

    def summary(self) -> str:
        """Return a readable summary of what was fired and what was held back."""
        self._settle()
        with self._changed:
            return self._summary()

    @contextlib.contextmanager
    def seeing_prints(self) -> Iterator[None]:
        """Apply the rules to what is printed to `sys.stdout` and `sys.stderr` inside the block, as it is printed."""
        assert self._client is not None
        with (
            contextlib.redirect_stdout(cast("TextIO", Tee(sys.stdout, functools.partial(_see, "stdout")))),
            contextlib.redirect_stderr(cast("TextIO", Tee(sys.stderr, functools.partial(_see, "stderr")))),
        ):
            self._client.sees_prints = True
            try:
                yield
            finally:
                self._client.sees_prints = False

    def _configure(self, settings: Settings) -> None:
        """Use the settings that are passed to `init`, if no configuration was given here."""
        if self._takes_init:
            if self._client is not None:
                self._client.shutdown(PATIENCE)
            self._start(settings)

    def _start(self, settings: Settings) -> None:
        alarms = [
            Alarm(each.name, "recording", NoOptions(), limits=self._limits(each), notify=each.notify)
            for each in settings.alarms
        ]
        alarms += [Alarm(name, "recording", NoOptions()) for name in settings.left_out]
        # Those that look at something do not run.
        monitors = tuple(watch for watch in settings.monitors if watch.options.measure() is not None)
        self._client = _Client(
            structs.replace(settings, alarms=tuple(alarms), left_out=(), monitors=monitors, mules=())
        )
        current_master.this.client = self._client

    def _limits(self, alarm: Alarm) -> Limits:
        """Return the limits that the application has for an alarm; of a name without an alarm, those of uWSGI."""
        return alarm.limits if alarm.name in self._undeclared else limits_of(alarm)

    def _settle(self) -> None:
        if self._client is not None and not self._client.settle(PATIENCE):
            raise TimeoutError(f"the rules were not applied to everything that was logged within {PATIENCE} s")

    def _note(self, _alarm: str, firing: Firing) -> None:
        with self._changed:
            self._firings.append(firing)
            self._changed.notify_all()

    def _note_held(self, alarm: str, record: Record, reason: Reason) -> None:  # noqa: ARG002  # a receiver of blinker's
        with self._changed:
            self._held_back[alarm, reason] += 1

    def _chosen(self, name: str | None, match: str | None, status: str | None = None) -> Firings:
        chosen = [
            firing
            for firing in self._firings
            if name in (None, firing.alarm)
            and (match is None or re.search(match, firing.text))
            and (status is None or status == _status_of(firing))
        ]
        more = [*([f"matching {match!r}"] if match else []), *([f"with the status {status!r}"] if status else [])]
        wanted = " ".join(["no alarm" if name is None else f"no {name}", *more])
        return Firings(chosen, f"{wanted}; {self._summary()}")

    def _summary(self) -> str:
        fired = f"fired: {_listed(self._firings)}" if self._firings else "nothing was fired"
        held = [f"{alarm} ({reason}, {n} times)" for (alarm, reason), n in self._held_back.items()]
        return f"{fired}; held back: {', '.join(held)}" if held else fired


def _status_of(firing: Firing) -> str:
    """Return what a message says of its incident; empty where it is about none."""
    notice = None if firing.trigger is None else firing.trigger.incident
    return "" if notice is None else notice.status


def _key_of(settings: Settings, name: str, key: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the key in the rule's order; raise `LookupError` for a rule that has none like it."""
    found = {rule.name: rule.incident for rule in settings.incident_rules}
    options = found.get(name)
    if options is None:
        raise LookupError(f"no rule with incidents is called {name!r}{did_you_mean(name, [*found])}")
    if sorted(options.key) != sorted(key):
        has = ", ".join(options.key) if options.key else "no fields"
        raise LookupError(f"the key of the rule {name!r} has {has}, got {', '.join(key) or 'nothing'}")
    return tuple((field, key[field]) for field in options.key)


def _declared(config: str | os.PathLike[str] | None) -> set[str]:
    """Return the names of a file's alarms."""
    if config is None:
        return set()
    settings = from_keywords(config)
    return {*(alarm.name for alarm in settings.alarms), *settings.left_out}


def _listed(firings: Sequence[Firing]) -> str:
    words = [(firing.alarm, _status_of(firing), repr(firing.text)) for firing in firings[:SHOWN]]
    shown = [" ".join(filter(None, each)) for each in words]
    more = len(firings) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _see(stream: str, line: bytes) -> None:
    current_master.current().submit(current_master.this.records.make(line, source=stream))


class _Client(LocalClient):
    """A master in this process whose actions do nothing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.time = Time(time.time)
        super().__init__(settings, find_action=Recorder().find, wall=self.time)
        self.sees_prints = False

    def prints_are_read(self) -> bool:
        """Return whether a test has asked for what is printed."""
        return self.sees_prints
