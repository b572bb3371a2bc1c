"""Entries of systemd's journal: how journalctl is asked for them, and the records that they are.

See journalctl(1), "JSON" in https://systemd.io/JOURNAL_EXPORT_FORMATS, and systemd.journal-fields(7).
"""

from __future__ import annotations

import hashlib
import logging
import signal
from collections.abc import Sequence

import msgspec

from alarm_mw.model.printable import printable
from alarm_mw.model.types import Record

log = logging.getLogger(__name__)

#: The source of the records.
SOURCE = "journal"

#: Levels of `logging` by the number of a priority (syslog(3)).
LEVELS = (50, 50, 50, 40, 30, 20, 20, 10)
PRIORITIES = frozenset("01234567")

#: A field's value: a text, the bytes of one that is not UTF-8, or a list of these where it occurs several times.
Value = str | list[int | str | list[int]] | None


class Entry(msgspec.Struct, frozen=True):
    """The fields of a journal's entry that are used."""

    cursor: str = msgspec.field(name="__CURSOR", default="")
    time: str = msgspec.field(name="__REALTIME_TIMESTAMP", default="0")
    message: Value = msgspec.field(name="MESSAGE", default=None)
    priority: Value = msgspec.field(name="PRIORITY", default=None)
    unit: Value = msgspec.field(name="_SYSTEMD_UNIT", default=None)
    #: Of a message of systemd's: the unit that it is about.
    about: Value = msgspec.field(name="UNIT", default=None)
    identifier: Value = msgspec.field(name="SYSLOG_IDENTIFIER", default=None)
    pid: Value = msgspec.field(name="_PID", default=None)

    @property
    def seconds(self) -> float:
        """When it was written, in seconds since the epoch."""
        return int(self.time) / 1e6 if self.time.isdecimal() else 0.0


_decode_entry = msgspec.json.Decoder(Entry).decode


def command(program: str, units: Sequence[str], directory: str = "") -> list[str]:
    """Return the command that prints all entries of some units, of all if there are none, as `entry_of` reads them.

    `directory` is where the journal's files are; empty: the system's.
    """
    units_wanted = [f"--unit={unit}" for unit in units]
    files = [f"--directory={directory}"] if directory else []
    return [program, "--output=json", "--no-pager", "--quiet", "--all", *units_wanted, *files]


def entry_of(line: bytes) -> Entry | None:
    """Return the entry that journalctl has printed in a line; None for what is none, which is logged."""
    try:
        entry = _decode_entry(line)
    except msgspec.DecodeError as error:
        log.warning("an entry of the journal cannot be read: %s", error)
        return None
    return entry if entry.cursor else None


def _bytes(value: Value) -> bytes:
    """Return the bytes of a field; the first ones, where it occurs several times."""
    if isinstance(value, list):
        if all(isinstance(each, int) for each in value):
            return bytes(each for each in value if isinstance(each, int))
        first = value[0]
        return _bytes(first if isinstance(first, str) else [*first] if isinstance(first, list) else None)
    return (value or "").encode("utf-8", "surrogateescape")


def word(value: Value) -> str:
    """Return a field as text."""
    return _bytes(value).decode("utf-8", "replace")


def record_of(entry: Entry) -> Record:
    """Return an entry as a record, with its level and the fields that it has."""
    digest = hashlib.blake2b(entry.cursor.encode(), digest_size=12).hexdigest()
    priority, pid = word(entry.priority), word(entry.pid)
    fields = {"unit": word(entry.about or entry.unit), "identifier": word(entry.identifier), "pid": pid}
    return Record(
        _bytes(entry.message) + b"\n",
        SOURCE,
        entry.seconds,
        f"journal.{digest}",
        pid=int(pid) if pid.isdecimal() else 0,
        level=LEVELS[int(priority)] if priority in PRIORITIES else None,
        fields={name: value for name, value in fields.items() if value},
    )


def ending(returncode: int, said: bytes) -> str:
    """Return in words how journalctl has ended, and the last that it said of errors."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    why = f": {printable(lines[-1])}" if lines else ""
    if returncode < 0:
        return f"journalctl was killed by {signal.Signals(-returncode).name}{why}"
    return f"journalctl ended with status {returncode}{why}"
