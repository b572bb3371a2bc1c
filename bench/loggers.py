"""The ways to take a log call that `handler.py` compares: each is a call without it and the same call with it."""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import os
import queue
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

#: Takes the path that is logged.
Call = Callable[[str], object]

MESSAGE = "request %s took %d ms"
LOGURU_MESSAGE = "request {} took {} ms"


class Pair(NamedTuple):
    """Two calls: what the second takes beyond the first is shown."""

    without: Call
    it: Call


def through(*handlers: logging.Handler) -> Call:
    """Return a call of a logger that has these handlers."""
    logger = logging.getLogger(f"bench.{'-'.join(type(handler).__name__ for handler in handlers)}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    return lambda path: logger.info(MESSAGE, path, 17)


def beside_null(handler: logging.Handler) -> Pair:
    """Compare a handler with `NullHandler`."""
    return Pair(through(logging.NullHandler()), through(handler))


def by_stream() -> Pair:
    """Write to nothing."""
    return beside_null(logging.StreamHandler(Path(os.devnull).open("w")))


def by_queue() -> Pair:
    """Let another thread have it."""
    records: queue.Queue[object] = queue.Queue()
    logging.handlers.QueueListener(records, logging.NullHandler()).start()
    return beside_null(logging.handlers.QueueHandler(records))


def by_ours() -> Pair:
    """Put it to the rules."""
    return beside_null(importlib.import_module("alarm_mw").AlarmHandler())


def by_loguru() -> Pair:
    """Let loguru's thread have it; the base is `NullHandler` all the same."""
    logger = importlib.import_module("loguru").logger
    logger.remove()
    logger.add(lambda _message: None, enqueue=True, format="{message}")
    return Pair(through(logging.NullHandler()), lambda path: logger.info(LOGURU_MESSAGE, path, 17))


def _sentry(*, logs: bool) -> Any:
    """Return sentry-sdk's module of handlers, with a transport that throws away what it gets."""
    sdk, transports = importlib.import_module("sentry_sdk"), importlib.import_module("sentry_sdk.transport")

    class Nowhere(transports.Transport):
        def capture_envelope(self, envelope: object) -> None:
            pass

    sdk.init("http://key@127.0.0.1:9/1", transport=Nowhere, default_integrations=False, enable_logs=logs)
    return importlib.import_module("sentry_sdk.integrations.logging")


def by_breadcrumbs() -> Pair:
    """Keep it for the next event of sentry-sdk."""
    return beside_null(_sentry(logs=False).BreadcrumbHandler())


def by_sentry_logs() -> Pair:
    """Send it to Sentry."""
    return beside_null(_sentry(logs=True).SentryLogsHandler())


def by_opentelemetry() -> Pair:
    """Export it to nowhere, in batches."""
    logs = importlib.import_module("opentelemetry.sdk._logs")
    export = importlib.import_module("opentelemetry.sdk._logs.export")

    class Nowhere(export.LogRecordExporter):
        def export(self, batch: object) -> object:  # noqa: ARG002  # theirs
            return export.LogRecordExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002  # theirs
            return True

        def shutdown(self) -> None:
            pass

    provider = logs.LoggerProvider()
    provider.add_log_record_processor(export.BatchLogRecordProcessor(Nowhere()))
    return beside_null(logs.LoggingHandler(logger_provider=provider))


def by_processor() -> Pair:
    """Put an event of structlog to the rules, before a renderer of key=value pairs; beside the same without us."""
    structlog = importlib.import_module("structlog")
    ours = importlib.import_module("alarm_mw").AlarmProcessor()

    def chain(*first: object) -> Call:
        processors = [*first, structlog.processors.KeyValueRenderer(key_order=["event"])]
        logger = structlog.wrap_logger(structlog.ReturnLogger(), processors=processors, cache_logger_on_first_use=True)
        bound = logger.bind()
        return lambda path: bound.info("request", path=path, took=17)

    return Pair(chain(), chain(ours))


class Kind(NamedTuple):
    """A way, and the package that it needs."""

    make: Callable[[], Pair]
    package: str = "logging"


KINDS = {
    "StreamHandler to /dev/null": Kind(by_stream),
    "QueueHandler + QueueListener": Kind(by_queue),
    "AlarmHandler": Kind(by_ours),
    "AlarmProcessor": Kind(by_processor),
    "loguru, enqueue=True": Kind(by_loguru, "loguru"),
    "sentry-sdk, breadcrumbs": Kind(by_breadcrumbs, "sentry_sdk"),
    "sentry-sdk, logs": Kind(by_sentry_logs, "sentry_sdk"),
    "OpenTelemetry, batches": Kind(by_opentelemetry, "opentelemetry.sdk"),
}


def is_here(package: str) -> bool:
    """Return whether a package is installed."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even its parent
        return False
