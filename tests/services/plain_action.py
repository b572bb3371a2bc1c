"""An action without options, and with nothing to open: what is left is to deliver."""

from __future__ import annotations

from typing import ClassVar, Self

from alarm_mw.model.interfaces import PluginOptions
from alarm_mw.testing.recorder import NoOptions


class PlainAction:
    """Derive from it, and define `deliver`."""

    Options: ClassVar[type[PluginOptions]] = NoOptions
    concurrency: ClassVar[int] = 1

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        return NoOptions()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None
