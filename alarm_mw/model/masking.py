"""Secrets in what a receiver says: it may echo the whole request, or a part of it in another form."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from alarm_mw.model.interfaces import MASK
from alarm_mw.model.printable import printable

#: A part of a secret from so many characters on is a secret of its own: the token in a path, in a header.
_LONG = 6

#: How many characters of what a receiver says an error quotes.
QUOTED = 200

_BREAK = re.compile(r"[\s/?&=;,:#]+")


def secrets_in(*texts: str) -> frozenset[str]:
    """Return the texts, their longer words, and the forms in which both go over the wire."""
    words = {word for text in texts for word in _BREAK.split(text) if len(word) >= _LONG}
    return frozenset(form for text in {*texts, *words} - {"", "/"} for form in _forms(text))


def _forms(text: str) -> Iterator[str]:
    yield text
    raw = text.encode("utf-8", "surrogateescape")
    yield quote(raw, safe="")
    yield base64.b64encode(raw).decode()


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with stars in the place of each secret."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def quoted(said: str, secrets: Iterable[str] = ()) -> str:
    """Return the beginning of what a receiver says, for an error: with stars for secrets, and safe to show."""
    return printable(mask(said, secrets), QUOTED)
