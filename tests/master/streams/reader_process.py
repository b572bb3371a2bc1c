"""A master that consists of a reader; every line is a hit. ``source sink state hits readable writable``: descriptors.

Each chunk's hits are one message on the socket ``hits``: they are told whole or not at all, whenever it is killed.
"""

from __future__ import annotations

import re
import socket
import sys
from typing import ClassVar

from alarm_mw.master.streams.lines import Chunk
from alarm_mw.master.streams.reader import StreamReader
from alarm_mw.master.streams.state import StreamState
from alarm_mw.model.types import Context
from alarm_mw.patterns.prefilter import Hit, Hits


class EveryLine:
    rule_set = None
    contexts: ClassVar[dict[int, Context]] = {}

    def scan(self, data: bytes, base: int = 0) -> Hits:
        return Hits(Hit(base + match.start(), match[0], (0,)) for match in re.finditer(rb"[^\n]*\n|[^\n]+", data))

    def candidates(self, message: bytes) -> tuple[int, ...]:
        return (0,)


def main() -> None:
    source, sink, state, hits, *transit = map(int, sys.argv[1:])
    channel = socket.socket(fileno=hits)

    def tell(chunk: Chunk) -> None:
        if chunk.hits:
            channel.send(b"%d " % chunk.lines + b"".join(b"%d %b" % (hit.start, hit.line) for hit in chunk.hits))

    StreamReader(
        "stdout",
        source,
        sink,
        prefilter=EveryLine(),
        hand_over=tell,
        state=StreamState.from_fd(state),
        transit=(transit[0], transit[1]),
    ).run()


if __name__ == "__main__":
    main()
