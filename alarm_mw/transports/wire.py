"""What goes over a transport: records, alarms past the rules, and the counts of what was not sent."""

from __future__ import annotations

import msgspec

from alarm_mw.types import Record

#: Ledger columns of each source, such as ``{"logging": {"lines": 3, "screened_out": 3}}``.
Counts = dict[str, dict[str, int]]

#: The largest packet that a socket takes with the kernel's usual limits, in bytes.
MAX_PACKET = 128 * 1024

#: How much of a record's message is sent at most, in bytes; the rest is cut off.
MAX_MESSAGE = 64 * 1024

#: How much of a logger's name is sent at most, in characters.
MAX_NAME = 1024


class MetricChange(msgspec.Struct, array_like=True, frozen=True):
    """What becomes of one of the application's metrics."""

    name: str
    value: int
    #: Add `value` to what is there, rather than put it in its place.
    adds: bool = True


class Packet(msgspec.Struct, array_like=True, frozen=True):
    """One message from an application process to its master."""

    record: Record | None = None
    #: Fire this alarm with the record's message, past the rules; None: put the record to the rules.
    alarm: str | None = None
    #: What was counted since the last packet and not sent.
    counts: Counts = {}
    metrics: tuple[MetricChange, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    """Return the packet as bytes."""
    return _encoder.encode(packet)


def decode(data: bytes) -> Packet | None:
    """Return the packet, or None where the bytes are none: who sent them is not one of ours."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
