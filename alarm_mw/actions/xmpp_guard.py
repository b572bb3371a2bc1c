"""What an XMPP server may send: stanzas of a bounded size, and no XML but that of XMPP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

#: Bytes that the server may send before a stanza is complete.
MAX_STANZA = 256 * 1024


class Parser(ET.XMLPullParser):  # type: ignore[type-arg]  # it is generic for mypy only
    """Reads XML; at what is none it stops. `slixmpp` would put all of it into the log."""

    is_broken = False

    def read_events(self) -> Iterator[Any]:
        """Yield what was read; nothing more behind a mistake."""
        try:
            yield from super().read_events()
        except ET.ParseError:
            self.is_broken = True


class Guard:
    """Looks at the bytes of one stream before they are read.

    Declarations, of which bombs of entities are made, are forbidden (RFC 6120, section 11.1); they can only stand
    before the first tag.
    """

    def __init__(self) -> None:
        self.parser = Parser(("start", "end"))
        #: What has come up to the first tag.
        self._prolog = b""
        #: How many bytes have come since the last stanza.
        self._unfinished = 0

    def admits(self, data: bytes, *, has_begun: bool) -> bool:
        """Return whether these bytes may be read; `has_begun` says that the first tag was."""
        self._unfinished += len(data)
        self._prolog = b"" if has_begun else self._prolog + data
        return self._unfinished <= MAX_STANZA and not _declares(self._prolog)

    def note_stanza(self) -> None:
        """Take note that a stanza is complete."""
        self._unfinished = 0


def _declares(prolog: bytes) -> bool:
    """Return whether there is a declaration, or another encoding than XMPP's, in which one might hide."""
    return b"<!" in prolog.partition(b"<stream:stream")[0] or b"\0" in prolog
