"""The last lines of output, for other machines of a fleet that look for this one. Only where a configuration asks."""

from __future__ import annotations

from alarm_mw.model.printable import printable_lines

#: How many bytes at the end of a stream are kept.
KEPT = 16 * 1024


class LastLines:
    """The end of a stream. `add` belongs to its reader's thread, `last` to any."""

    def __init__(self) -> None:
        self._end = b""

    def add(self, data: memoryview) -> None:
        """Take note of the next bytes."""
        self._end = (self._end + bytes(data[-KEPT:]))[-KEPT:]

    def last(self, count: int) -> tuple[str, ...]:
        """Return the last complete lines, at most `count`, with hidden characters made visible."""
        end, size = self._end, KEPT
        lines = end[: end.rfind(b"\n") + 1].split(b"\n")[:-1]
        whole = lines[1:] if len(end) == size else lines
        return tuple(line for each in whole[-count:] for line in printable_lines(each)) if count else ()
