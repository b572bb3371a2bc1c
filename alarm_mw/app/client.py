"""What an application calls: configure alarms, raise one, apply the rules to a record, read the prints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

from alarm_mw.app import current_master
from alarm_mw.app.middleware import request_log
from alarm_mw.model.origin import OUR_LOGGER, in_alarm_code, is_by_alarm
from alarm_mw.model.types import Reason
from alarm_mw.patterns.record_prefilter import RecordPrefilter
from alarm_mw.transports.client import SCREENED, Client
from alarm_mw.transports.records import to_bytes, to_text

log = logging.getLogger("alarm_mw")

#: Looked up once: every record asks for it.
current_log = request_log.current.get
is_in_alarm_code = in_alarm_code.get

Shown = TypeVar("Shown")


class Keywords(TypedDict, total=False):
    """The keywords of `init`, for those who hand them on."""

    config: str | Path | None
    alarms: Mapping[str, str | Mapping[str, object]] | None
    log_alarms: Sequence[str]
    not_log_alarms: Sequence[str]
    alarm_freq: float | None
    alarm_msg_size: int | None
    alarm_rate: str | None


def init(
    config: str | Path | None = None,
    *,
    alarms: Mapping[str, str | Mapping[str, object]] | None = None,
    log_alarms: Sequence[str] = (),
    not_log_alarms: Sequence[str] = (),
    alarm_freq: float | None = None,
    alarm_msg_size: int | None = None,
    alarm_rate: str | None = None,
) -> None:
    """Configure alarms for this process, and start a worker thread where there is no master.

    `config` is the path of a TOML or uWSGI ini file. `alarms` maps names to actions, as ``"plugin:options"`` or as a
    mapping like a TOML table; `log_alarms` are rules as ``"name[,name] regexp"``, and `not_log_alarms` exceptions to
    them, which are tried first. `alarm_freq` is in seconds, `alarm_msg_size` in bytes, `alarm_rate` a text such as
    ``"100/1h"``; None leaves the default or what the file says.

    Under ``alarm-mw run`` the master's own configuration counts: this one is checked and not used. A second call
    replaces the first configuration after delivering what it had; where they are the same, nothing changes. Raises
    `ConfigError` with every mistake found. May block for the time it takes to compile the rules. Call it from any
    thread, not from a signal handler.
    """
    from alarm_mw.config.load import from_keywords  # noqa: PLC0415  # the configuration's machinery loads when needed

    settings = from_keywords(
        config,
        alarms=alarms or {},
        log_alarms=log_alarms,
        not_log_alarms=not_log_alarms,
        alarm_freq=alarm_freq,
        alarm_msg_size=alarm_msg_size,
        alarm_rate=alarm_rate,
    )
    current_master.configure(settings)


def init_later(**keywords: Unpack[Keywords]) -> None:
    """Do the same as `init`, but let the first record start the worker thread.

    `dictConfig` holds the lock of `logging` while it makes a handler, and what an action loads asks for that lock.
    """
    from alarm_mw.config.load import from_keywords  # noqa: PLC0415  # see init

    current_master.configure(from_keywords(**keywords), starts=False)


def alarm(name: str, message: str | bytes) -> bool:
    """Fire the alarm `name` with `message`, past all rules, and return whether the master took it.

    Neither blocks nor raises; may be called from any thread and from signal handlers. An alarm that is not configured
    is counted by the master, and named in its log once. A `message` of another type is sent as its `str`.
    """
    try:
        data = bytes(message) if isinstance(message, (bytes, bytearray, memoryview)) else to_bytes(str(message))
        return current_master.current().submit(current_master.this.records.make(data, source="api"), to_text(name))
    except Exception:  # what the application gives us must not harm it
        log.exception("alarm() could not send its message")
        return False


def submit_line(
    line: str,
    *,
    source: str,
    level: int | None = None,
    fields: Mapping[str, str] | None = None,
    context: str = "",
    held: tuple[str, ...] = (),
) -> bool:
    """Apply the rules to a line as if it had been printed, and return whether the master took it.

    Neither blocks nor raises; may be called from anywhere. `source` names where it comes from, `level` is a number as
    in `logging`, `fields` are facts for the alarm's receiver, `context` is text that an alarm shows below the line and
    no rule looks at, `held` are the keys of the conditions on requests that hold.
    """
    below = to_bytes(context) + b"\n" if context else b""
    try:
        # Of a request it is known that some rule may apply.
        if held:
            passed: tuple[Client, bytes] | None = current_master.current(), to_bytes(line) + b"\n"
        else:
            passed = screened(source, level, "", str, line, lambda _: fields or ())
        if passed is None:
            return True
        way, message = passed
        record = current_master.this.records.make(
            message, source=source, level=level, fields=fields, context=below, held=held
        )
        return way.submit(record)
    except Exception:  # see alarm()
        log.exception("a line could not be evaluated")
        return False


def screened(  # noqa: PLR0917  # every record's call: keywords take time
    source: str,
    level: int | None,
    logger: str,
    show: Callable[[Shown], str],
    shown: Shown,
    names: Callable[[Shown], Iterable[str]],
) -> tuple[Client, bytes] | None:
    """Return the way to the master and a record's message where some rule may match it; else count it, and return None.

    The message is what `show` makes of `shown`, without a newline at its end, and `names` returns the names of its
    fields. It is not asked for where alarm code
    makes the record, nor where no rule applies to this level and logger, and the running request does not keep what is
    logged in it. Every record goes through here, and few get through: what most need not do is not done, be it a call.
    """
    # To look for a text is faster than to ask how another one begins.
    if is_in_alarm_code() or (OUR_LOGGER in logger and is_by_alarm(logger)):
        skip(source, Reason.ALARM_ORIGIN)
        return None
    way = current_master.current()
    prefilter = way.prefilter()
    kept = current_log()
    if kept is not None or prefilter is None or prefilter.takes_any or prefilter.may_concern(level, logger):
        text = show(shown)
        if kept is not None:
            kept.add(to_bytes(text))
        if prefilter is None or prefilter.may_match(text):
            return way, to_bytes(text) + b"\n"
        if prefilter.asks_more and _passes(prefilter, text, level, names(shown)):
            return way, to_bytes(text) + b"\n"
    way.count(source, SCREENED)
    return None


def _passes(prefilter: RecordPrefilter, text: str, level: int | None, names: Iterable[str]) -> bool:
    """Return whether a record without any literal passes by its fields; else remember it, if some rule wants that."""
    if prefilter.has_key(names):
        return True
    if prefilter.before:
        current_master.this.records.remember(prefilter.before, text, level)
    return False


def skip(source: str, reason: Reason) -> None:
    """Count a record that the rules must not see."""
    current_master.current().count(source, f"skipped:{reason}")


def capture_stdio() -> None:
    """Put everything that this process and its children print to the rules, and pass it on unchanged.

    Works on file descriptors 1 and 2, so that C extensions and child processes count too, and programs that ask find no
    terminal there any more. Where `sys.stdout` or `sys.stderr` leads to another descriptor, as in a notebook, what this
    process writes to it counts as well. Under ``alarm-mw run`` the master reads that output already, and nothing is
    done. Raises `NotRunningError` where `init` was not called before. Goes on when `init` is called again; undone by
    `shutdown`.
    """
    current_master.read_prints()
