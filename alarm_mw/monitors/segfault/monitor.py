"""``alarm-segfault = NAME``: fires when a process of the server dies of a fatal signal."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, ClassVar, Literal

import msgspec

from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.model.keyvalue import build, split
from alarm_mw.model.types import Death
from alarm_mw.monitors.segfault.crashdump import BEGINNING, Frame, Thread, parse_dump

SIGNALS = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")


class SegfaultOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `segfault`."""

    signals: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="the fatal signals that count; may include `SIGKILL`"),
    ] = SIGNALS
    out_of_memory: Annotated[
        bool, msgspec.Meta(description="fire when the kernel killed a process because memory ran out")
    ] = True
    exits: Annotated[
        Literal["none", "server", "all"],
        msgspec.Meta(description="whose nonzero exit status fires: nobody's, the server's own, or any process's"),
    ] = "server"
    threads: Annotated[
        int, msgspec.Meta(ge=1, description="maximum number of threads shown, the crashed one first")
    ] = 50
    frames: Annotated[int, msgspec.Meta(ge=1, description="maximum number of frames shown per thread")] = 50

    def __post_init__(self) -> None:
        """Check the signals' names."""
        for name in self.signals:
            if name not in signal.Signals.__members__:
                raise ValueError(f"signals: there is no signal {name!r}, expected names such as 'SIGSEGV'")


class SegfaultMonitor:
    """Fires when a process of the server dies of a fatal signal, is killed by the OOM killer, or the server fails.

    The message names the process and the cause of death, with the Python stacks of all threads.
    """

    Options: ClassVar[type[PluginOptions]] = SegfaultOptions
    #: Enables the detection of deaths in the master (`MonitorContext.deaths`).
    asks_for_deaths: ClassVar[bool] = True

    def __init__(self, options: SegfaultOptions, context: MonitorContext) -> None:
        self._options = options
        self._context = context

    @classmethod
    def from_uwsgi(cls, args: str) -> SegfaultOptions:
        """Return the options; uWSGI has none, ``key=value;…`` is taken."""
        return build(SegfaultOptions, dict(split(args)))

    async def run(self) -> None:
        """Wait for deaths."""
        with self._context.deaths(self._hear):
            await asyncio.Event().wait()

    def _hear(self, death: Death) -> None:
        if matters(death, self._options):
            text = describe(death, self._options)
            self._context.fire_once(text.encode("utf-8", "surrogateescape"), death.key)


def matters(death: Death, options: SegfaultOptions) -> bool:
    """Return whether to fire for a death."""
    if death.out_of_memory and options.out_of_memory:
        return True
    if death.returncode is not None and death.returncode > 0:
        return options.exits == "all" or (options.exits == "server" and death.is_server)
    return _signal(death) in options.signals


def describe(death: Death, options: SegfaultOptions) -> str:
    """Return the message for a death: who, how, and between uWSGI's marks the frames of all threads."""
    header = f"{_who(death)} {_how(death)}"
    if not death.dump:
        return f"{header}\n"
    pid = death.pid or "an unknown process"
    body = [f"*** backtrace of {pid} ***", *_backtrace(death.dump, options), "*** end of backtrace ***"]
    return "\n".join([header, *body, ""])


def _who(death: Death) -> str:
    what = "the server, " if death.is_server else ""
    if not death.pid:
        return "a process of the server"
    command = f" ({death.command})" if death.command else ""
    return f"{what}process {death.pid}{command}"


def _how(death: Death) -> str:
    if death.returncode is not None and death.returncode > 0:
        return f"ended with exit status {death.returncode}"
    name = _signal(death)
    if death.out_of_memory:
        return f"died of {name}: the kernel killed it because memory ran out"
    meaning = signal.strsignal(signal.Signals[name]) if name in signal.Signals.__members__ else None
    return f"died of {name}" + (f" ({meaning})" if meaning else "")


def _signal(death: Death) -> str:
    number = -(death.returncode or 0)
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _backtrace(dump: tuple[str, ...], options: SegfaultOptions) -> list[str]:
    """Return the dump's lines in `faulthandler`'s form, the crashed thread first, within the limits."""
    crash = parse_dump("\n".join(dump))
    lines = [BEGINNING.decode() + dump[0].partition(BEGINNING.decode())[2]]
    for thread in crash.threads[: options.threads]:
        lines += _thread(thread, options.frames)
    if len(crash.threads) > options.threads:
        lines.append(f"… {len(crash.threads) - options.threads} more threads")
    return lines


def _thread(thread: Thread, limit: int) -> list[str]:
    kind = "Current thread" if thread.is_current else "Thread"
    name = f" [{thread.name}]" if thread.name else ""
    more = [f"  … {len(thread.frames) - limit} more frames"] if len(thread.frames) > limit else []
    frames = [_frame(frame) for frame in thread.frames[:limit]] or ["  <no Python frame>"]
    return [f"{kind} {thread.id}{name} (most recent call first):", *frames, *more]


def _frame(frame: Frame) -> str:
    return f'  File "{frame.file}", line {frame.line or "???"} in {frame.function}'
