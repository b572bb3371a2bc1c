"""The files that a configuration consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.sources import UnreadableError, read_bytes


def test_directory_is_unreadable(tmp_path: Path) -> None:
    """A directory, which can be opened but not read, is reported as the system says it."""
    with pytest.raises(UnreadableError, match="Is a directory"):
        read_bytes(str(tmp_path))
