"""Limits what an XMPP server may send: stanzas of a bounded size, and only the XML of XMPP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET
from xml.parsers import expat

#: Bytes that the server may send before a stanza is complete.
MAX_STANZA = 256 * 1024


class Parser(ET.XMLPullParser):  # type: ignore[type-arg]  # it is generic for mypy only
    """Parses XML, and stops at invalid input, which `slixmpp` would log completely."""

    is_broken = False

    def read_events(self) -> Iterator[Any]:
        """Yield what was parsed; nothing after an error."""
        try:
            yield from super().read_events()
        except ET.ParseError:
            self.is_broken = True


class Guard:
    """Checks the bytes of one stream before they are parsed.

    A document type declaration, the only place for entities, is forbidden (RFC 6120, section 11.1). It can only stand
    before the first tag, which a parser of the same kind as the stream's therefore reads first, and stops at one.
    """

    def __init__(self) -> None:
        self.parser = Parser(("start", "end"))
        #: Parses up to the first tag; None after it.
        self._prolog: expat.XMLParserType | None = expat.ParserCreate()
        self._prolog.StartDoctypeDeclHandler = _refuse
        self._prolog.StartElementHandler = self._begin
        #: The number of bytes since the last stanza.
        self._unfinished = 0

    def admits(self, data: bytes) -> bool:
        """Return whether these bytes may be parsed."""
        self._unfinished += len(data)
        return self._unfinished <= MAX_STANZA and (self._prolog is None or self._is_undeclared(self._prolog, data))

    def _is_undeclared(self, prolog: expat.XMLParserType, data: bytes) -> bool:
        try:
            prolog.Parse(data)
        except expat.ExpatError:
            pass  # behind the first tag, or the stream's parser finds it as well
        except _DeclarationError:
            return False
        return True

    def _begin(self, *_: object) -> None:
        self._prolog = None

    def note_stanza(self) -> None:
        """Note that a stanza is complete."""
        self._unfinished = 0


class _DeclarationError(Exception):
    """The stream declares a document type."""


def _refuse(*_: object) -> None:
    raise _DeclarationError
