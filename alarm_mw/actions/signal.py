"""``signal:N`` raises a signal of uWSGI's; ``signal:SIGHUP`` sends one of the operating system to the server."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Annotated, ClassVar, Self

import msgspec

from alarm_mw import signals
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.types import Firing

_HIGHEST = 255
_NUMBER = re.compile("[0-9]{1,9}")


class SignalOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `signal`."""

    for_humans: ClassVar[bool] = False
    is_of_machine: ClassVar[bool] = True
    has_texts: ClassVar[bool] = False

    signal: Annotated[
        int | str,
        msgspec.Meta(
            description="a number from 0 to 255 for the handlers of `alarm_mw.on_signal`; or the name of an operating "
            "system's signal, such as `SIGHUP`, for the server"
        ),
    ]

    def __post_init__(self) -> None:
        """Check the number, or the name."""
        if isinstance(self.signal, int) and not 0 <= self.signal <= _HIGHEST:
            raise ValueError(f"there is no signal {self.signal}: expected a number from 0 to {_HIGHEST}")
        if isinstance(self.signal, str) and self.signal not in signal.Signals.__members__:
            raise ValueError(f"expected a number from 0 to {_HIGHEST} or a name such as SIGHUP, got {self.signal!r}")


class SignalAction:
    """Raises signal N as uWSGI does: handlers run in the processes that registered for it. Or signals the server.

    In the master, the blinker signal `alarm_mw.signals.uwsgi` is sent as well. A signal is delivered when its target
    processes have accepted it. A signal that no process registered for becomes a dead letter.
    """

    Options: ClassVar[type[PluginOptions]] = SignalOptions
    concurrency: ClassVar[int] = 1
    #: Seconds after the master's start, and after the signal was last taken, for which a signal without a handler is
    #: retried: workers may be starting.
    patience: ClassVar[float] = 10.0

    def __init__(self, options: SignalOptions, context: ActionContext) -> None:
        self._signal = options.signal
        self._processes = context.processes
        self._server_pid = context.server_pid
        self._keep_until = time.monotonic() + self.patience

    @classmethod
    def from_uwsgi(cls, args: str) -> SignalOptions:
        """Return the options of ``signal:N`` and ``signal:NAME``."""
        try:
            return SignalOptions(signal=int(args) if _NUMBER.fullmatch(args) else args)
        except ValueError as error:
            raise OptionError(str(error)) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def deliver(self, firing: Firing) -> None:
        """Return when the signal was taken."""
        if isinstance(self._signal, str):
            self._signal_server(signal.Signals[self._signal])
        else:
            await self._raise(self._signal, firing)

    async def _raise(self, number: int, firing: Firing) -> None:
        was_taken = self._processes is not None and await self._processes.raise_signal(number)
        if not was_taken and not signals.uwsgi(number).receivers:
            is_early = self._processes is not None and time.monotonic() < self._keep_until
            raise ActionError(f"no process has asked for signal {number}", retry=is_early)
        self._keep_until = time.monotonic() + self.patience
        signals.send(signals.uwsgi(number), firing.alarm, number=number, firing=firing)

    def _signal_server(self, number: signal.Signals) -> None:
        pid = self._server_pid()
        if pid is None:
            raise ActionError(f"there is no server to send {number.name} to: alarm-mw run starts one", retry=False)
        try:
            os.kill(pid, number)
        except OSError as error:
            text = f"{number.name} cannot be sent to process {pid}: {error.strerror}"
            raise ActionError(text, retry=False) from error
