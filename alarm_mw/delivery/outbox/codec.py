"""Firings as bytes, for the outbox."""

from __future__ import annotations

import msgspec
from msgspec import structs

from alarm_mw.model.types import Firing

#: Stands before a firing whose record has the same message, which is then written once. No MessagePack map begins so.
SHARED = b"="

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Firing)


def encode(firing: Firing) -> bytes:
    """Return a firing as bytes."""
    if not firing.message or firing.message != firing.record.message:
        return _encoder.encode(firing)
    record = structs.replace(firing.record, message=b"")
    return SHARED + _encoder.encode(structs.replace(firing, record=record))


def decode(data: bytes) -> Firing:
    """Return the firing that `encode` was given. Raises `ValueError` or `TypeError` for anything but its result."""
    if data[:1] != SHARED:
        return _decoder.decode(data)
    firing = _decoder.decode(memoryview(data)[len(SHARED) :])
    structs.force_setattr(firing.record, "message", firing.message)  # frozen, but nobody else has seen it yet
    return firing
