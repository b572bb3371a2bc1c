"""The `logging` handler: add it to the logging configuration, and every record is put to the rules."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from alarm_mw import client
from alarm_mw.transports.console import console_lines
from alarm_mw.transports.origin import is_by_alarm
from alarm_mw.transports.prints import attach
from alarm_mw.transports.records import to_bytes
from alarm_mw.types import Reason

SOURCE = "logging"


class AlarmHandler(logging.Handler):
    """Gives log records to the master.

    Usable from ``dictConfig`` and ``fileConfig`` as ``alarm_mw.AlarmHandler``. The rules see what the handler's
    formatter makes of a record (by default the message, and a traceback below it), as if it had been printed. The
    keywords beside `level` are those of `alarm_mw.init`, which is called with them where there are any.

    `emit` neither blocks nor raises; it may be called from any thread, in forked children and in signal handlers.
    """

    def __init__(  # noqa: PLR0913  # the keywords of alarm_mw.init
        self,
        level: int | str = logging.NOTSET,
        *,
        config: str | Path | None = None,
        alarms: Mapping[str, str | Mapping[str, object]] | None = None,
        log_alarms: Sequence[str] = (),
        not_log_alarms: Sequence[str] = (),
        alarm_freq: float | None = None,
        alarm_msg_size: int | None = None,
        alarm_rate: str | None = None,
    ) -> None:
        super().__init__(level)
        # The bare message, and a traceback; `basicConfig` gives its own format to handlers that have none.
        self.setFormatter(logging.Formatter())
        attach()
        if config is not None or alarms or log_alarms or not_log_alarms:
            client.init(
                config,
                alarms=alarms,
                log_alarms=log_alarms,
                not_log_alarms=not_log_alarms,
                alarm_freq=alarm_freq,
                alarm_msg_size=alarm_msg_size,
                alarm_rate=alarm_rate,
            )

    def createLock(self) -> None:  # noqa: N802  # logging's name
        """Have no lock: nothing here needs one, and a forked child or a signal handler could find it held."""
        self.lock = contextlib.nullcontext()  # type: ignore[assignment]  # since 3.13 `handle` enters it

    def acquire(self) -> None:
        """Take no lock."""

    def release(self) -> None:
        """Release no lock."""

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record to the rules."""
        try:
            if is_by_alarm(record.name):
                client.skip(SOURCE, Reason.ALARM_ORIGIN)
                return
            client.submit(
                to_bytes(self.format(record)) + b"\n",
                source=SOURCE,
                level=record.levelno,
                logger=record.name,
                time=record.created,
                echoes=lambda: tuple(console_lines(record)),
            )
        except Exception:  # noqa: BLE001  # as every handler of logging: a mistake in a log call must not break the application
            self.handleError(record)
