"""The workers' connections, held open here so that the records in them outlive a killed master."""

from __future__ import annotations

import os
import resource

#: How many descriptors are for streams and masters, where there are not many.
_OTHERS = 64


class Connections:
    """Descriptors that a master leaves with the supervisor, each under a token, for the next master."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        #: The rest is for streams and masters. Of each process there is a connection, and the memory that it shares.
        self.limit = max(most // 2, most - _OTHERS)

    def keep(self, token: str, fd: int) -> None:
        """Take a descriptor in; beyond the limit it is closed, and its records live and die with their master."""
        self.drop(token)
        if len(self.held) < self.limit:
            self.held[token] = fd
        else:
            os.close(fd)

    def drop(self, token: str) -> None:
        """Close the descriptor of a connection that has ended."""
        fd = self.held.pop(token, None)
        if fd is not None:
            os.close(fd)
