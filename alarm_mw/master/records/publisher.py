"""Publishes what the application's processes need, and gives them notice of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from alarm_mw.model.types import Rule
from alarm_mw.patterns.record_prefilter import RecordRules
from alarm_mw.system.permissions import file_mode
from alarm_mw.transports.places import notice_path, published_path
from alarm_mw.transports.published import NOTICE_SIZE, Content, withdraw

log = logging.getLogger(__name__)


class Publisher:
    """Belongs to one master; what an earlier one of the same run has published is replaced. May block for a write."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._mode = file_mode()

    def publish_rules(self, rules: Iterable[Rule], records: RecordRules) -> bool:
        """Publish what rules require and their conditions on requests; the same as `publish`."""
        return self.publish(Content(records, tuple(rule.request for rule in rules if rule.request is not None)))

    def publish(self, content: Content) -> bool:
        """Publish it, whole or not at all, and return whether that was done; the log says why not.

        Who looks before the notice was given has the old content or the new one; who looks after it has the new one.
        """
        path = Path(published_path(self._socket_path))
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            fresh.unlink(missing_ok=True)
            with open(fresh, "xb", opener=self._open) as file:
                file.write(msgspec.msgpack.encode(content))
            fresh.replace(path)
            self._give_notice()
        except OSError as error:
            log.warning("the rules cannot be published to the server's processes: %s", error)
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            return False
        return True

    def withdraw(self) -> None:
        """Remove it, at the end."""
        withdraw(self._socket_path)

    def _give_notice(self) -> None:
        """Raise the number by one. The file is written in its place, and never shorter: processes have it mapped."""
        descriptor = self._open(notice_path(self._socket_path), os.O_RDWR | os.O_CREAT)
        try:
            number = int.from_bytes(os.pread(descriptor, NOTICE_SIZE, 0), sys.byteorder) + 1
            os.pwrite(descriptor, number.to_bytes(NOTICE_SIZE, sys.byteorder), 0)
        finally:
            os.close(descriptor)

    def _open(self, path: str, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, self._mode)
        os.fchmod(descriptor, self._mode)  # whatever the umask is
        return descriptor
