"""Which lines the application's own logging prints for a record."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from alarm_mw.app.capture.console import console_lines


class Console(logging.StreamHandler[TextIO]):
    """Stands for a handler of the standard error."""

    def __init__(self, form: str) -> None:
        super().__init__(self)  # type: ignore[call-overload]  # nobody writes to it
        self.setFormatter(logging.Formatter(form))

    def fileno(self) -> int:
        return 2


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Give a logger with a parent that does not propagate."""
    parent = logging.getLogger("test-console")
    parent.propagate = False
    yield logging.getLogger("test-console.child")
    parent.handlers.clear()
    logging.getLogger("test-console.child").handlers.clear()


def record_of(name: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, "terrible\nalarm", None, None)


def test_each_handler_of_a_logger_and_its_parents_prints(logger: logging.Logger) -> None:
    """A parent that does not propagate is the last one that is asked."""
    logger.addHandler(Console("own %(message)s"))
    logger.parent.addHandler(Console("parent %(message)s"))  # type: ignore[union-attr]  # it has one
    found = console_lines(record_of(logger.name))
    assert found == [b"own terrible", b"alarm", b"parent terrible", b"alarm"]


def test_a_logger_without_handlers_prints_as_a_last_resort(logger: logging.Logger) -> None:
    """`logging` prints warnings and what is worse by itself; a logger that nobody has asked for is made."""
    made = logging.Logger.manager.loggerDict
    assert "test-console.new" not in made
    logger.parent.handlers.clear()  # type: ignore[union-attr]  # it has one
    assert len(console_lines(record_of("test-console.new"))) == 2
    assert not console_lines(record_of("test-console.new", logging.INFO))


def test_nothing_waits_for_the_lock_of_logging(logger: logging.Logger) -> None:
    """`logging` holds its lock while it makes loggers, and `dictConfig` while it makes handlers: both may take long."""
    logger.addHandler(Console("%(message)s"))
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.extend(console_lines(record_of(logger.name))), daemon=True)

    class Slow(logging.Logger):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            thread.start()
            thread.join(10)
            assert found == [b"terrible", b"alarm"]

    manager = logging.Manager(logging.RootLogger(logging.WARNING))
    manager.setLoggerClass(Slow)
    manager.getLogger("slow")
    thread.join()


def test_a_handler_without_a_stream_prints_nothing(logger: logging.Logger) -> None:
    """One that was made by halves is nobody's mistake here."""
    handler = Console.__new__(Console)
    logging.Handler.__init__(handler)
    logger.addHandler(handler)
    assert list(console_lines(record_of(logger.name))) == []


class Secretive(logging.Formatter):
    """Shows no traceback."""

    def formatException(self, ei: object) -> str:
        return "(traceback left out)"


def test_the_record_keeps_no_traceback_of_ours(logger: logging.Logger) -> None:
    """What is formatted to foretell the console's lines leaves the record as it was, for the handlers to come."""
    console = Console("%(message)s")
    console.setFormatter(Secretive())
    logger.handlers = [console]
    record = record_of(logger.name)
    record.exc_info = (KeyError, KeyError("gone"), None)
    assert console_lines(record) == [b"terrible", b"alarm", b"(traceback left out)"]
    assert record.exc_text is None
