"""A configuration in force, and what it was read from: enough to read it again, and to hand it to the next master."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from alarm_mw.config.files import fingerprint, noted
from alarm_mw.config.load import Examined, examine
from alarm_mw.config.settings import Alarm, Settings
from alarm_mw.config.snapshot import from_json, to_json
from alarm_mw.config.sources import Sources


class Loaded(msgspec.Struct, frozen=True):
    """A checked configuration with its origin."""

    settings: Settings
    #: Alarms of earlier configurations that still deliver what was fired.
    retired: tuple[Alarm, ...] = ()
    #: None where they are not known, so that it cannot be read again.
    sources: Sources | None = None
    #: Every file that was read, with its fingerprint.
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: How often it has been read again since the start.
    generation: int = 0
    #: When it was read, in seconds since the epoch.
    time: float = 0.0

    def changed_files(self) -> list[str]:
        """Return the files that are not what was read. Looks at each of them, and so may block."""
        return [file for file, seen in self.files.items() if fingerprint(file) != seen]

    def to_json(self) -> dict[str, object]:
        """Return it in the types of JSON. Holds secrets."""
        rest = msgspec.to_builtins({"sources": self.sources, "files": self.files})
        retired = to_json(Settings(alarms=self.retired))
        now = {"settings": to_json(self.settings), "retired": retired}
        return {**now, "generation": self.generation, "time": self.time, **rest}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Loaded:
        """Return what `to_json` was called on; everything but the settings may be missing."""
        return cls(
            from_json(values["settings"]),
            from_json(values["retired"]).alarms if "retired" in values else (),
            msgspec.convert(values.get("sources"), Sources | None),
            values.get("files", {}),
            values.get("generation", 0),
            values.get("time", 0.0),
        )


def read(sources: Sources, environ: Mapping[str, str], now: float, generation: int = 0) -> tuple[Examined, Loaded]:
    """Read a configuration: what is to be said about it, and, if there are no problems, what is to be in force.

    `now` is in seconds since the epoch. Reads files, and so may block.
    """
    with noted() as files:
        examined = examine(sources, environ)
    return examined, Loaded(examined.settings, (), sources, files, generation, now)
