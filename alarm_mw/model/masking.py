"""Masks secrets in a receiver's answer, which may echo the request or parts of it in another form."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from alarm_mw.model.interfaces import MASK
from alarm_mw.model.printable import printable

#: Parts of a secret with at least this many characters are masked too, such as a token in a path or a header.
_LONG = 6

#: How many characters of an answer an error quotes.
QUOTED = 200

#: A URL of which only the scheme is written.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{0,3}")

_BREAK = re.compile(r"[\s/?&=;,:#]+")


def secrets_in(*texts: str) -> frozenset[str]:
    """Return the texts, their longer words, and the encoded forms of both."""
    words = {word for text in texts for word in _BREAK.split(text) if len(word) >= _LONG}
    return frozenset(form for text in {*texts, *words} - {"", "/"} for form in _forms(text))


def _forms(text: str) -> Iterator[str]:
    yield text
    raw = text.encode("utf-8", "surrogateescape")
    yield quote(raw, safe="")
    yield base64.b64encode(raw).decode()


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each secret masked."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def mask_values(text: str, secrets: Iterable[str]) -> str:
    """Return a text about mistakes in a configuration with each secret value masked.

    The text is the program's own, so a value that is short, or only the scheme of a URL, is masked only where it is
    quoted: elsewhere it is a word of the text.
    """
    values = sorted(filter(None, secrets), key=len, reverse=True)
    for value in values:
        text = text.replace(repr(value), repr(MASK))
    return mask(text, (value for value in values if len(value) >= _LONG and not _SCHEME.fullmatch(value)))


def quoted(said: str, secrets: Iterable[str] = ()) -> str:
    """Return the beginning of an answer for an error text: secrets masked, and safe to show."""
    return printable(mask(said, secrets), QUOTED)
