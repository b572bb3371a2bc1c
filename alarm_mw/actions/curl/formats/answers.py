"""What services say of a request in the bodies of their answers: how long to wait, and what was wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import msgspec

#: Where services write for how many seconds they want to be left alone: Discord and Slack; Telegram.
_WAIT = ("retry_after", "retryAfter", "retry-after")

#: Where they write what was wrong, the clearest first.
_WORDS = ("message", "error", "description", "errorMessage", "error_description", "detail", "title", "reason")
_MORE = ("errors", "details", "parameters")

#: Maximum depth of an answer that is searched, and maximum number of sentences that are reported.
_DEPTH = 10
_SENTENCES = 5


class Complaint(msgspec.Struct, frozen=True):
    """An answer says 2xx and that the message was not taken all the same."""

    text: str
    retry: bool
    after: float | None = None


def read(body: bytes) -> object:
    """Return an answer's JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def wait(said: object) -> float | None:
    """Return the seconds that an answer's JSON asks to wait; None where it asks for none."""
    if not isinstance(said, Mapping):
        return None
    for where in (said, said.get("parameters"), said.get("error")):
        if isinstance(where, Mapping):
            for name in _WAIT:
                if (seconds := _seconds(where.get(name))) is not None:
                    return seconds
    return None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def explain(said: object) -> str:
    """Return what an answer's JSON says was wrong, in a line; empty where it says nothing known."""
    found = dict.fromkeys(sentence.strip() for sentence in _sentences(said, _DEPTH))
    return "; ".join([sentence for sentence in found if sentence][:_SENTENCES])


def _sentences(said: object, depth: int, name: str = "") -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(said, str):
        yield f"{name}: {said}" if name else said
    elif isinstance(said, list):
        for inner in said:
            yield from _sentences(inner, depth - 1, name)
    elif isinstance(said, Mapping):
        for key in _WORDS:
            if key in said:
                yield from _sentences(said[key], depth - 1, name)
        for key in _MORE:
            yield from _errors(said.get(key), depth - 1)


def _errors(errors: object, depth: int, path: str = "") -> Iterator[str]:
    """Yield what stands under ``errors``: a list of sentences, or a tree that is shaped as the request (Discord's)."""
    if depth <= 0:
        return
    if isinstance(errors, Mapping) and not any(isinstance(errors.get(key), str) for key in _WORDS):
        for key, inner in errors.items():
            yield from _errors(inner, depth if key == "_errors" else depth - 1, path if key == "_errors" else f"{key}")
    else:
        yield from _sentences(errors, depth, path)


def complaint(said: object, text: str) -> Complaint | None:
    """Return what is wrong although the status is 2xx, None where nothing is.

    `text` is the answer as it is. Slack's API says ``"ok": false``; OTLP counts what it rejects; connectors of Teams
    put the error of their endpoint into a sentence.
    """
    if text.startswith("Webhook message delivery failed"):
        return Complaint(text, retry="429" in text or "HTTP error 5" in text)
    if not isinstance(said, Mapping):
        return None
    if said.get("ok") is False:
        error = str(said.get("error") or explain(said))
        return Complaint(error, retry=error in {"ratelimited", "rate_limited", "internal_error"}, after=wait(said))
    partial = said.get("partialSuccess")
    if isinstance(partial, Mapping) and str(partial.get("rejectedLogRecords", "0")) not in {"0", ""}:
        return Complaint(f"the record was rejected: {partial.get('errorMessage', '')}".rstrip(": "), retry=False)
    return None
