"""The thread of an outbox's checkpointer."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from alarm_mw.delivery.outbox.checkpointer import Checkpointer
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.master.runtime.threads import start_thread

log = logging.getLogger(__name__)


class Checkpoints:
    """Made and ended by its owner; does nothing for an outbox without a file."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._checkpointer = Checkpointer(Path(outbox.path))
        self._thread: threading.Thread | None = None

    @property
    def fault(self) -> str:
        """What keeps it from its work, in a sentence; empty for nothing."""
        return self._checkpointer.fault

    def start(self) -> None:
        """Start the thread."""
        if self._outbox.has_file:
            self._thread = start_thread("checkpointer", self._checkpointer.run)
            self._outbox.on_growth = self._checkpointer.want
            self._outbox.on_replacement = self._checkpointer.renew

    def stop(self, timeout: float) -> None:
        """End the thread; where the disk holds it for longer than `timeout` seconds, it is left behind."""
        self._checkpointer.stop()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("the disk holds the outbox's checkpoint up, which is left behind")
