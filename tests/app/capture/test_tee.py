"""The tee beside a stream, where descriptors 1 and 2 are not the way of prints."""

from __future__ import annotations

import io

from alarm_mw.app.capture.tee import Tee
from alarm_mw.transports.wire import MAX_MESSAGE


def test_a_line_without_end_is_kept_in_part() -> None:
    """A progress bar may go on for hours without a newline."""
    seen: list[bytes] = []
    tee = Tee(io.StringIO(), seen.append)
    for _ in range(3):
        tee.write("\r" + "x" * MAX_MESSAGE)
    tee.write("end\n")
    assert [len(line) for line in seen] == [MAX_MESSAGE + len("end\n")]
    assert len(tee.stream.getvalue()) == 3 * (MAX_MESSAGE + 1) + len("end\n")  # type: ignore[attr-defined]  # StringIO
