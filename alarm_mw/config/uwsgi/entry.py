"""One ``key = value`` of uWSGI's configuration, from a file or from the command line."""

from __future__ import annotations

import msgspec

from alarm_mw.model.types import Where


class Entry(msgspec.Struct, frozen=True):
    """A key, its value and where it stands."""

    key: str
    value: str
    where: Where
    #: The line as it stands in the file, to find columns; empty where there is none.
    source: str = ""

    @property
    def option(self) -> str:
        """The key as the tables of options have it: ``-`` and ``_`` are the same."""
        return self.key.replace("_", "-")
