"""Puts exceptions that nobody caught to the rules: what ends a program or a thread, or is ignored by Python.

Beside the traceback that Python prints, which is lines, `install` makes a record of it: whole, with a level. Its first
line is ``Unhandled exception in WHERE: TYPE: TEXT``, the traceback stands below. The sources are

``excepthook``
    `sys.excepthook`: the exception ends the program.
``threading``
    `threading.excepthook`: the exception ends a thread.
``unraisable``
    `sys.unraisablehook`: the exception could not be raised, as in ``__del__``.
``asyncio``
    What an event loop's own exception handler logs, as for a task that nobody awaits. Where an application gives its
    loop another handler, that one decides.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, TracebackType

from alarm_mw.app import client, current_master
from alarm_mw.app.capture.console import console_lines
from alarm_mw.app.log_calls import Showing, call_of
from alarm_mw.transports.records import shown, to_bytes

log = logging.getLogger(__name__)

#: What is no failure: a person or the program wanted the end.
_WANTED = (KeyboardInterrupt, SystemExit)


def install() -> None:
    """Apply the rules to every uncaught exception, and call the hooks that were there before.

    `KeyboardInterrupt` and `SystemExit` are left alone. A second call does nothing. Forked children have the hooks too.
    Neither this nor what it installs raises or blocks.
    """
    for hook in _hooks:
        hook.install()


def uninstall() -> None:
    """Undo `install`. A hook that another one was put before stays in its place, and does nothing but call the next."""
    for hook in _hooks:
        hook.uninstall()


@dataclass(frozen=True, slots=True)
class _Unhandled:
    """An exception that nobody caught."""

    source: str
    where: str
    error: BaseException
    at: TracebackType | None
    #: The line above the traceback, where the default hook prints one.
    head: str = ""


class _Hook:
    """One of Python's hooks."""

    def __init__(self, module: ModuleType, name: str, describe: Callable[..., _Unhandled | None]) -> None:
        self._module = module
        self._name = name
        self._describe = describe
        self._link: _Link | None = None

    def install(self) -> None:
        if self._link is None:
            default = getattr(self._module, f"__{self._name}__")
            self._link = _Link(getattr(self._module, self._name), self._describe, default)
            setattr(self._module, self._name, self._link)

    def uninstall(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.is_active = False
            if getattr(self._module, self._name) is link:
                setattr(self._module, self._name, link.following)


class _Link:
    """What stands in a hook's place: reports, then calls what stood there before."""

    def __init__(
        self, following: Callable[..., object], describe: Callable[..., _Unhandled | None], default: object
    ) -> None:
        self.following = following
        self.is_active = True
        self._describe = describe
        self._prints = following is default

    def __call__(self, *args: object) -> None:
        if self.is_active:
            try:
                unhandled = self._describe(*args)
                if unhandled is not None:
                    _report(unhandled, is_printed=self._prints)
            except Exception:  # the next hook has to be called, whatever happens
                log.exception("an unhandled exception could not be evaluated")
        self.following(*args)


class _AsyncioErrors(logging.Filter):
    """Sees what event loops log of exceptions, and keeps nothing back; a handler would end `logging`'s last resort."""

    def __init__(self) -> None:
        super().__init__()
        self._logger = logging.getLogger("asyncio")

    def install(self) -> None:
        self._logger.addFilter(self)  # does nothing when it is there

    def uninstall(self) -> None:
        self._logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if record.levelno >= logging.ERROR and record.exc_info and record.exc_info[1] is not None:
                _report_logged(record, record.exc_info[1])
        except Exception:  # as above
            log.exception("an unhandled exception could not be evaluated")
        return True


def _of_program(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> _Unhandled | None:
    if issubclass(kind, _WANTED):
        return None
    return _Unhandled("excepthook", threading.current_thread().name, error, at)


def _of_thread(args: threading.ExceptHookArgs) -> _Unhandled | None:
    if issubclass(args.exc_type, _WANTED) or args.exc_value is None:
        return None
    name = f"{threading.get_ident()}" if args.thread is None else args.thread.name
    return _Unhandled("threading", f"thread {name}", args.exc_value, args.exc_traceback, f"Exception in thread {name}:")


def _of_nobody(args: sys.UnraisableHookArgs) -> _Unhandled | None:
    if issubclass(args.exc_type, _WANTED) or args.exc_value is None:
        return None
    where = shown(args.object, repr)
    head = f"{args.err_msg or 'Exception ignored in'}: {where}"
    return _Unhandled("unraisable", where, args.exc_value, args.exc_traceback, head)


def _report(unhandled: _Unhandled, *, is_printed: bool) -> None:
    lines = "".join(traceback.format_exception(type(unhandled.error), unhandled.error, unhandled.at))
    message = _headline(unhandled.where, unhandled.error) + lines
    printed = to_bytes(f"{unhandled.head}\n{lines}").splitlines() if is_printed else ()
    _submit(unhandled.source, message, unhandled.error, echoes=tuple(line for line in printed if line))


def _report_logged(record: logging.LogRecord, error: BaseException) -> None:
    with Showing(record):
        text = logging.Formatter().format(record)
    message = f"{_headline('asyncio', error)}{text}\n"
    _submit("asyncio", message, error, echoes=tuple(console_lines(record)), call=call_of(record))


def _headline(where: str, error: BaseException) -> str:
    last = traceback.format_exception_only(error)[-1].rstrip("\n")
    return f"Unhandled exception in {where}: {last}\n"


def _submit(source: str, text: str, error: BaseException, *, echoes: tuple[bytes, ...], call: str = "") -> None:
    screened = client.screened(
        source, logging.ERROR, "", str, text.removesuffix("\n"), lambda _: ("exception", "thread")
    )
    if screened is not None:
        way, message = screened
        way.submit(
            current_master.this.records.make(
                message,
                source=source,
                level=logging.ERROR,
                fields={"exception": type(error).__qualname__, "thread": threading.current_thread().name},
                echoes=echoes if way.prints_are_read() else (),
                call=call,
            )
        )


_hooks = (
    _Hook(sys, "excepthook", _of_program),
    _Hook(threading, "excepthook", _of_thread),
    _Hook(sys, "unraisablehook", _of_nobody),
    _AsyncioErrors(),
)
