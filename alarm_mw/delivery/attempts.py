"""Attempts at delivery: calls an action so that nothing but `ActionError` comes of it, whatever the plugin does."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

from alarm_mw.delivery.calls import MAX_ABANDONED, AbandonedError, Calls, PluginError
from alarm_mw.model.errors import ActionError
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Firing

log = logging.getLogger(__name__)

#: Seconds for an action to open, where attempts have no time limit.
OPENING = 30.0

#: What the system has too little of for now, which is nobody's mistake.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC})


class Attempts:
    """Those of one alarm. Lives on the event loop."""

    def __init__(self, alarm: str, action: Action, limit: float) -> None:
        self._alarm = alarm
        self._action = action
        self._limit = limit or math.inf
        #: When those under way were begun, in seconds since the epoch.
        self._begun: list[float] = []
        self._calls = Calls()
        self._is_nonsense_told = False

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Keep the action open while the context lasts. Raises as `Calls.opened` does."""
        return self._calls.opened(self._action, min(self._limit, OPENING))

    @property
    def since(self) -> float | None:
        """When the oldest attempt under way was begun, in seconds since the epoch; None where there is none."""
        return min(self._begun, default=None)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        now = time.time()
        self._begun.append(now)
        try:
            yield
        finally:
            self._begun.remove(now)

    async def make(self, firing: Firing) -> None:
        """Deliver within the time limit, or raise `ActionError`."""
        try:
            with self._noted():
                result = await self._calls.call(self._action.deliver, firing, limit=self._limit)
        except PluginError as error:
            raise self._explained(error) from error.__cause__
        except TimeoutError as error:
            self._tell_abandoned()
            raise ActionError(f"not done within {self._limit:g} seconds (attempt_timeout)", retry=True) from error
        except AbandonedError as error:
            raise ActionError(f"not tried: {error}", retry=True) from error
        if result is not None:
            self._tell_nonsense(result)

    def _explained(self, error: PluginError) -> ActionError:
        """Return what the action raised, or what is to be said of an error that it should not raise."""
        cause = error.__cause__
        if isinstance(cause, ActionError):
            return cause
        if isinstance(cause, TimeoutError):
            return ActionError("the action raised TimeoutError", retry=True)
        if _is_shortage(cause):
            return ActionError(f"the action raised {error}: {cause}", retry=True)
        # A plugin's mistake harms only its own lane.
        log.error("alarm %s: the action raised what it should not", self._alarm, exc_info=cause)
        return ActionError(f"the action raised {error}", retry=False)

    def _tell_abandoned(self) -> None:
        if n := self._calls.abandoned:
            text = "alarm %s: a call goes on beyond its time limit and is abandoned (%d of at most %d)"
            log.error(text, self._alarm, n, MAX_ABANDONED)

    def _tell_nonsense(self, result: object) -> None:
        """Say once that an action returned something, as if that meant something."""
        if not self._is_nonsense_told:
            self._is_nonsense_told = True
            text = "alarm %s: the action returned %s, expected None; it counts as delivered, ActionError would not"
            log.warning(text, self._alarm, type(result).__name__)


def _is_shortage(error: BaseException | None) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES)
