"""What a request has logged: its last records, for the alarm that it may end in.

`client.screened` adds every record that is made in the context of a request; `asyncio.to_thread` and the thread pools
of frameworks take that context with them. Requests that run at the same time have logs of their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar

#: How much of one record is kept, in bytes.
MAX_RECORD = 1000

#: How much of a longer one is its beginning.
HEAD = 300

#: How much of a log is shown, in bytes: with the alarm's line and a traceback, less than the usual `alarm_msg_size`.
MAX_SHOWN = 3000


def cut_middle(data: bytes, limit: int, head: int) -> bytes:
    """Return about `limit` bytes: at most `head` of the beginning, how much is left out, and the end.

    Lines stay whole, except a first or last one that does not fit.
    """
    beginning = data[:head].rpartition(b"\n")[0] or data[:head]
    end = data[len(beginning) - limit :]
    end = end.rstrip(b"\n").partition(b"\n")[2] or end
    return b"\n".join([beginning, b"[%d bytes are left out here]" % (len(data) - len(beginning) - len(end)), end])


class RequestLog:
    """The last records of one request. May be used from any thread."""

    def __init__(self, count: int) -> None:
        """Keep at most `count` records."""
        self._records: deque[bytes] = deque(maxlen=count)

    def add(self, message: bytes) -> None:
        """Keep a record's message; of a long one its beginning and its end, where a traceback says what failed."""
        self._records.append(message if len(message) <= MAX_RECORD else cut_middle(message, MAX_RECORD, HEAD))

    def text(self) -> str:
        """Return the last records that fit into `MAX_SHOWN` bytes, as text without a newline at the end."""
        # `copy` runs without letting another thread in, which may add to it.
        return b"\n".join(reversed(list(_newest(self._records.copy())))).decode("utf-8", "backslashreplace")


def _newest(records: deque[bytes]) -> Iterator[bytes]:
    size = 0
    for record in reversed(records):
        line = record.rstrip(b"\n")
        size += len(line) + 1
        if size > MAX_SHOWN:
            return
        yield line


#: The log of the request that the running code belongs to; None outside of requests, and where none is kept.
current: ContextVar[RequestLog | None] = ContextVar("alarm_mw_request_log", default=None)
