"""Replaces actions, and records what they were to deliver."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Self

from alarm_mw.model.interfaces import Action, ActionContext, PluginOptions
from alarm_mw.model.types import Firing
from alarm_mw.requests import Request


class RequestRecorder:
    """A rule that keeps the facts of every request, and an `emit` that keeps the lines and their fields."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.lines: list[str] = []
        self.fields: list[Mapping[str, str]] = []

    def rule(self, request: Request) -> None:
        """Keep the facts, and report nothing."""
        self.requests.append(request)

    def emit(self, line: str, fields: Mapping[str, str]) -> None:
        """Keep an alarm's line with what stands below it, and its fields."""
        self.lines.append(line)
        self.fields.append(fields)

    @property
    def request(self) -> Request:
        """The one request that there was; raises `ValueError` for none, or several."""
        (request,) = self.requests
        return request


class NoOptions(PluginOptions, frozen=True):
    """Takes no options."""


class RecordingAction:
    """An action that hands its firings to a `Recorder`."""

    Options: ClassVar[type[PluginOptions]] = NoOptions
    concurrency: ClassVar[int] = 1
    recorder: ClassVar[Recorder]

    def __init__(self, options: PluginOptions, context: ActionContext) -> None:
        self.options = options
        self.context = context

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:  # noqa: ARG003  # an Action's
        """Accept any arguments."""
        return NoOptions()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def deliver(self, firing: Firing) -> None:
        """Deliver it to the recorder, or raise the error that `fail_with` was given."""
        self.recorder.take(firing)


class Recorder:
    """Every action of a configuration: pass `find` as its ``find_action``. Safe to use from any thread."""

    def __init__(self) -> None:
        self._firings: list[Firing] = []
        self._failures: deque[Exception] = deque()
        self._changed = threading.Condition()

    def find(self, name: str) -> type[Action]:  # noqa: ARG002  # one for all names
        """Return the class of actions that record here."""

        class BoundAction(RecordingAction):
            recorder = self

        return BoundAction

    def fail_with(self, *errors: Exception) -> None:
        """Let the next attempts raise these, one each."""
        self._failures.extend(errors)

    def take(self, firing: Firing) -> None:
        """Note a firing as delivered, or raise what the next attempt is to raise."""
        if self._failures:
            raise self._failures.popleft()
        with self._changed:
            self._firings.append(firing)
            self._changed.notify_all()

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Firing]:
        """Return the firings, in order, once there are `count`; raise `TimeoutError` after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._firings) >= count, timeout):
                raise TimeoutError(f"{len(self._firings)} of {count} firings were delivered in {timeout} s")
            return list(self._firings)

    @property
    def messages(self) -> list[bytes]:
        """What has been delivered so far, in order."""
        with self._changed:
            return [firing.message for firing in self._firings]
